package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// A routed pod has eth0 by the reference plugin ptp, and net1 (and net2) by macvlan and router.
type routed struct {
	*lab.Pod
	peer string // eth0's other end, on the node
}

// overlayNetwork is the overlay, which none of the project's plugins knows.
func (w *world) overlayNetwork() *lab.Conflist {
	var ranges []any
	routes := []any{}
	for _, f := range w.Options.Stack {
		subnet, all := "10.244.1.0/24", "0.0.0.0/0"
		if f == lab.IPv6 {
			subnet, all = "fd00:10:244:1::/64", "::/0"
		}
		ranges, routes = append(ranges, []any{map[string]any{"subnet": subnet}}), append(routes, map[string]any{"dst": all})
	}
	return &lab.Conflist{CNIVersion: "1.0.0", Name: "overlay", Plugins: []map[string]any{
		{"type": "ptp", "ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}},
	}}
}

// routerNetwork is one of router on the node's wire, for net1 or net2, with gateways and default routes.
func (w *world) routerNetwork(ifName string) *lab.Conflist {
	c := w.vethNetwork("r" + ifName)
	number := map[string]int{"net1": 30, "net2": 40}[ifName]
	var ranges, routes []any
	for _, f := range w.Options.Stack {
		subnet, gateway, all := fmt.Sprintf("10.%d.0.0/24", number), fmt.Sprintf("10.%d.0.1", number), "0.0.0.0/0"
		if f == lab.IPv6 {
			subnet, gateway, all = fmt.Sprintf("fd%d::/64", number), fmt.Sprintf("fd%d::1", number), "::/0"
		}
		ranges = append(ranges, []any{map[string]any{"subnet": subnet, "gateway": gateway}})
		routes = append(routes, map[string]any{"dst": all})
	}
	c.Plugins[0]["ipam"] = map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	c.Plugins[1]["type"], c.Plugins[1]["overlay_hijack_subnet"] = "router", []any{"10.240.0.0/12", "fd00:10:244::/48"}
	return c
}

// overlaid makes a pod with eth0 of the overlay.
func (w *world) overlaid(t *testing.T, name string) *routed {
	t.Helper()
	p := w.pod(t, name)
	must(t, w.n1.AddTo(w.overlayNetwork(), p))
	return &routed{p, p.HostEnd()}
}

// routed makes a pod with attachments of router.
func (w *world) routed(t *testing.T, name string, ifNames ...string) *routed {
	t.Helper()
	p := w.overlaid(t, name)
	for _, ifName := range ifNames {
		p.IfName = ifName
		must(t, w.n1.AddTo(w.routerNetwork(ifName), p.Pod))
	}
	return p
}

// rsh runs a script on the node. {peer} is the overlay's interface there, {pod} runs a command in the pod.
func (w *world) rsh(t *testing.T, p *routed, script string) string {
	t.Helper()
	return w.sh(t, nil, strings.NewReplacer("{peer}", p.peer, "{pod}", "nsenter --net="+p.Path()).Replace(script))
}

// altNames are the further names of the overlay's interface on the node.
func (w *world) altNames(t *testing.T, p *routed) string {
	t.Helper()
	return w.rsh(t, p, "ip -d link show dev {peer} | grep altname || true")
}

// TestRouterFine: nothing is wrong with what an ADD has left, whatever else is on the node, and diagnose changes nothing.
func TestRouterFine(t *testing.T) {
	for name, o := range manyShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			w.added(t, "of veth-host")
			p := w.routed(t, "a", "net1", "net2")
			before, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
			got := map[string]string{}
			for _, a := range d.Attachments {
				got[a.Network+" "+a.IfName] = a.Plugin + " " + a.HostEnd
			}
			if len(d.Attachments) != 3 || got["rnet1 net1"] != "router "+p.peer || got["rnet2 net2"] != "router "+p.peer {
				t.Errorf("got %v", got)
			}
			w.ctl(t, "diagnose", "--fix").want(t, statusFine)
			same(t, "the node", before, dump(t, w.n1.Namespace))
			same(t, "the pod", pod, dump(t, p.Namespace))
			w.ctl(t, "gc").want(t, statusFine)
		})
	}
}

