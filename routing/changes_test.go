package routing_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
	"underlay-cni/routing"
)

// A change is what every type of the package is to a plan.
type change interface {
	String() string
	Apply() error
	Verify() error
	Revert() error
}

var (
	_ = []change{
		(*routing.Veth)(nil), (*routing.LinkUp)(nil), (*routing.NoLink)(nil), (*routing.Neigh)(nil), (*routing.Route)(nil),
		(*routing.NoRoute)(nil), (*routing.Source)(nil), (*routing.Rule)(nil), (*routing.NoRule)(nil), (*routing.NoIif)(nil),
		(*routing.Sysctls)(nil), (*routing.InetConf)(nil), (*routing.LinkMAC)(nil),
		(*routing.AltName)(nil), (*routing.NoAltName)(nil), (*routing.NoNeigh)(nil), (*routing.LinkAddress)(nil),
	}

	hostMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1} // of vetha0e043dd
	podMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 2} // of veth0
)

// A family is the example in IPv4 or in IPv6.
type family struct {
	name                       string
	v6                         bool
	ip                         string // the command
	node, pod, vip, gw, gw2    netip.Addr
	all, subnet, service, away netip.Prefix
}

var families = []family{
	{
		name: "IPv4", ip: "ip -4",
		node: addr("10.10.20.152"), pod: addr("10.10.20.53"), vip: addr("10.10.20.9"), gw: addr("10.10.20.1"), gw2: addr("10.10.20.2"),
		all: prefix("0.0.0.0/0"), subnet: prefix("10.10.20.0/24"), service: prefix("172.20.252.0/22"), away: prefix("192.0.2.0/24"),
	},
	{
		name: "IPv6", v6: true, ip: "ip -6",
		node: addr("fd20::152"), pod: addr("fd20::53"), vip: addr("fd20::9"), gw: addr("fd20::1"), gw2: addr("fd20::2"),
		all: prefix("::/0"), subnet: prefix("fd20::/64"), service: prefix("fd00:20::/108"), away: prefix("2001:db8::/32"),
	},
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// A spoilt change is one that somebody else has altered after Apply.
type spoilt struct{ name, line, says string }

// A changeCase says of one change what the kernel shows before, and what Verify reports when it is spoilt.
type changeCase struct {
	name   string
	before string // a script, after pair
	bare   bool   // in place of pair
	change func(*world) change

	says     string   // by Verify, before Apply
	spoilt   []spoilt // after each of them Apply makes it true again
	stays    bool     // Revert takes nothing back
	sysctls  bool     // are looked at
	reverted string   // a script: Revert leaves what this makes of what was before
	already  bool     // Apply finds nothing to do
	differs  bool     // the line does a little more or less than Apply: TestLine… says what
}

// TestChanges: every change is what its line says, whoever makes it: Apply leaves the kernel as a shell leaves it that
// runs the line. Apply can be repeated, Verify knows the state from any other, and Revert takes back what Apply did and
// no more. The lines, and what each does to what an operator sees, are in testdata/changes.txt.
func TestChanges(t *testing.T) {
	cases := slices.Concat(linkCases(), macCases(), altNameCases())
	for _, f := range families {
		for _, c := range slices.Concat(neighCases(f), routeCases(f), ruleCases(f), underlayCases(f)) {
			c.name = f.name + " " + c.name
			cases = append(cases, c)
		}
	}
	for _, c := range sysctlCases() {
		c.sysctls = true
		cases = append(cases, c)
	}

	texts := make([]string, len(cases))
	t.Run("each", func(t *testing.T) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				texts[i] = c.run(t)
			})
		}
	})
	if !t.Failed() {
		nettest.Golden(t, "changes.txt", strings.Join(texts, "\n"))
	}
}

func (c changeCase) world(t *testing.T) *world {
	t.Helper()
	// An IPv6 address is tentative for a moment, also where nobody asks for duplicates.
	const settle = "\nfor i in $(seq 200); do [ -z \"$(ip -6 addr show tentative; pod ip -6 addr show tentative)\" ] && break; sleep 0.05; done"
	if c.bare {
		return newWorld(t, c.before+settle)
	}
	return newWorld(t, pair+c.before+settle)
}

