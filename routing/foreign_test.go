package routing_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

var owner = routing.Owner{Alias: "cni0/abc/eth0", Group: 7, MAC: hostMAC}

func vethOf(w *world) *routing.Veth {
	return &routing.Veth{
		Host: w.node.Link("vetha0e043dd"), Peer: w.pod.Link("veth0"), PeerMAC: podMAC, MTU: 1500, Owner: owner,
	}
}

// TestForeign: what is not ours is an error that wraps ErrForeign and names it, and stays as it is.
func TestForeign(t *testing.T) {
	const ours = "ip link add vetha0e043dd group 7 type veth peer name veth0 netns $POD; ip link set vetha0e043dd alias cni0/abc/eth0;"
	veth := func(w *world) change { return vethOf(w) }
	for _, test := range []struct {
		name, before string
		change       func(*world) change
		says         string
		goes         string // ours, and of no use
	}{
		{"host end of another attachment", ours + "ip link set vetha0e043dd alias cni0/def/eth0", veth, `interface vetha0e043dd has alias "cni0/def/eth0" and group 7: it is not ours`, ""},
		{"host end of another network", ours + "ip link set vetha0e043dd group 8", veth, `interface vetha0e043dd has alias "cni0/abc/eth0" and group 8: it is not ours`, ""},
		{"host end of somebody else", "ip link add vetha0e043dd type veth peer name x", veth, `interface vetha0e043dd has alias "" and group 0: it is not ours`, ""},
		{"the pod's name is taken", "pod ip link add veth0 type veth peer name x", veth, "interface veth0 exists in $POD: it is not ours", ""},
		{
			"the pod's name is taken beside a host end of ours", "ip link add vetha0e043dd group 7 type veth peer name x; pod ip link add veth0 type veth peer name y",
			veth, "interface veth0 exists in $POD: it is not ours", "vetha0e043dd",
		},
		{
			"a host end that is to be deleted", ours + "ip link set vetha0e043dd alias cni1/abc/eth0",
			func(w *world) change { return &routing.NoLink{Link: w.node.Link("vetha0e043dd"), Owner: owner} },
			`interface vetha0e043dd has alias "cni1/abc/eth0" and group 7: it is not ours`, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.before)
			before := w.show(t, false)
			ch := test.change(w)
			err := ch.Apply()
			if !errors.Is(err, routing.ErrForeign) {
				t.Fatalf("got %v", err)
			}
			if got := strings.ReplaceAll(err.Error(), w.pod.Path, "$POD"); got != test.says {
				t.Errorf("got  %s\nwant %s", got, test.says)
			}
			must(t, ch.Revert())
			if test.goes == "" {
				same(t, "afterwards", before, w.show(t, false))
			} else if _, err := w.node.Link(test.goes).Index(); !errors.Is(err, routing.ErrNoLink) {
				t.Errorf("%s: %v", test.goes, err)
			}
		})
	}
}

