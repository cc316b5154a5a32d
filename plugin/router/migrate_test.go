package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// TestMigrateRoute: what the pod's main table and eth0's own have, for each value, with defaults of each kind.
func TestMigrateRoute(t *testing.T) {
	const (
		rule4, rule6   = "1024: from 10.244.1.5 lookup 200", "1024: from fd00:10:244:1::5 lookup 200"
		moved4, moved6 = "default via 10.244.1.1 dev eth0 table 200", "default via fd00:10:244:1::1 dev eth0 table 200 metric 1024 pref medium"
		eth4, eth6     = "default via 10.244.1.1 dev eth0", "default via fd00:10:244:1::1 dev eth0 metric 1024 pref medium"
		new4, new6     = "default via 10.10.30.1 dev net1", "default via fd30::1 dev net1 metric 1024 pref medium"
		own4, own6     = "default via 10.10.30.1 dev net1 metric 50", "default via fd30::1 dev net1 metric 50 pref medium"
		owns           = "pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50"
	)
	for _, test := range []struct {
		name    string
		mode    int
		overlay Stack
		script  string // after eth0 and net1 have been made
		noGW    bool   // the IPAM plugin names no gateway
		want    string // all default routes of the table and of main, and the rules
	}{
		{"-1, net1's default known by its gateway only", -1, Dual, "", false, lines(moved4, new4, moved6, new6, rule4, rule6)},
		{"1, the same", 1, Dual, "", false, lines(moved4, new4, moved6, new6, rule4, rule6)},
		{"0, the same", 0, Dual, "", false, lines(eth4, eth6)},
		{"-1, net1 has defaults of its own", -1, Dual, owns, false, lines(moved4, own4, moved6, own6, rule4, rule6)},
		{"0, net1 has defaults of its own", 0, Dual, owns, false, lines(eth4, own4, own6, eth6)},
		{"-1, net1 brings no default", -1, Dual, "", true, lines(moved4, eth4, moved6, eth6, rule4, rule6)},
		{"1, net1 brings no default", 1, Dual, "", true, lines(moved4, eth4, moved6, eth6, rule4, rule6)},
		{
			"-1, net1 brings a default in IPv6 only", -1, Dual, "pod ip -6 route add default via fd30::1 dev net1 metric 50", true,
			lines(moved4, eth4, moved6, own6, rule4, rule6),
		},
		{"-1, eth0 has no default", -1, Dual, "pod ip route del default; pod ip -6 route del default", false, lines(new4, new6, rule4, rule6)},
		{
			"-1, ECMP of eth0", -1, Dual,
			`pod ip route replace default nexthop via 10.244.1.1 dev eth0 nexthop via 10.244.1.1 dev eth0 weight 2
			pod ip -6 route add fd00:10:244:1::2 dev eth0; pod ip -6 route append default via fd00:10:244:1::2 dev eth0`, false,
			lines("default table 200 nexthop via 10.244.1.1 dev eth0 weight 1 nexthop via 10.244.1.1 dev eth0 weight 2", new4,
				"default table 200 metric 1024 pref medium nexthop via fd00:10:244:1::1 dev eth0 weight 1 nexthop via fd00:10:244:1::2 dev eth0 weight 1", new6, rule4, rule6),
		},
		{
			"-1, eth0's by router advertisement", -1, Dual, "pod ip -6 route del default; pod ip -6 route add default via fe80::1 dev eth0 proto ra metric 1024", false,
			lines(moved4, new4, "default via fe80::1 dev eth0 table 200 proto ra metric 1024 pref medium", new6, rule4, rule6),
		},
		{
			"-1, net1's by router advertisement", -1, Dual, "pod ip -6 route add default via fe80::1 dev net1 proto ra metric 1023", true,
			lines(moved4, eth4, moved6, "default via fe80::1 dev net1 proto ra metric 1023 pref medium", rule4, rule6),
		},
		{
			"-1, eth0's are static", -1, Dual, "pod ip route replace default via 10.244.1.1 dev eth0 proto static; pod ip -6 route replace default via fd00:10:244:1::1 dev eth0 proto static", false,
			lines("default via 10.244.1.1 dev eth0 table 200 proto static", new4, "default via fd00:10:244:1::1 dev eth0 table 200 proto static metric 1024 pref medium", new6, rule4, rule6),
		},
		{
			"-1, net1's gateways are not on its link", -1, Dual, `pod ip addr del 10.10.30.53/24 dev net1; pod ip addr del fd30::53/64 dev net1
			pod ip addr add 10.10.30.53/32 dev net1; pod ip addr add fd30::53/128 dev net1 nodad`, false, lines(moved4, eth4, moved6, eth6, rule4, rule6),
		},
		{"-1, eth0 has IPv4 only", -1, Only4, "", false, lines(moved4, new4, new6, rule4)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := Net1(Dual)
			w := ptpOf(test.overlay).New(t, Dual, n.Make()+test.script)
			before := w.Show(t)
			pairs := []any{"migrate_route", test.mode}
			if test.noGW {
				prev := n.PrevResult(w.Pod, "1.0.0")
				prev["ips"] = []any{map[string]any{"address": "10.10.30.53/24"}, map[string]any{"address": "fd30::53/64"}}
				pairs = append(pairs, "prevResult", prev)
			}
			for range 2 { // the second finds what the first has moved
				w.Add(t, n, pairs...)
				Same(t, "default routes and rules", strings.Split(strings.ReplaceAll(test.want, " table 200", ""), "\n"), w.DefaultsAndRules(t))
				w.Check(t, n, pairs...)
			}
			for dst, flag := range map[string]string{"172.96.0.10": "", "10.244.9.9": "", "2001:4860:fd00::a": "-6", "fd00:10:244:9::9": "-6"} {
				if out := w.Sh(t, "pod ip "+flag+" route get "+dst); !strings.Contains(out, "dev eth0 ") {
					t.Errorf("a hijacked one leaves by another: %s", out)
				}
			}
			w.Del(t, n, pairs...)
			w.Sh(t, "pod ip link del net1")
			var rest []string
			for _, line := range before {
				if !strings.Contains(line, "net1") && !strings.Contains(line, "enp30@") && !strings.Contains(line, "fd30::53 ") && !strings.Contains(line, "local 10.10.30.53 ") {
					rest = append(rest, line)
				}
			}
			left := slices.DeleteFunc(w.Show(t), func(line string) bool { return strings.Contains(line, "enp30@") })
			Same(t, "after DEL", ptp.Lasting(rest), ptp.Lasting(left))
		})
	}
}