// TestRouterPlan: a shell that runs the plans of both interfaces leaves the node and the pod as ADD does, and plan itself changes
// nothing.
func TestRouterPlan(t *testing.T) {
	for name, o := range manyShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			p := w.overlaid(t, "a")
			for _, ifName := range []string{"net1", "net2"} {
				p.IfName = ifName
				w.planned(t, w.routerNetwork(ifName), p.Pod)
			}
		})
	}
}

// TestRouterOverlays: an overlay as Calico's, whose next hop is no address of the node, and one that the node does not reach
// net1 by: nothing is wrong, and what is spoilt is found.
func TestRouterOverlays(t *testing.T) {
	const calico = `ip link add cali0 address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {ns}; ip link set cali0 up; {pod} ip link set eth0 up
		sysctl -qw net.ipv4.conf.cali0.proxy_arp=1; ip route add 10.244.1.5 dev cali0 scope link; {pod} ip addr add 10.244.1.5/32 dev eth0
		{pod} ip route add 169.254.1.1 dev eth0 scope link; {pod} ip route add default via 169.254.1.1 dev eth0
		sysctl -qw net.ipv6.conf.cali0.proxy_ndp=1; ip -6 route add fd00:10:244:1::5 dev cali0
		{pod} ip addr add fd00:10:244:1::5/128 dev eth0 nodad; {pod} ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0`
	for _, hostRoute := range []bool{true, false} {
		t.Run(fmt.Sprint("host_route ", hostRoute), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := &routed{w.pod(t, "a"), "cali0"}
			w.rsh(t, p, strings.ReplaceAll(calico, "{ns}", p.Path()))
			for _, ifName := range []string{"net1", "net2"} {
				p.IfName = ifName
				c := w.routerNetwork(ifName)
				c.Plugins[1]["host_route"] = hostRoute
				must(t, w.n1.AddTo(c, p.Pod))
			}
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
			if len(d.Attachments) != 2 || hostRoute && d.Attachments[0].HostEnd != "cali0" || slices.ContainsFunc(d.Node, func(f finding) bool { return strings.Contains(f.Object, "rule 1000") }) != hostRoute {
				t.Errorf("got %s", d.show())
			}
			node, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
			w.rsh(t, p, "{pod} ip route del 10.240.0.0/12 table 201; {pod} ip -6 rule del pref 512")
			d = decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			d.find(t, wrong, "net1|pod: pod to what is behind the node|dev net1")
			d.find(t, wrong, "net2|pod: answers to what came in by the overlay|dev net2")
			w.ctl(t, "diagnose", "--fix")
			w.ctl(t, "diagnose").want(t, statusFine)
			same(t, "the node", node, dump(t, w.n1.Namespace))
			same(t, "the pod", pod, dump(t, p.Namespace))
			w.ctl(t, "uninstall", "--yes").want(t, statusFine)
			if out := w.rsh(t, p, "{pod} ip route; {pod} ip -6 route; {pod} ip rule; {pod} ip -d link"); strings.Count(out, "default via") != 2 || strings.Contains(out, "512:") || strings.Contains(out, "router") {
				t.Error(out)
			}
		})
	}
}

// TestDiagnoseOfHijackedWires: subnets of the pod's own are hijacked in vain, by router and by veth, and nothing is wrong with that.
func TestDiagnoseOfHijackedWires(t *testing.T) {
	for name, of := range map[string]func(*testing.T, *world) (*lab.Pod, map[string]*lab.Conflist){
		"router": func(t *testing.T, w *world) (*lab.Pod, map[string]*lab.Conflist) {
			t.Helper()
			return w.overlaid(t, "a").Pod, map[string]*lab.Conflist{"net1": w.routerNetwork("net1"), "net2": w.routerNetwork("net2")}
		},
		"veth": func(t *testing.T, w *world) (*lab.Pod, map[string]*lab.Conflist) {
			t.Helper()
			return w.pod(t, "a"), map[string]*lab.Conflist{"eth0": w.vethNetwork("vnet"), "net1": w.laterNetwork()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p, networks := of(t, w)
			for _, ifName := range slices.Sorted(maps.Keys(networks)) {
				p.IfName = ifName
				c := networks[ifName]
				c.Plugins[1]["overlay_hijack_subnet"] = []any{
					"10.30.0.0/24", "10.10.20.0/24", "10.40.0.0/24", "fd30::/64", "fd20::/64", "fd40::/64", "10.240.0.0/12", "fd00:10:244::/48",
				}
				must(t, w.n1.AddTo(c, p))
			}
			w.ctl(t, "diagnose").want(t, statusFine)
		})
	}
}