func (c changeCase) run(t *testing.T) string {
	t.Helper()
	w := c.world(t)
	before := w.show(t, c.sysctls)
	ch := c.change(w)
	line := ch.String()
	switch err := ch.Verify(); {
	case c.already:
		must(t, err)
	case err == nil:
		t.Error("Verify finds it to be so before Apply")
	case !strings.Contains(err.Error(), c.says):
		t.Errorf("Verify before Apply: %v\nwant: %s", err, c.says)
	}
	must(t, ch.Revert()) // of what was not applied: byHand, below, has not seen it

	must(t, ch.Apply())
	must(t, ch.Verify())
	after := w.show(t, c.sysctls)
	for _, again := range []change{ch, c.change(w)} {
		must(t, again.Apply())
		must(t, again.Verify())
	}
	same(t, "after a second and a third Apply", after, w.show(t, c.sysctls))

	byHand := c.world(t)
	if !c.differs {
		byHand.sh(t, c.change(byHand).String())
		same(t, "by the line: "+line, after, byHand.show(t, c.sysctls))
		must(t, c.change(byHand).Verify())
	}

	for _, s := range c.spoilt {
		t.Run(s.name, func(t *testing.T) {
			w.sh(t, s.line)
			if err := ch.Verify(); err == nil || !strings.Contains(err.Error(), s.says) {
				t.Errorf("Verify after %s: %v\nwant: %s", s.line, err, s.says)
			}
			must(t, ch.Apply())
			must(t, ch.Verify())
			same(t, "healed", after, w.show(t, c.sysctls))
		})
	}

	reverted := before
	switch {
	case c.stays:
		reverted = after
	case c.reverted != "":
		byHand := c.world(t)
		byHand.sh(t, c.reverted)
		reverted = byHand.show(t, c.sysctls)
	}
	must(t, ch.Revert())
	must(t, ch.Revert())
	same(t, "after Revert", reverted, w.show(t, c.sysctls))
	return fmt.Sprintf("# %s\n$ %s\n%s\n", c.name, strings.ReplaceAll(line, w.pod.Path, "$POD"), strings.Join(changes(before, after), "\n"))
}

func linkCases() []changeCase {
	veth := func(w *world) *routing.Veth {
		return &routing.Veth{
			Host: w.node.Link("vetha0e043dd"), Peer: w.pod.Link("veth0"), PeerMAC: podMAC, MTU: 1400,
			Owner: routing.Owner{Alias: "cni0/abc/eth0", Group: 0x5eed, MAC: hostMAC},
		}
	}
	const ours = `ip link add vetha0e043dd address 02:00:00:00:00:01 mtu 1500 group 24301 type veth peer name veth0 netns $POD address 02:00:00:00:00:02`
	return []changeCase{
		{
			name: "veth", bare: true, change: func(w *world) change { return veth(w) }, says: "vetha0e043dd: no such interface",
			spoilt: []spoilt{
				{"deleted", "ip link del vetha0e043dd", "vetha0e043dd: no such interface"},
				{"another mtu", "ip link set vetha0e043dd mtu 1300", "vetha0e043dd has mtu 1300, not 1400"},
				{"another mtu in the pod", "pod ip link set veth0 mtu 1300", "veth0 has mtu 1300, not 1400"},
				{"another address", "ip link set vetha0e043dd address 02:00:00:00:00:99", "vetha0e043dd has address 02:00:00:00:00:99, not 02:00:00:00:00:01"},
				{"another address in the pod", "pod ip link set veth0 address 02:00:00:00:00:99", "veth0 has address 02:00:00:00:00:99, not 02:00:00:00:00:02"},
				{"renamed in the pod", "pod ip link set veth0 name net1", "veth0: no such interface"},
			},
		},
		{
			// An ADD that is repeated with another MTU, and one that was killed before the alias was set.
			name: "veth, ours, not as it should be", bare: true, before: ours, change: func(w *world) change { return veth(w) },
			says: "has mtu 1500, not 1400", differs: true, reverted: "ip link del vetha0e043dd",
		},
		{
			name: "link up", bare: true, before: "ip link add vetha0e043dd address 02:00:00:00:00:01 type veth peer name x address 02:00:00:00:00:02; ip link set vetha0e043dd addrgenmode eui64",
			change: func(w *world) change {
				return &routing.LinkUp{Link: w.node.Link("vetha0e043dd"), Alias: "cni0/abc/eth0"}
			},
			says: "vetha0e043dd is down", stays: true,
			spoilt: []spoilt{
				{"down", "ip link set vetha0e043dd down", "vetha0e043dd is down"},
				{"another alias", "ip link set vetha0e043dd alias x", `has alias "x", not "cni0/abc/eth0"`},
			},
		},
		{
			name: "link up in the pod", bare: true, before: ours,
			change: func(w *world) change { return &routing.LinkUp{Link: w.pod.Link("veth0")} },
			says:   "veth0 is down", stays: true,
		},
		{
			name: "no link", bare: true, before: ours + "; ip link set vetha0e043dd up alias cni0/abc/eth0",
			change: func(w *world) change {
				return &routing.NoLink{Link: w.node.Link("vetha0e043dd"), Owner: veth(w).Owner}
			},
			says: "vetha0e043dd is still there", stays: true,
		},
		{
			name: "no link, after an ADD that was killed before the alias", bare: true, before: ours,
			change: func(w *world) change {
				return &routing.NoLink{Link: w.node.Link("vetha0e043dd"), Owner: veth(w).Owner}
			},
			says: "vetha0e043dd is still there", stays: true,
		},
	}
}

