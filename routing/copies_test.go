package routing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"underlay-cni/routing"
)

// TestCopies: the copy of a route in another table is true in every detail that ip(8) shows.
func TestCopies(t *testing.T) {
	for _, test := range []struct{ name, route string }{
		{"connected", "ip route add 192.0.2.0/24 dev eth0 proto kernel scope link src 10.10.20.53"},
		{"to an address", "ip route add 192.0.2.1 dev eth0"},
		{"by a next hop", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0"},
		{"with a source", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 src 10.10.20.54"},
		{"with a metric", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 metric 77"},
		{"with metrics", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 mtu 1400 advmss 1300"},
		{"with a locked mtu", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 mtu lock 1400"},
		{"with a protocol", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 proto static"},
		{"by a next hop that is not on the link's network", "ip route add default via 203.0.113.1 dev eth0 onlink"},
		{"by the protocol of a daemon", "ip route add 192.0.2.0/24 via 10.10.20.1 dev eth0 proto bird"},
		{"by an IPv6 next hop", "ip route add 192.0.2.0/24 via inet6 fd20::1 dev eth0"},
		{"by two next hops", "ip route add default nexthop via 10.10.20.1 dev eth0 weight 2 nexthop via 10.10.20.2 dev eth0 weight 5"},
		{"by two next hops that are not on the link's network", "ip route add default nexthop via 203.0.113.1 dev eth0 onlink nexthop via 203.0.113.2 dev eth0 onlink"},
		{"by a next hop object", "ip nexthop add id 7 via 10.10.20.1 dev eth0; ip route add 192.0.2.0/24 nhid 7"},
		{"by a group of next hop objects", "ip nexthop add id 7 via 10.10.20.1 dev eth0; ip nexthop add id 8 via 10.10.20.2 dev eth0; ip nexthop add id 9 group 7,3/8; ip route add default nhid 9"},
		{"IPv6 by a next hop object", "ip -6 nexthop add id 7 via fd20::1 dev eth0; ip -6 route add 2001:db8::/64 nhid 7"},
		{"IPv6 connected", "ip -6 route add 2001:db8::/64 dev eth0 proto kernel"},
		{"IPv6 to an address", "ip -6 route add 2001:db8::1 dev eth0"},
		{"IPv6 by a next hop", "ip -6 route add 2001:db8::/64 via fd20::1 dev eth0"},
		{"IPv6 by a link-local next hop", "ip -6 route add default via fe80::1 dev eth0"},
		{"IPv6 with a source", "ip -6 route add 2001:db8::/64 via fd20::1 dev eth0 src fd20::54"},
		{"IPv6 with a metric", "ip -6 route add 2001:db8::/64 via fd20::1 dev eth0 metric 77"},
		{"IPv6 with metrics", "ip -6 route add 2001:db8::/64 via fd20::1 dev eth0 mtu 1400 advmss 1300"},
		{"IPv6 from a router advertisement", "ip -6 route add default via fe80::1 dev eth0 proto ra metric 1024"},
		// The kernel takes the route away when the router has been silent for so long, and puts it back; nobody would
		// put back the copy, which therefore stays.
		{"IPv6 that expires", "ip -6 route add default via fe80::1 dev eth0 proto ra expires 1000"},
		{"IPv6 by two next hops", "ip -6 route add default nexthop via fd20::1 dev eth0 weight 2 nexthop via fd20::2 dev eth0"},
		{"IPv6 by two next hops, added one after the other", "ip -6 route add default via fd20::1 dev eth0; ip -6 route append default via fd20::2 dev eth0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			command := strings.Join(strings.Fields(test.route)[:2], " ")
			if command != "ip -6" {
				command = "ip -4"
			}
			prepare := func() *world {
				return newWorld(t, pair+"pod ip addr add 10.10.20.54/24 dev eth0; pod ip addr add fd20::54/64 dev eth0 nodad; pod sh -ec '"+test.route+"'")
			}
			table := func(w *world, name string) []string {
				t.Helper()
				// As the table that is shown is named, or not, the kernel's fields are in another place.
				out := w.sh(t, "pod "+command+" -d route show table "+name+` | sed 's/ table 512//; s/ expires [0-9]*sec//; s/ linkdown//; s/ nhid [0-9]*//; /nh_info/d'`)
				var lines []string
				for line := range strings.Lines(out) {
					lines = append(lines, strings.TrimSpace(line))
				}
				slices.Sort(lines)
				return lines
			}
			w := prepare()
			routes, err := w.pod.Routes(w.pod.Link("eth0"))
			must(t, err)
			v6 := command == "ip -6"
			var copies []*routing.Route
			for _, r := range routes {
				if r.Dst.Addr().Is6() == v6 {
					copies = append(copies, r.In(w.pod.Table(512)))
				}
			}
			for range 2 {
				for _, c := range copies {
					must(t, c.Apply())
					must(t, c.Verify())
				}
				if d := cmp.Diff(table(w, "main"), table(w, "512")); d != "" {
					t.Errorf("(-table main +table 512)\n%s", d)
				}
			}

			byHand := prepare()
			for _, c := range copies {
				byHand.sh(t, strings.ReplaceAll(c.String(), w.pod.Path, "$POD"))
			}
			if d := cmp.Diff(table(w, "512"), table(byHand, "512")); d != "" {
				t.Errorf("by the lines (-Apply +sh)\n%s", d)
			}

			for range 2 {
				for _, c := range copies {
					must(t, c.Revert())
				}
			}
			if left := table(w, "512"); len(left) > 0 {
				t.Errorf("after Revert: %q", left)
			}
			if len(copies) != 2 && !strings.Contains(test.name, "one after") {
				t.Errorf("%d routes", len(copies))
			}
		})
	}
}

// TestRoutes: of all tables, those that leave by the interface, but for what the kernel makes by itself.
func TestRoutes(t *testing.T) {
	w := newWorld(t, pair+`pod sh -ec '
		ip route add default via 10.10.20.1 dev eth0
		ip -6 route add default via fd20::1 dev eth0 proto ra
		ip route add 203.0.113.0/24 via inet6 fd20::1 dev eth0
		ip route add 192.0.2.0/24 dev eth0 table 77
		ip route add 192.0.2.0/24 dev veth0
		ip -6 route add 2001:db8::/32 dev veth0
		ip route add blackhole 198.51.100.0/24
		ip route add broadcast 10.10.20.255 dev eth0 table 77
		ip -6 addr add fe80::1/64 dev eth0
		ip route add default table 78 nexthop via 10.10.20.1 dev eth0 nexthop dev veth0'`)
	routes, err := w.pod.Routes(w.pod.Link("eth0"))
	must(t, err)
	var got []string
	for _, r := range routes {
		_, line, _ := strings.Cut(r.String(), " replace ")
		var says []string
		for word, is := range map[string]bool{"default": r.IsDefault(), "gateway": r.HasGateway(), "learned": r.Learned(), "main": r.InMain(), "77": r.InTable(77)} {
			if is {
				says = append(says, word)
			}
		}
		slices.Sort(says)
		got = append(got, line+": "+strings.Join(says, " "))
	}
	slices.Sort(got)
	want := []string{
		"10.10.20.0/24 dev eth0 scope link src 10.10.20.53 proto kernel: main",
		"192.0.2.0/24 dev eth0 scope link table 77: 77",
		"203.0.113.0/24 via inet6 fd20::1 dev eth0: gateway main",
		"default via 10.10.20.1 dev eth0: default gateway main",
		"default via fd20::1 dev eth0 metric 1024 proto ra: default gateway learned main",
		"fd20::/64 dev eth0 metric 256 proto kernel: main",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestDefaultReplaced: the pod's default route takes the place of the one by the wire, and Revert of both brings that
// back with all that it had.
func TestDefaultReplaced(t *testing.T) {
	for _, f := range families {
		for _, wire := range []string{
			"default via GW dev eth0",
			"default via GW dev eth0 proto static mtu 1400",
			"default nexthop via GW dev eth0 weight 1 nexthop via GX dev eth0 weight 3",
		} {
			t.Run(f.name+" "+wire, func(t *testing.T) {
				t.Parallel()
				byWire := strings.NewReplacer("GW", f.gw.String(), "GX", f.gw2.String()).Replace(wire)
				w := newWorld(t, pair+"pod "+f.ip+" route add "+f.node.String()+" dev veth0; pod "+f.ip+" route add "+byWire)
				before := w.show(t, false)
				eth0, veth0 := w.pod.Link("eth0"), w.pod.Link("veth0")
				routes, err := w.pod.Routes(eth0)
				must(t, err)
				i := slices.IndexFunc(routes, func(r *routing.Route) bool { return r.IsDefault() })
				metric := map[bool]int{true: 512}[f.v6]
				both := []change{
					&routing.Route{Table: w.pod.Table(routing.MainTable), Dst: f.all, Via: f.node, Dev: veth0, Metric: metric},
					&routing.NoRoute{Route: routes[i]},
				}
				for range 2 {
					for _, c := range both {
						must(t, c.Apply())
						must(t, c.Verify())
					}
				}
				if out := w.sh(t, "pod "+f.ip+" route show default"); !strings.HasPrefix(out, "default via "+f.node.String()+" dev veth0") || strings.Count(out, "\n") != 1 {
					t.Errorf("default routes:\n%s", out)
				}
				for range 2 {
					must(t, both[1].Revert())
					must(t, both[0].Revert())
				}
				same(t, "after Revert", before, w.show(t, false))
			})
		}
	}
}

// TestPartOfARoute: two IPv6 routes with the same metric are one to the kernel, which lists the protocol of the first. The part of the
// second one's interface goes, whatever its protocol, and comes back.
func TestPartOfARoute(t *testing.T) {
	t.Parallel()
	f := families[1]
	const dst = "2001:db8:9::/64"
	w := newWorld(t, fmt.Sprintf("%spod ip -6 route add %[2]s dev veth0; pod ip -6 route add %[3]s via %[2]s proto static; pod ip -6 route append %[3]s via %[4]s", pair, f.node, dst, f.gw))
	before := w.show(t, false)
	routes, err := w.pod.Routes(w.pod.Link("eth0"))
	must(t, err)
	i := slices.IndexFunc(routes, func(r *routing.Route) bool { return r.Dst.String() == dst })
	part := &routing.NoRoute{Route: routes[i]}
	for range 2 {
		must(t, part.Apply())
		must(t, part.Verify())
	}
	if out := w.sh(t, "pod ip -6 route show "+dst); !strings.Contains(out, "via "+f.node.String()+" dev veth0 proto static") || strings.Contains(out, "nexthop") {
		t.Errorf("got %s", out)
	}
	must(t, part.Revert())
	same(t, "after Revert", before, w.show(t, false))
}