// TestOperatorsAlias: a host end of ours to which an operator has given an alias is told by its address.
func TestOperatorsAlias(t *testing.T) {
	w := newWorld(t, "")
	must(t, vethOf(w).Apply())
	w.sh(t, "ip link set vetha0e043dd alias mine")
	must(t, vethOf(w).Apply())
	must(t, vethOf(w).Verify())
	must(t, (&routing.NoLink{Link: w.node.Link("vetha0e043dd"), Owner: owner}).Apply())
	if _, err := w.node.Link("vetha0e043dd").Index(); !errors.Is(err, routing.ErrNoLink) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestVethPeerElsewhere: a host end of ours whose peer is not where it belongs is made again.
func TestVethPeerElsewhere(t *testing.T) {
	w := newWorld(t, "ip link add vetha0e043dd group 7 type veth peer name veth0")
	must(t, vethOf(w).Apply())
	must(t, vethOf(w).Verify())
	if _, err := w.node.Link("veth0").Index(); !errors.Is(err, routing.ErrNoLink) {
		t.Errorf("the old peer: %v", err)
	}
}

// TestGone: what has gone meanwhile is no error for Revert and for the changes that remove.
func TestGone(t *testing.T) {
	for _, f := range families {
		all := func(w *world) []change {
			hostEnd, podEnd := w.node.Link("vetha0e043dd"), w.pod.Link("veth0")
			toPod := &routing.Route{Table: w.node.Table(routing.MainTable), Dst: host(f.pod), Dev: hostEnd}
			own := w.node.DeviceTable(256, hostEnd)
			viaNode := &routing.Route{Table: w.pod.Table(513), Dst: f.all, Via: f.node, Dev: podEnd}
			iif := &routing.Rule{NS: w.node, V6: f.v6, Pref: 1024, Iif: hostEnd.Name, Table: own}
			changes := []change{
				vethOf(w),
				&routing.LinkUp{Link: hostEnd, Alias: owner.Alias},
				&routing.LinkUp{Link: podEnd},
				&routing.NoIif{NS: w.node, Pref: 1024, Iif: hostEnd.Name, Except: own},
				&routing.Neigh{Addr: f.pod, Dev: hostEnd, MAC: podMAC},
				toPod,
				&routing.Source{Route: toPod, Addr: f.node},
				&routing.Route{Table: own, Dst: f.all, Via: f.pod, Dev: hostEnd},
				iif,
				&routing.Neigh{Addr: f.node, Dev: podEnd, MAC: hostMAC},
				&routing.Route{Table: w.pod.Table(routing.MainTable), Dst: host(f.node), Dev: podEnd},
				viaNode,
				&routing.NoRoute{Route: &routing.Route{Table: w.pod.Table(routing.MainTable), Dst: f.all, Via: f.gw, Dev: w.pod.Link("eth0")}},
			}
			if f.v6 {
				return append(changes, &routing.Sysctls{NS: w.node, Dir: "net/ipv6/conf/vetha0e043dd", Values: []routing.Value{{Key: "accept_redirects", Value: "0"}}})
			}
			return append(changes, &routing.InetConf{Dev: hostEnd, Values: []routing.Value{{Key: "src_valid_mark", Value: "1"}}})
		}
		const wire = `ip link add podwire type veth peer name eth0 netns $POD; ip link set podwire up; pod ip link set eth0 up;
			pod ip addr add 10.10.20.53/24 dev eth0; pod ip addr add fd20::53/64 dev eth0 nodad; pod ip route add default via 10.10.20.1; pod ip -6 route add default via fd20::1;
			ip link add enp1s0 type veth peer name wire; ip addr add 10.10.20.152/24 dev enp1s0; ip addr add fd20::152/64 dev enp1s0 nodad; ip link set enp1s0 up;`
		for _, test := range []struct{ name, gone string }{
			{"the host end", "ip link del vetha0e043dd"},
			{"all of the pod's interfaces", "ip link del vetha0e043dd; ip link del podwire"},
			{"everything by hand", "ip route flush table all; ip -6 route flush table all; ip rule del pref 1024; ip neigh flush nud permanent dev vetha0e043dd; pod ip route flush table 513; pod ip -6 route flush table 513"},
		} {
			t.Run(f.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, wire)
				changes := all(w)
				for _, ch := range changes {
					if err := ch.Apply(); err != nil {
						t.Fatalf("%s: %v", ch, err)
					}
				}
				if _, err := w.try(test.gone); err != nil {
					t.Log(err) // the rule of the other family
				}
				for _, ch := range slices.Backward(changes) {
					for range 2 {
						if err := ch.Revert(); err != nil {
							t.Errorf("Revert of %s: %v", ch, err)
						}
					}
				}
				if left := w.sh(t, f.ip+" rule | grep vetha0 || :; "+f.ip+" route show table all | grep vetha0 || :; ip link | grep vetha0 || :"); left != "" {
					t.Errorf("left: %s", left)
				}
			})
		}
	}
}

// TestRemovesNothing: to remove what is not there is no error.
func TestRemovesNothing(t *testing.T) {
	w := newWorld(t, pair)
	before := w.show(t, false)
	none, table := w.node.Link("vethffffffff"), w.node.Table(596)
	for _, f := range families {
		for _, ch := range []change{
			&routing.NoLink{Link: none, Owner: owner},
			&routing.NoRoute{Route: &routing.Route{Table: table, Dst: f.all, Via: f.gw, Dev: none}},
			&routing.NoRoute{Route: &routing.Route{Table: table, Dst: f.all, Via: f.gw, Dev: w.node.Link("enp1s0")}},
			&routing.NoRule{Rule: &routing.Rule{NS: w.node, V6: f.v6, Pref: 512, Mark: 1, Mask: 1, Table: table}},
			&routing.NoRule{Rule: &routing.Rule{NS: w.node, V6: f.v6, Pref: 1024, Iif: none.Name, Table: w.node.DeviceTable(256, none)}},
			&routing.NoIif{NS: w.node, Pref: 1024, Iif: none.Name},
		} {
			for range 2 {
				if err := ch.Apply(); err != nil {
					t.Errorf("%s %s: %v", f.name, ch, err)
				}
			}
		}
	}
	same(t, "afterwards", before, w.show(t, false))
}