// TestRouterDiagnose: what is spoilt is found, in the attachment that it belongs to or on the node. --fix repairs what is ours.
func TestRouterDiagnose(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         string // of find
	}{
		{name: "route to the pod", script: "ip route del 10.30.0.2 table 500", want: "net1|node route 10.30.0.2/32|missing"},
		{name: "path to the pod", script: "ip -6 route del fd40::2 table 500", want: "net2|node: node to pod|"},
		{name: "neighbour on the node", script: "ip neigh replace 10.30.0.2 lladdr 02:00:00:00:00:01 dev {peer}", want: "net1|node: 10.30.0.2 on |02:00:00:00:00:01"},
		{name: "neighbour in the pod", script: "{pod} ip neigh del 10.10.20.152 dev eth0", want: "net1|pod neighbour 10.10.20.152|missing"},
		{name: "altname of an attachment", script: "ip link property del dev {peer} altname $(ip -d link show {peer} | grep -o 'router[.].*net1')", want: "net1|node altname router.|no altname"},
		{name: "altname of a route", script: "ip link property del dev {peer} altname $(ip -d link show {peer} | grep -o 'route[.].*500.10.30.0.2')", want: "net1|node altname route.|no altname"},
		{name: "altname in the pod", script: "{pod} ip link property del dev net1 altname $({pod} ip link show net1 | grep -o 'router[.]pod.*')", want: "net1|pod altname router.pod.|no altname"},
		{name: "hijacked route", script: "{pod} ip route del 172.20.252.0/22", want: "net1|pod route 172.20.252.0/22|missing"},
		{name: "hijacked route of a table", script: "{pod} ip route del 172.20.252.0/22 table 200", want: "net1|pod route 172.20.252.0/22|missing"},
		{name: "path to what is behind the node", script: "{pod} ip -6 route del fd00:10:244::/48 table 201", want: "net1|pod: pod to what is behind the node|"},
		{name: "reply rule", script: "{pod} ip rule del pref 512", want: "net1|pod: answers to what came in by the overlay|"},
		{name: "reply table", script: "{pod} ip -6 route flush table 512", want: "net1|pod route ::/0|missing"},
		{name: "rule of a table", script: "{pod} ip rule del pref 1024 from 10.244.1.2", want: "net1|pod rule 1024|missing"},
		{name: "route to the node", script: "{pod} ip route del 10.10.20.152", want: "net1|pod route 10.10.20.152/32|missing"},
		{name: "the pod's table", script: "{pod} nft delete table inet router", want: "net1|pod firewall|missing"},
		{name: "rp_filter in the pod", script: "{pod} sysctl -qw net.ipv4.conf.eth0.rp_filter=1", want: "net1|pod sysctl|rp_filter"},
		{name: "forwarding", script: "sysctl -qw net.ipv4.conf.{peer}.forwarding=0", want: "node|node sysctl|forwarding is 0"},
		{name: "IPv6 forwarding", script: "sysctl -qw net.ipv6.conf.all.forwarding=0", want: "node|node sysctl|forwarding is 0"},

		{name: "shared rule", script: "ip rule del pref 1000", want: "node|rule 1000 for table 500|missing: the node looks for pods on the wire"},
		{name: "IPv6 shared rule", script: "ip -6 rule del pref 1000", want: "node|IPv6 rule 1000 for table 500|missing"},
		{
			name: "shared rule at the wrong priority", script: "ip rule del pref 1000; ip rule add pref 32800 lookup 500",
			want: "node|rule 1000 for table 500|there is 32800: from all lookup 500",
		},
		{name: "a route of another pod", script: "ip link add cali9 type veth peer name x; ip link set cali9 up; ip route replace 10.30.0.2 dev cali9 table 500", want: "node|route 10.30.0.2/32 in table 500|it is not the pod's"},
		{
			name: "claims without an attachment", script: "for a in $(ip -d link show {peer} | grep -o 'router[.].*net[12]'); do ip link property del dev {peer} altname $a; done",
			want: "node|altname route.|no DEL finds it",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.routed(t, "a", "net1", "net2")
			w.ctl(t, "diagnose").want(t, statusFine)
			node, pod, names := dump(t, w.n1.Namespace), dump(t, p.Namespace), w.altNames(t, p)
			w.rsh(t, p, test.script)
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			d.find(t, wrong, test.want)
			w.ctl(t, "diagnose", "--fix")
			w.ctl(t, "diagnose").want(t, statusFine)
			w.rsh(t, p, "ip link del cali9 2>&- || true; ip rule del pref 32800 2>&- || true")
			for _, d := range []*lab.Dump{&node, &pod} {
				slices.Sort(*d) // of rules with one priority, the repaired one is the last
			}
			same(t, "the node", node, slices.Sorted(slices.Values(dump(t, w.n1.Namespace))))
			same(t, "the pod", pod, slices.Sorted(slices.Values(dump(t, p.Namespace))))
			if sorted(w.altNames(t, p)) != sorted(names) {
				t.Errorf("altnames were\n%sand are\n%s", names, w.altNames(t, p))
			}
		})
	}
}