func lines(all ...string) string { return strings.Join(all, "\n") }

// TestMigrateByName: with -1 the overlay's interface keeps main from one whose name comes before it, which gets a table of
// its own; also where the interface plugin has put its default route before the overlay's. 1 gives it main.
func TestMigrateByName(t *testing.T) {
	n := NewNIC("a1", 30, Dual)
	const inFront = "pod ip route prepend default via 10.10.30.1 dev a1; pod ip -6 route add default via fd30::1 dev a1 metric 50"
	for _, test := range []struct {
		name, script string
		mode         int
		main, moved  string
	}{
		{"-1", "", -1, "eth0", "a1"},
		{"-1, in front", inFront, -1, "eth0", "a1"},
		{"1", "", 1, "a1", "eth0"},
		{"1, in front", inFront, 1, "a1", "eth0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := ptp.New(t, Dual, test.script, n)
			for range 2 {
				w.Add(t, n, "migrate_route", test.mode)
				w.Check(t, n, "migrate_route", test.mode)
			}
			for table, dev := range map[string]string{"main": test.main, "200": test.moved} {
				out := w.Sh(t, fmt.Sprintf("pod ip route show default table %s; pod ip -6 route show default table %[1]s", table))
				if strings.Count(out, "default") != 2 || strings.Count(out, "dev "+dev+" ") != 2 {
					t.Errorf("%s is to be %s's:\n%s", table, dev, out)
				}
			}
			w.Del(t, n)
			w.Sh(t, "pod ip link del a1")
			if out := w.Sh(t, "pod ip rule; pod ip route show default; pod ip -6 route show default"); strings.Contains(out, "1024:") || strings.Count(out, "dev eth0") != 2 {
				t.Error(out)
			}
		})
	}
}

// TestOverlayInterface: the overlay's interface has another name, in all that is done.
func TestOverlayInterface(t *testing.T) {
	n := Net1(Dual)
	w := ptp.New(t, Dual, "pod ip link set eth0 down; pod ip link set eth0 name calico-eth up")
	// What goes with an interface that is down.
	w.Sh(t, strings.ReplaceAll("pod ip addr add fd00:10:244:1::5/64 dev eth0 nodad noprefixroute;"+strings.ReplaceAll("pod ip route add 10.244.1.1 dev eth0 scope link src 10.244.1.5; pod ip route add default via 10.244.1.1 dev eth0; pod ip -6 route add fd00:10:244:1::1 dev eth0; pod ip -6 route add default via fd00:10:244:1::1 dev eth0;", "PEER", "vethptp0"), "eth0", "calico-eth")+n.Make())
	w.Add(t, n, "overlay_interface", "calico-eth")
	w.Check(t, n, "overlay_interface", "calico-eth")
	out := view(t, w) + w.Sh(t, "pod nft list ruleset")
	if strings.Contains(out, "eth0") || strings.Count(out, "calico-eth") < 20 || !strings.Contains(out, "table 200") {
		t.Error(out)
	}
}