func neighCases(f family) []changeCase {
	neigh := func(w *world) change {
		return &routing.Neigh{Addr: f.pod, Dev: w.node.Link("vetha0e043dd"), MAC: podMAC}
	}
	replace := fmt.Sprintf("ip neigh replace %s dev vetha0e043dd ", f.pod)
	return []changeCase{
		{
			name: "neigh", change: neigh, says: fmt.Sprintf("neighbour %s is missing on vetha0e043dd", f.pod),
			spoilt: []spoilt{
				{"gone", fmt.Sprintf("ip neigh del %s dev vetha0e043dd", f.pod), "is missing on vetha0e043dd"},
				{"another lladdr", replace + "lladdr 02:00:00:00:00:99 nud permanent", "has lladdr 02:00:00:00:00:99"},
				{"not for ever", replace + "lladdr 02:00:00:00:00:02 nud stale", "has lladdr 02:00:00:00:00:02 and state 0x4"},
			},
		},
		{
			name: "neigh in the pod", says: fmt.Sprintf("neighbour %s is missing on veth0", f.node),
			change: func(w *world) change {
				return &routing.Neigh{Addr: f.node, Dev: w.pod.Link("veth0"), MAC: hostMAC}
			},
		},
	}
}

func routeCases(f family) []changeCase {
	main := func(w *world) *routing.Table { return w.node.Table(routing.MainTable) }
	toPod := func(w *world) *routing.Route {
		return &routing.Route{Table: main(w), Dst: host(f.pod), Dev: w.node.Link("vetha0e043dd")}
	}
	metric := map[bool]int{true: 512}[f.v6]
	sh := func(format string, args ...any) string { return fmt.Sprintf(f.ip+" "+format, args...) }
	return []changeCase{
		{
			name: "route to an address", change: func(w *world) change { return toPod(w) },
			says: "route is missing: ip ",
			spoilt: []spoilt{
				{"gone", sh("route del %s dev vetha0e043dd", f.pod), "route is missing"},
				{"by another interface", sh("route replace %s dev wire", f.pod), "route is missing"},
			},
		},
		{
			name: "default route of the pod", says: "route is missing",
			before: fmt.Sprintf("pod ip route add %s dev veth0", f.node),
			change: func(w *world) change {
				return &routing.Route{
					Table: w.pod.Table(routing.MainTable), Dst: f.all, Via: f.node, Dev: w.pod.Link("veth0"), Metric: metric,
				}
			},
			spoilt: []spoilt{
				{"gone", "pod " + sh("route del default dev veth0"), "route is missing"},
				{"by the wire", "pod " + sh("route replace default via %s dev eth0 %s", f.gw, map[bool]string{true: "metric 512"}[f.v6]), "route is missing"},
			},
		},
		{
			name: "route with a source in a table", says: "route is missing",
			change: func(w *world) change {
				return &routing.Route{Table: w.node.Table(596), Dst: f.service, Via: f.gw, Dev: w.node.Link("enp1s0"), Src: f.node, Metric: 7}
			},
			spoilt: []spoilt{
				{"the table is empty", sh("route flush table 596"), "route is missing"},
				{"no source", sh("route replace table 596 %s via %s dev enp1s0 metric 7", f.service, f.gw), "route is missing"},
			},
		},
		{
			// What a pod with the same address, that has gone, has left behind: it is replaced.
			name: "route in the place of a stale one", says: "route is missing",
			before: sh("route add %s dev wire", f.pod), reverted: sh("route del %s dev wire", f.pod),
			change: func(w *world) change { return toPod(w) },
		},
		{
			name: "route of an interface's own table", says: "route is missing",
			before: fmt.Sprintf("ip route add %s dev vetha0e043dd", f.pod),
			change: func(w *world) change {
				dev := w.node.Link("vetha0e043dd")
				return &routing.Route{Table: w.node.DeviceTable(256, dev), Dst: f.all, Via: f.pod, Dev: dev}
			},
			spoilt: []spoilt{{"gone", sh("route flush dev vetha0e043dd table 258"), "route is missing"}},
		},
		{
			name: "no route", says: "route is still there", before: "pod " + sh("route add default via %s dev eth0", f.gw),
			change: func(w *world) change {
				return &routing.NoRoute{Route: &routing.Route{Table: w.pod.Table(routing.MainTable), Dst: f.all, Via: f.gw, Dev: w.pod.Link("eth0")}}
			},
			spoilt: []spoilt{{"there again", "pod " + sh("route add default via %s dev eth0", f.gw), "route is still there"}},
		},
		{
			name: "source, where the kernel would take a VIP of lo", says: fmt.Sprintf("the source address towards %s is %s, not %s", f.pod, f.vip, f.node),
			before: sh("addr add %s dev lo; ", host(f.vip)) + sh("addr del %s/%d dev enp1s0; ", f.node, f.subnet.Bits()) +
				sh("addr add %s/%d dev enp1s0%s; ", f.node, f.subnet.Bits(), map[bool]string{true: " nodad"}[f.v6]) + sh("route add %s dev vetha0e043dd", f.pod),
			change: func(w *world) change { return &routing.Source{Route: toPod(w), Addr: f.node} }, stays: true,
			spoilt: []spoilt{{"taken away", sh("route change %s dev vetha0e043dd", f.pod), "the source address towards"}},
		},
		{
			name: "source, where the kernel is right", already: true, stays: true, differs: true,
			before: sh("route add %s dev vetha0e043dd", f.pod),
			change: func(w *world) change { return &routing.Source{Route: toPod(w), Addr: f.node} },
		},
	}
}