// TestNoLink: a change about an interface that is not there says so, in words that containerd does not take for the
// end of a DEL, and changes nothing.
func TestNoLink(t *testing.T) {
	w := newWorld(t, "")
	none := w.node.Link("vethffffffff")
	before := w.show(t, false)
	for _, f := range families {
		for name, ch := range map[string]change{
			"link up":       &routing.LinkUp{Link: none},
			"neigh":         &routing.Neigh{Addr: f.pod, Dev: none, MAC: podMAC},
			"route":         &routing.Route{Table: w.node.Table(596), Dst: f.all, Via: f.gw, Dev: none},
			"its own table": &routing.Route{Table: w.node.DeviceTable(256, none), Dst: f.all, Via: f.gw, Dev: none},
			"rule":          &routing.Rule{NS: w.node, V6: f.v6, Pref: 1024, Iif: none.Name, Table: w.node.DeviceTable(256, none)},
			"inet conf":     &routing.InetConf{Dev: none, Values: []routing.Value{{Key: "forwarding", Value: "1"}}},
		} {
			for verb, do := range map[string]func() error{"Apply": ch.Apply, "Verify": ch.Verify} {
				err := do()
				if !errors.Is(err, routing.ErrNoLink) || strings.Contains(err.Error(), "not found") {
					t.Errorf("%s %s: %s: %v", f.name, name, verb, err)
				}
			}
			must(t, ch.Revert())
		}
	}
	sysctls := &routing.Sysctls{NS: w.node, Dir: "net/ipv4/conf/vethffffffff", Values: []routing.Value{{Key: "forwarding", Value: "1"}}}
	for verb, do := range map[string]func() error{"Apply": sysctls.Apply, "Verify": sysctls.Verify} {
		if err := do(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "net/ipv4/conf/vethffffffff/forwarding") {
			t.Errorf("sysctl: %s: %v", verb, err)
		}
	}
	if _, err := w.node.Addresses(none); !errors.Is(err, routing.ErrNoLink) {
		t.Errorf("addresses: %v", err)
	}
	if _, err := w.node.Routes(none); !errors.Is(err, routing.ErrNoLink) {
		t.Errorf("routes: %v", err)
	}
	if err := w.node.Announce(none, nil); !errors.Is(err, routing.ErrNoLink) {
		t.Errorf("announce: %v", err)
	}
	same(t, "afterwards", before, w.show(t, false))
}

// TestKernelsWords: an error of the kernel can be told by its number and has the kernel's reason, where it gives one.
func TestKernelsWords(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*world) change
		is     error
		says   string
	}{
		{"next hop out of reach", func(w *world) change {
			return &routing.Route{Table: w.node.Table(596), Dst: prefix("0.0.0.0/0"), Via: addr("192.0.2.1"), Dev: w.node.Link("enp1s0")}
		}, unix.ENETUNREACH, "network is unreachable: Nexthop has invalid gateway"},
		{"next hop out of reach in IPv6", func(w *world) change {
			return &routing.Route{Table: w.node.Table(596), Dst: prefix("::/0"), Via: addr("fd20::152"), Dev: w.node.Link("enp1s0")}
		}, unix.EINVAL, "invalid argument: Gateway can not be a local address"},
		{"source that the node does not have", func(w *world) change {
			return &routing.Route{Table: w.node.Table(596), Dst: prefix("192.0.2.0/24"), Dev: w.node.Link("enp1s0"), Src: addr("192.0.2.9")}
		}, unix.EINVAL, "invalid argument: Invalid prefsrc address"},
		{"interface down", func(w *world) change {
			return &routing.Route{Table: w.node.Table(596), Dst: prefix("192.0.2.0/24"), Dev: w.node.Link("dn0")}
		}, unix.ENETDOWN, "network is down: Device for nexthop is not up"},
		{"jump backwards", func(w *world) change {
			return &routing.Rule{NS: w.node, Pref: 1025, Goto: 1023}
		}, unix.EINVAL, "invalid argument: Backward goto not supported"},
		{"veth with an mtu that is too large", func(w *world) change {
			v := vethOf(w)
			v.Host, v.MTU = w.node.Link("vethffffffff"), 100_000
			return v
		}, unix.EINVAL, "invalid argument"}, // nor has ip(8) more to say
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pair+"ip link add dn0 type veth peer name x")
			before := w.show(t, false)
			ch := test.change(w)
			err := ch.Apply()
			if !errors.Is(err, test.is) || err.Error() != test.says {
				t.Errorf("got  %v\nwant %s", err, test.says)
			}
			must(t, ch.Revert())
			same(t, "afterwards", before, w.show(t, false))
		})
	}
}