// TestHostRoute: without host_route the node gets nothing, and the pod goes to the node as the overlay does: by its next
// hop.
func TestHostRoute(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			w := calico.New(t, s, "")
			node := w.Sh(t, "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; ip neigh show nud permanent; ip link")
			before := w.Show(t)
			for _, n := range []*NIC{Net1(s), Net2(s)} {
				w.Sh(t, n.Make())
				for range 2 {
					w.Add(t, n, "host_route", false)
					w.Check(t, n, "host_route", false)
				}
			}
			if got := w.Sh(t, "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; ip neigh show nud permanent; ip link"); got != node {
				t.Errorf("the node:\n%s\nwas\n%s", got, node)
			}
			if out := w.Sh(t, "pod ip neigh show nud permanent"); out != "" {
				t.Error(out)
			}
			for family, dsts := range map[string][]string{"": {"10.10.20.152", "172.96.0.10"}, "-6": {"fd20::152", "2001:4860:fd00::a"}} {
				for _, dst := range dsts {
					if has := map[string]bool{"": s.V4, "-6": s.V6}[family]; !has {
						continue
					}
					out := w.Sh(t, fmt.Sprintf("pod ip %s route get %s; pod ip %[1]s route get %[2]s mark 0x1000", family, dst))
					if strings.Count(out, "via 169.254.1.1 dev eth0")+strings.Count(out, "via fe80::ecee:eeff:feee:eeee dev eth0") != 2 {
						t.Error(out)
					}
				}
			}
			for _, n := range []*NIC{Net2(s), Net1(s)} {
				w.Del(t, n, "host_route", false)
				w.Sh(t, "pod ip link del "+n.Name)
			}
			Same(t, "at the end", ptp.Lasting(before), ptp.Lasting(w.Show(t)))
		})
	}
}

// TestAgainBelow: net1 goes and comes back, with another address, while net2 has main: it gets a table of its own at once,
// and its result has no default route. The end of net2 then gives main to it.
func TestAgainBelow(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			first, later := Net1(s), Net2(s)
			w := calico.New(t, s, "", first, later)
			w.Add(t, first)
			w.Add(t, later)
			w.Del(t, first)
			w.Sh(t, "pod ip link del net1")
			again := Net1(s)
			again.Addr4, again.Addr6 = "10.10.30.77", "fd30::77"
			w.Sh(t, again.Make())
			for range 2 {
				if out := w.Add(t, again); strings.Contains(out, "0.0.0.0/0") || strings.Contains(out, "::/0") {
					t.Error(out)
				}
				w.Check(t, again)
				w.Check(t, later)
			}
			show := "pod ip route show default; pod ip -6 route show default; pod ip rule; pod ip -6 rule"
			out := w.Sh(t, show)
			want := map[bool]int{false: 1, true: 2}[s.V4 && s.V6]
			if strings.Count(out, "dev net2") != want || strings.Count(out, "lookup 201") != want || strings.Contains(out, "dev net1") {
				t.Error(out)
			}
			w.Del(t, later)
			w.Sh(t, "pod ip link del net2")
			w.Check(t, again)
			if out := w.Sh(t, show); strings.Count(out, "dev net1") != want || strings.Contains(out, "lookup 201") {
				t.Error(out)
			}
		})
	}
}

// TestLateAdvertisement: an interface that brings no IPv6 default route does not get one beside that of another later.
func TestLateAdvertisement(t *testing.T) {
	for _, overlay := range []Stack{Dual, Only4} {
		n := Net1(Dual)
		w := ptpOf(overlay).New(t, Dual, "", n)
		prev := n.PrevResult(w.Pod, "1.0.0")
		prev["routes"] = []any{}
		w.Sh(t, "pod ip -6 route del default dev net1 2>&- || :")
		w.Add(t, n, "prevResult", prev)
		want := map[bool]string{true: "0\n", false: "1\n"}[overlay.V6]
		if got := w.Sh(t, "pod cat /proc/sys/net/ipv6/conf/net1/accept_ra_defrtr"); got != want {
			t.Errorf("overlay %s: accept_ra_defrtr is %swant %s", overlay.Name, got, want)
		}
		w.Check(t, n, "prevResult", prev)
	}
}

// TestBeforeTheOverlay: an attachment whose name comes before the overlay's finds what it needs of the overlay's table, whoever comes
// and goes beside it.
func TestBeforeTheOverlay(t *testing.T) {
	for _, of := range Stacks() {
		for _, kind := range []Variety{{Mode: -1}, {Mode: 0}, {Mode: 1}, {Brings: true, Mode: 0}} {
			t.Run(fmt.Sprint(of.Name, " ", kind), func(t *testing.T) {
				t.Parallel()
				data, net1 := kind.Guest(NewNIC("data", 40, of)), Variety{Brings: true, Mode: -1}.Guest(Net1(of))
				w := calico.New(t, Dual, "")
				before := ptp.Lasting(w.Show(t))
				for _, orders := range [][2][]*Guest{{{data, net1}, {net1, data}}, {{net1, data}, {net1, data}}, {{data, net1}, {data, net1}}} {
					newGuests().ComeAndGo(t, w, orders[0], orders[1])
					Same(t, "at the end", before, ptp.Lasting(w.Show(t)))
				}
			})
		}
	}
}