func ruleCases(f family) []changeCase {
	rule := func(name string, r routing.Rule, table int, before string) changeCase {
		return changeCase{
			name: name, before: before, says: "rule is missing: ip ",
			spoilt: []spoilt{{"gone", fmt.Sprintf("%s rule del pref %d", f.ip, r.Pref), "rule is missing"}},
			change: func(w *world) change {
				r.NS, r.V6 = w.node, f.v6
				if table != 0 {
					r.Table = w.node.Table(table)
				}
				return new(r)
			},
		}
	}
	end := f.ip + " rule add pref 1025 nop protocol kernel"
	cases := []changeCase{
		rule("rule of a mark", routing.Rule{Pref: 512, Mark: 0x2000, Mask: 0x2000}, routing.MainTable, ""),
		rule("rule of no mark, a jump", routing.Rule{Pref: 1023, Mask: 0x1000, Goto: 1025}, 0, end),
		rule("rule that jumps to where nothing is yet", routing.Rule{Pref: 1022, Mark: 0x1000, Mask: 0x1000, Goto: 1024}, 0, ""),
		rule("rule that does nothing", routing.Rule{Pref: 1025}, 0, ""),
		rule("rule of an interface", routing.Rule{Pref: 1024, Iif: "vetha0e043dd"}, 596, ""),
		rule("rule of an interface that is not there", routing.Rule{Pref: 1024, Iif: "vethffffffff"}, 596, ""),
		rule("rule of a destination", routing.Rule{Pref: 1101, To: f.service}, routing.MainTable, ""),
		rule("rule of a table but for its default", routing.Rule{Pref: 1100, NoDefault: true}, routing.MainTable, ""),
		rule("rule of a table", routing.Rule{Pref: 1102}, 512, ""),
	}
	return append(cases,
		changeCase{
			name: "rule that others rely on", says: "rule is missing", stays: true,
			change: func(w *world) change {
				return &routing.Rule{NS: w.node, V6: f.v6, Pref: 1025, Shared: true}
			},
		},
		changeCase{
			name: "rule that was there before", already: true, stays: true, differs: true, before: end,
			change: func(w *world) change { return &routing.Rule{NS: w.node, V6: f.v6, Pref: 1025} },
		},
		changeCase{
			// To the kernel the protocol makes another rule: Apply adds ours, and Revert leaves theirs.
			name: "rule like one of somebody else", already: true, before: f.ip + " rule add pref 1025 nop",
			change: func(w *world) change { return &routing.Rule{NS: w.node, V6: f.v6, Pref: 1025} },
		},
		changeCase{
			name: "rule beside another of the same pref", says: "rule is missing", before: f.ip + " rule add pref 512 fwmark 0x1/0x1 lookup main",
			change: func(w *world) change {
				return &routing.Rule{NS: w.node, V6: f.v6, Pref: 512, Mark: 0x2000, Mask: 0x2000, Table: w.node.Table(routing.MainTable)}
			},
		},
		changeCase{
			name: "no rule", says: "rule is still there", stays: true, before: f.ip + " rule add pref 512 fwmark 0x2000/0x2000 lookup 512 protocol kernel",
			change: func(w *world) change {
				return &routing.NoRule{Rule: &routing.Rule{NS: w.node, V6: f.v6, Pref: 512, Mark: 0x2000, Mask: 0x2000, Table: w.node.Table(512)}}
			},
			spoilt: []spoilt{{"there again", f.ip + " rule add pref 512 fwmark 0x2000/0x2000 lookup 512 protocol kernel", "rule is still there"}},
		},
	)
}