// TestDetached: a rule outlives its interface, and attaches itself to the next one of that name. NoIif takes all of
// them, in both families, whatever their tables; and leaves rules of other interfaces and of other prefs.
func TestDetached(t *testing.T) {
	const name = "vetha0e043dd"
	w := newWorld(t, pair+`
		for f in -4 -6; do
			ip $f rule add pref 1024 iif vetha0e043dd lookup 596
			ip $f rule add pref 1024 iif vetha0e043dd lookup 597 protocol kernel
			ip $f rule add pref 1024 iif enp1s0 lookup 598
			ip $f rule add pref 1000 iif vetha0e043dd lookup 599
		done`)
	iifs := func(want ...string) {
		t.Helper()
		names, err := w.node.Iifs(1024)
		must(t, err)
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("interfaces of the rules (-want +got)\n%s", d)
		}
	}
	iifs(name, "enp1s0")
	w.sh(t, "ip link del vetha0e043dd")
	iifs(name, "enp1s0")
	if out := w.sh(t, "ip rule; ip -6 rule"); strings.Count(out, "1024:\tfrom all iif vetha0e043dd [detached]") != 4 {
		t.Errorf("ip rule:\n%s", out)
	}
	ch := &routing.NoIif{NS: w.node, Pref: 1024, Iif: name}
	if err := ch.Verify(); err == nil || err.Error() != "rule is still there: 1024: iif vetha0e043dd lookup 596" {
		t.Errorf("Verify: %v", err)
	}
	for range 2 {
		must(t, ch.Apply())
		must(t, ch.Verify())
	}
	must(t, ch.Revert())
	for _, family := range []string{"-4", "-6"} {
		want := "1000:\tfrom all iif vetha0e043dd [detached] lookup 599\n1024:\tfrom all iif enp1s0 lookup 598\n"
		if d := cmp.Diff(want, w.sh(t, "ip "+family+" rule | grep iif")); d != "" {
			t.Errorf("ip %s rule (-want +got)\n%s", family, d)
		}
	}
	iifs("enp1s0")
}

// TestNoIifExcept: the rule that is to be there does not count.
func TestNoIifExcept(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, pair+f.ip+" rule add pref 1024 iif vetha0e043dd lookup 258 protocol kernel")
			table := w.node.DeviceTable(256, w.node.Link("vetha0e043dd"))
			must(t, table.Find(1024))
			ch := &routing.NoIif{NS: w.node, Pref: 1024, Iif: "vetha0e043dd", Except: table}
			must(t, ch.Verify())
			w.sh(t, f.ip+" rule add pref 1024 iif vetha0e043dd lookup 999")
			if err := ch.Verify(); err == nil || err.Error() != "rule is still there: 1024: iif vetha0e043dd lookup 999" {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

// TestNoRuleRepeats: a rule goes as often as it is there, whoever added it, and any of those with the pref and the
// table if no more is said.
func TestNoRuleRepeats(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, strings.ReplaceAll(`
				IP rule add pref 512 fwmark 0x2000/0x2000 lookup 512 protocol kernel
				IP rule add pref 512 fwmark 0x4000/0x4000 lookup 512 protocol kernel
				IP rule add pref 512 fwmark 0x2000/0x2000 lookup 600 protocol kernel
				IP rule add pref 513 fwmark 0x2000/0x2000 lookup 512 protocol kernel
				IP rule add pref 512 fwmark 0x8000/0x8000 lookup 512`, "IP", f.ip))
			ch := &routing.NoRule{Rule: &routing.Rule{NS: w.node, V6: f.v6, Pref: 512, Table: w.node.Table(512)}}
			must(t, ch.Apply())
			must(t, ch.Verify())
			want := "512:\tfrom all fwmark 0x2000/0x2000 lookup 600\n512:\tfrom all fwmark 0x8000/0x8000 lookup 512\n513:\tfrom all fwmark 0x2000/0x2000 lookup 512\n"
			if d := cmp.Diff(want, w.sh(t, f.ip+" rule | grep fwmark")); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// TestDeviceTable: an interface's table is start plus its index, or the next one that holds no route of others.
func TestDeviceTable(t *testing.T) {
	const start, index = 256, 2 // vetha0e043dd is the first interface after lo
	for _, f := range families {
		for _, test := range []struct {
			name, before string
			want         int
		}{
			{"free", "", start + index},
			{"taken by IPv4", "ip route add 192.0.2.0/24 dev wire table 258", start + index + 1},
			{"taken by IPv6", "ip -6 route add 2001:db8::/32 dev wire table 258", start + index + 1},
			{"taken, and the next one", "ip route add 192.0.2.0/24 dev wire table 258; ip -6 route add 2001:db8::/32 dev wire table 259", start + index + 2},
			{"taken by a route that leads nowhere", "ip route add blackhole 192.0.2.0/24 table 258", start + index + 1},
			{"the interface's own already", f.ip + " route add " + f.away.String() + " dev vetha0e043dd table 258", start + index},
			{"the very route", f.ip + " route add default dev vetha0e043dd table 258", start + index},
		} {
			t.Run(f.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, pair+test.before)
				dev := w.node.Link("vetha0e043dd")
				for range 2 { // an ADD, and one that is repeated by another process
					table := w.node.DeviceTable(start, dev)
					if got := table.String(); got != "$((256 + $(cat /sys/class/net/vetha0e043dd/ifindex)))" {
						t.Errorf("before it is chosen: %s", got)
					}
					first := &routing.Route{Table: table, Dst: f.all, Dev: dev}
					must(t, first.Apply())
					must(t, first.Apply())
					must(t, (&routing.Route{Table: table, Dst: host(f.pod), Dev: dev}).Apply())
					rule := &routing.Rule{NS: w.node, V6: f.v6, Pref: 1024, Iif: dev.Name, Table: table}
					must(t, rule.Apply())
					if id, err := table.ID(); id != test.want || err != nil || table.String() != w.sh(t, "printf "+table.String()) {
						t.Errorf("got table %d, %v, want %d", id, err, test.want)
					}
				}
				table := w.node.DeviceTable(start, dev)
				must(t, table.Find(1024))
				if id, err := table.ID(); id != test.want || err != nil {
					t.Errorf("found table %d, %v, want %d", id, err, test.want)
				}
				want := strings.ReplaceAll(w.sh(t, f.ip+" rule | grep -c 1024:"), "\n", "")
				if want != "1" {
					t.Errorf("%s rules", want)
				}
			})
		}
	}
}