func sorted(lines string) string {
	all := strings.Fields(lines)
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// find looks for a finding: "attachment or node|object|words of what was found".
func (d diagnosis) find(t *testing.T, v verdict, want string) {
	t.Helper()
	words := strings.SplitN(want, "|", 3)
	is := func(f finding) bool {
		return f.Verdict == v && strings.Contains(f.Object, words[1]) && strings.Contains(f.Found, words[2])
	}
	found := words[0] == "node" && slices.ContainsFunc(d.Node, is)
	for _, a := range d.Attachments {
		found = found || a.IfName == words[0] && slices.ContainsFunc(slices.Concat(a.Objects, a.Paths), is)
	}
	if !found {
		t.Errorf("nothing about %s, %s, among\n%s", want, v, d.show())
	}
}

// TestRouterNotOurs: what is odd and nobody can repair for certain is found, with how bad it is; --fix leaves it.
func TestRouterNotOurs(t *testing.T) {
	for _, test := range []struct {
		name, script string
		verdict      verdict
		want         string
		changes      bool // the plan is another then, which --fix makes
	}{
		{name: "two rules", script: "ip rule add pref 1000 lookup 500", verdict: note, want: "node|rule 1000 for table 500|2 times: 1000: from all lookup 500"},
		{name: "the existing plugin's rule", script: "ip rule del pref 1000; ip rule add pref 1000 lookup 500", verdict: fine, want: "node|rule 1000 for table 500|so"},
		{name: "a second rule at another priority", script: "ip -6 rule add pref 900 lookup 500", verdict: note, want: "node|IPv6 rule 1000 for table 500|a rule of others: 900: from all lookup 500"},
		{name: "a rule of others that looks up the table", script: "ip rule add pref 700 from 192.0.2.0/24 lookup 500", verdict: note, want: "node|rule 1000 for table 500|a rule of others: 700: from 192.0.2.0/24 lookup 500"},
		{name: "a rule in the way", script: "ip rule add pref 900 lookup 77", verdict: risk, want: "net1|node: rules for a packet to the pod|first: 900: from all lookup 77"},
		{name: "a rule that ends the way", script: "ip rule add pref 900 prohibit", verdict: wrong, want: "net2|node: rules for a packet to the pod|first: 900: from all"},
		{name: "a rule that jumps over ours", script: "ip -6 rule add pref 900 goto 32766", verdict: wrong, want: "net1|node: IPv6 rules for a packet to the pod|first: 900: from all goto 32766"},
		{name: "a subnet in the table", script: "ip route add 10.77.0.0/16 via 10.10.20.1 table 500", verdict: risk, want: "node|route 10.77.0.0/16 in table 500|somebody else's"},
		{name: "a default route in the table", script: "ip -6 route add default via fd20::1 table 500", verdict: risk, changes: true, want: "node|route ::/0 in table 500|somebody else's"},
		{name: "a blackhole in the table", script: "ip route add blackhole 10.77.0.1 table 500", verdict: risk, want: "node|route 10.77.0.1/32 in table 500|(no unicast)"},
		{name: "a stale route to a pod", script: "ip route add 10.30.0.99 dev {peer} table 500", verdict: risk, want: "node|route 10.30.0.99/32 in table 500|the pod does not have the address"},
		{name: "a stale route to nobody", script: "ip link add cali9 type veth peer name x; ip link set cali9 up; ip route add 10.30.0.99 dev cali9 table 500", verdict: risk, want: "node|route 10.30.0.99/32 in table 500|no altname tells whose it is"},
		{name: "a route of the existing plugin", script: "{pod} ip addr add 10.30.0.99/32 dev lo; ip route add 10.30.0.99 dev {peer} table 500", verdict: note, want: "node|route 10.30.0.99/32 in table 500|the pod has the address"},
		{name: "a lost default", script: "{pod} ip route del default table 200", verdict: risk, want: "net1|pod: default route of eth0|none: what has its address leaves by another interface"},
		{name: "IPv6 off on the peer", script: "sysctl -qw net.ipv6.conf.{peer}.disable_ipv6=1", verdict: wrong, want: "net1|node sysctl|disable_ipv6"},
		{name: "rp_filter of the node", script: "ip rule del pref 1000; sysctl -qw net.ipv4.conf.all.rp_filter=1", verdict: wrong, want: "net1|node: from the pod, with rp_filter|"},
		{name: "a mark in the pod", script: "{pod} nft 'table ip mesh { chain c { type filter hook output priority 0; meta mark set 0x1539; }; }'", verdict: risk, want: "net2|pod: bits of the mark|table ip mesh, chain c"},
		{name: "a rule for the mark in the pod", script: "{pod} ip rule add pref 300 fwmark 0x1000/0x1000 lookup 99", verdict: risk, want: "net1|pod: bits of the mark|a rule of others: 300"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.routed(t, "a", "net1", "net2")
			w.rsh(t, p, test.script)
			node, pod, names := dump(t, w.n1.Namespace), dump(t, p.Namespace), w.altNames(t, p)
			status := statusFine
			if test.verdict == risk || test.verdict == wrong {
				status = statusFound
			}
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, status))
			d.find(t, test.verdict, test.want)
			if test.verdict == wrong || test.changes {
				return
			}
			w.ctl(t, "diagnose", "--fix").want(t, status)
			same(t, "the node", node, dump(t, w.n1.Namespace))
			same(t, "the pod", pod, dump(t, p.Namespace))
			if got := w.altNames(t, p); got != names {
				t.Errorf("altnames were\n%sand are\n%s", names, got)
			}
		})
	}
}