func sysctlCases() []changeCase {
	const dotted = "ip link add eth0.100 address 02:00:00:00:00:01 type veth peer name x address 02:00:00:00:00:02; ip link set eth0.100 up"
	values := []routing.Value{{Key: "rp_filter", Value: "2"}, {Key: "send_redirects", Value: "0"}}
	return []changeCase{
		{
			name: "sysctls of all", bare: true, says: "sysctl net/ipv4/conf/all/rp_filter is 0, not 2\nsysctl net/ipv4/conf/all/send_redirects is 1, not 0",
			change: func(w *world) change {
				return &routing.Sysctls{NS: w.pod, Dir: "net/ipv4/conf/all", Values: values}
			},
			spoilt: []spoilt{{"one of them", "pod sysctl -qw net/ipv4/conf/all/send_redirects=1", "sysctl net/ipv4/conf/all/send_redirects is 1, not 0"}},
		},
		{
			name: "sysctls of an interface with a dot", bare: true, before: dotted, says: "eth0.100/disable_ipv6 is 0, not 1",
			change: func(w *world) change {
				return &routing.Sysctls{NS: w.node, Dir: "net/ipv6/conf/eth0.100", Values: []routing.Value{{Key: "disable_ipv6", Value: "1"}}}
			},
		},
		{
			name: "IPv6 that is off", bare: true, before: dotted + "; sysctl -qw net/ipv6/conf/eth0.100/disable_ipv6=1", says: "eth0.100/disable_ipv6 is 1, not 0",
			change: func(w *world) change {
				return &routing.Sysctls{NS: w.node, Dir: "net/ipv6/conf/eth0.100", Dev: w.node.Link("eth0.100"), Values: routing.Values("disable_ipv6=0")}
			},
		},
		{
			name: "IPv6 that is on", bare: true, already: true, before: dotted,
			change: func(w *world) change {
				return &routing.Sysctls{NS: w.node, Dir: "net/ipv6/conf/eth0.100", Dev: w.node.Link("eth0.100"), Values: routing.Values("disable_ipv6=0")}
			},
		},
		{
			name: "sysctls that are so", bare: true, already: true,
			change: func(w *world) change {
				return &routing.Sysctls{NS: w.node, Dir: "net/ipv4/conf/all", Values: []routing.Value{{Key: "rp_filter", Value: "0"}}}
			},
		},
		{
			name: "IPv4 sysctls of an interface with a dot", bare: true, before: dotted, says: "sysctl net/ipv4/conf/eth0.100/rp_filter is 0, not 2\n",
			change: func(w *world) change {
				return &routing.InetConf{Dev: w.node.Link("eth0.100"), Values: append(values,
					routing.Value{Key: "src_valid_mark", Value: "1"}, routing.Value{Key: "forwarding", Value: "1"}, routing.Value{Key: "accept_redirects", Value: "0"})}
			},
			spoilt: []spoilt{
				{"rp_filter", "sysctl -qw net/ipv4/conf/eth0.100/rp_filter=0", "eth0.100/rp_filter is 0, not 2"},
				{"src_valid_mark", "sysctl -qw net/ipv4/conf/eth0.100/src_valid_mark=0", "eth0.100/src_valid_mark is 0, not 1"},
				{"forwarding", "sysctl -qw net/ipv4/conf/eth0.100/forwarding=0", "eth0.100/forwarding is 0, not 1"},
				{"accept_redirects", "sysctl -qw net/ipv4/conf/eth0.100/accept_redirects=1", "eth0.100/accept_redirects is 1, not 0"},
				{"send_redirects", "sysctl -qw net/ipv4/conf/eth0.100/send_redirects=1", "eth0.100/send_redirects is 1, not 0"},
			},
		},
	}
}

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