// TestDeviceTableRace: who is slower finds the table taken when it adds its first route, and takes the next.
func TestDeviceTableRace(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, pair)
			dev := w.node.Link("vetha0e043dd")
			table := w.node.DeviceTable(256, dev)
			id, err := table.ID()
			must(t, err)
			w.sh(t, f.ip+" route add default dev wire table 258")
			route := &routing.Route{Table: table, Dst: f.all, Dev: dev}
			must(t, route.Apply())
			must(t, route.Verify())
			if now, err := table.ID(); id != 258 || now != 259 || err != nil {
				t.Errorf("chose %d, took %d, %v", id, now, err)
			}
			must(t, route.Revert())
			if out := w.sh(t, f.ip+" route show table 258; "+f.ip+" route show table 259"); !strings.HasPrefix(out, "default dev wire") || strings.Contains(out, "vetha0") {
				t.Errorf("after Revert: %s", out)
			}
		})
	}
}

// TestDeviceTablesOfTwo: two interfaces never share one.
func TestDeviceTablesOfTwo(t *testing.T) {
	w := newWorld(t, pair)
	ids := map[int]string{}
	for _, name := range []string{"vetha0e043dd", "enp1s0", "wire", "podwire"} {
		dev := w.node.Link(name)
		table := w.node.DeviceTable(256, dev)
		for _, f := range families {
			must(t, (&routing.Route{Table: table, Dst: f.away, Dev: dev}).Apply())
		}
		id, err := table.ID()
		must(t, err)
		if other := ids[id]; other != "" {
			t.Errorf("%s and %s have table %d", name, other, id)
		}
		ids[id] = name
	}
}

func TestHasSysctl(t *testing.T) {
	w := newWorld(t, "ip link add eth0.100 type veth peer name x")
	for key, want := range map[string]bool{
		"net/ipv4/conf/eth0.100/rp_filter":     true,
		"net/ipv6/conf/eth0.100/disable_ipv6":  true,
		"net/ipv6/conf/eth0.100/no_such_thing": false,
		"net/ipv6/conf/eth0/disable_ipv6":      false,
	} {
		if got, err := w.node.HasSysctl(key); got != want || err != nil {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
	w.sh(t, "ip link del eth0.100; ip link add eth0.100 type veth peer name x")
	if got, err := w.node.HasSysctl("net/ipv4/conf/eth0.100/rp_filter"); !got || err != nil {
		t.Error("an interface that was made again has no sysctls")
	}
	if got, err := w.pod.HasSysctl("net/ipv4/conf/eth0.100/rp_filter"); got || err != nil {
		t.Error("the pod has the node's")
	}
}