// TestRouterTable: with another host_rule_table, --fix makes the routes in it, and what the earlier one has left goes.
func TestRouterTable(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net1")
	c := w.routerNetwork("net1")
	c.Plugins[1]["host_rule_table"] = 700
	must(t, w.n1.Write(c))
	d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
	d.find(t, wrong, "net1|node route 10.30.0.2/32|missing")
	d.find(t, risk, "node|altname route.|of an earlier configuration")
	d = decode[diagnosis](t, w.ctl(t, "diagnose", "--fix", "-o", "json").want(t, statusFine))
	d.find(t, repaired, "node|altname route.|of an earlier configuration")
	d = decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
	d.find(t, note, "node|rule 1000 for table 500|none; it stays")
	d.find(t, fine, "node|rule 1000 for table 700|so")
	if out := w.altNames(t, p) + w.rsh(t, p, "ip route show table 500; ip -6 route show table 500"); strings.Contains(out, ".500.") || strings.Contains(out, " dev ") {
		t.Error(out)
	}
	if out := w.rsh(t, p, "ip route show table 700; ip neigh show dev {peer} nud permanent"); strings.Count(out, "10.30.0.2 ") != 2 {
		t.Error(out)
	}
}

// TestRouterUnknown: of attachments that nobody knows but the node's further names, those whose routes have gone are found; and of
// routes' names without an attachment --fix takes what they tell of.
func TestRouterUnknown(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net1")
	w.rsh(t, p, "rm -r /var/lib/cni/results "+confDir+"/*")
	w.ctl(t, "diagnose").want(t, statusFine)
	w.rsh(t, p, "ip route del 10.30.0.2 table 500")
	d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
	d.find(t, wrong, "node|altname route.|no such route")
	w.rsh(t, p, noRouterNames)
	d = decode[diagnosis](t, w.ctl(t, "diagnose", "--fix", "-o", "json").want(t, statusFine))
	d.find(t, repaired, "node|altname route.|no DEL finds it")
	if out := w.altNames(t, p) + w.rsh(t, p, "ip route show table 500; ip -6 route show table 500; ip neigh show dev {peer} nud permanent"); out != "" {
		t.Error(out)
	}
}

// TestRouterSameAddress: two pods with one address, of which the node reaches the later.
func TestRouterSameAddress(t *testing.T) {
	w := newWorld(t, lab.Options{Stack: lab.OnlyIPv4})
	w.routed(t, "a", "net1")
	w.sh(t, nil, "rm -r /var/lib/cni/networks/rnet1")
	w.routed(t, "b", "net1")
	d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
	d.find(t, wrong, "node|address 10.30.0.2|that of the pods behind veth")
	d.find(t, wrong, "net1|node route 10.30.0.2/32|missing")
}

// TestRouterIdle: the shared rule without an attachment is worth to know, for diagnose and for gc, and only uninstall takes it.
func TestRouterIdle(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net1")
	must(t, w.n1.DelFrom(w.routerNetwork("net1"), p.Pod))
	d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
	d.find(t, note, "node|IPv6 rule 1000 for table 500|none; it stays")
	d.find(t, note, "node|rule 1000 for table 500|none; it stays")
	kept := decode[removals](t, w.ctl(t, "gc", "--yes", "-o", "json").want(t, statusFine)).find(t, "rule 1000")
	if kept.Remove || !strings.Contains(kept.Why, "uninstall") {
		t.Errorf("got %+v", kept)
	}
	if out := w.sh(t, nil, "ip rule; ip -6 rule"); strings.Count(out, "1000:") != 2 {
		t.Error(out)
	}
	w.ctl(t, "uninstall", "--yes").want(t, statusFine)
	if out := w.sh(t, nil, "ip rule; ip -6 rule"); strings.Contains(out, "1000:") {
		t.Error(out)
	}
}

// TestRouterBehindBridge: the overlay's interface on the node is a port of a bridge: diagnose asks as the packet comes in, and says
// what an operator may type where a strict rp_filter drops it.
func TestRouterBehindBridge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Stack: lab.DualStack})
	overlay := w.overlayNetwork()
	overlay.Plugins[0]["type"], overlay.Plugins[0]["bridge"], overlay.Plugins[0]["isGateway"] = "bridge", "cni0", true
	p := w.pod(t, "a")
	must(t, w.n1.AddTo(overlay, p))
	p.IfName = "net1"
	must(t, w.n1.AddTo(w.routerNetwork("net1"), p))
	for filter, status := range map[int]int{0: statusFine, 1: statusFound, 2: statusFine} {
		w.sh(t, nil, fmt.Sprintf("sysctl -qw net.ipv4.conf.all.rp_filter=%d net.ipv4.conf.cni0.rp_filter=%[1]d", filter))
		out := w.ctl(t, "diagnose", "-v").want(t, status).stdout
		if strings.Contains(out, "sysctl -w net/ipv4/conf/cni0/rp_filter=2") != (filter == 1) {
			t.Errorf("rp_filter %d:\n%s", filter, out)
		}
	}
}
