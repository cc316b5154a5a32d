package firewall

import (
	"fmt"
	"net/netip"
	"slices"
)

// The same in iptables. PREROUTING of mangle is before DNAT and there is no place after it, so what is for a Service is
// told by its address; and POSTROUTING knows no input interface, so the marks have to tell what came from a pod.
func (b iptBackend) Node(ns Namespace, n Node) Change { return b.node(ns, n) }

func (b iptBackend) node(ns Namespace, n Node) *ruleset {
	s := &ruleset{ns: ns, owner: podTable + " " + n.Network, shared: true}
	for _, addr := range []netip.Addr{n.Addr4, n.Addr6} {
		if addr.IsValid() {
			s.add(addr.Is6(), b.variant, nodeTables(n, addr))
		}
	}
	if len(n.ServiceCIDRs) == 0 {
		s.refuse = ErrNoServiceCIDR
	}
	return s
}

// nodeTables are the tables of one network on the node, in the family of the node's address:
//
//   - SRC drops what is not from the pod, where the network wants it, see sourceChain;
//   - PRE marks connections to a NodePort while the port is still in the packet, and sends what comes from a
//     pod through POD;
//   - POD lets a Service connection of a pod, both directions of it, look up the pod's own table;
//   - POST gives what goes back into a pod the node's address. It comes first, or kube-proxy's masquerade
//     would choose a VIP on lo;
//   - FWD accepts what no rule of others has decided about: the policy of FORWARD may be DROP.
func nodeTables(n Node, addr netip.Addr) []xtable {
	name := func(s string) string { return fmt.Sprintf("%s-%d-%s", podChains, n.Group, s) }
	pre := xchain{name: name("PRE"), from: "PREROUTING", rules: preRules(n, name("POD"))}
	source := xchain{name: name("SRC"), gone: true}
	if n.SpoofCheck {
		source = sourceChain(name("SRC"), addr.Is6())
		pre.rules = append([]xrule{{"-m devgroup " + srcGroup(n.Group), "-j " + source.name, "from a pod"}}, pre.rules...)
	}
	mangle := []xchain{pre, {name: name("POD"), rules: podRules(n, addr)}, source}
	forward := xchain{name: name("FWD"), from: "FORWARD", gone: n.Masquerade}
	if !n.Masquerade {
		forward.rules = []xrule{{
			"-m devgroup " + srcGroup(n.Group) + " -m conntrack --ctdir ORIGINAL --ctstate DNAT -m connmark ! " + marked(n.ServiceMark),
			orMark(n.NodePortMark), "translated, but no Service",
		}}
	}
	mangle = append(mangle, forward)
	return []xtable{
		{"mangle", mangle},
		{"nat", []xchain{{name: name("POST"), from: "POSTROUTING", rules: postRules(n, addr)}}},
		{"filter", []xchain{{name: name("FWD"), from: "FORWARD", last: true, rules: forwardRules(n)}}},
	}
}

func preRules(n Node, pod string) (rules []xrule) {
	for _, match := range nodePortMatches(n) {
		rules = append(rules, xrule{"-i " + n.HostInterface + match, orConnmark(n.NodePortMark), "a client of a NodePort"})
	}
	return append(rules, xrule{"-m devgroup " + srcGroup(n.Group), "-g " + pod, "from a pod"})
}

// nodePortMatches match the NodePorts, without what comes before.
func nodePortMatches(n Node) (matches []string) {
	for _, p := range n.NodePorts {
		for _, proto := range []string{"tcp", "udp", "sctp"} {
			matches = append(matches, fmt.Sprintf(" -p %s -m addrtype --dst-type LOCAL -m %[1]s --dport %d:%d", proto, p.First, p.Last))
		}
	}
	return matches
}

func podRules(n Node, addr netip.Addr) (rules []xrule) {
	for _, cidr := range n.ServiceCIDRs {
		if cidr.Addr().Is6() == addr.Is6() {
			rules = append(rules, xrule{fmt.Sprintf("-d %s -m conntrack --ctdir ORIGINAL", cidr), orConnmark(n.ServiceMark), "a pod to a Service"})
		}
	}
	for _, match := range nodePortMatches(n) {
		rules = append(rules, xrule{"-m conntrack --ctdir ORIGINAL" + match, orConnmark(n.ServiceMark), "a pod to a NodePort of its node"})
	}
	rest := xrule{"", orMark(n.NodePortMark), "all else, and every other reply: main"}
	if !n.Masquerade { // POST would take the mark for a reason to masquerade
		rest = xrule{"-m conntrack --ctdir REPLY", orMark(n.NodePortMark), "every other reply: main"}
	}
	return append(rules,
		xrule{"-m connmark " + marked(n.ServiceMark), orMark(n.ServiceMark), "both directions: the table of the pod"},
		xrule{"-m connmark " + marked(n.ServiceMark), "-j RETURN", "both directions: the table of the pod"},
		rest,
	)
}

func postRules(n Node, addr netip.Addr) []xrule {
	service, back := "-m connmark "+marked(n.ServiceMark), "the reply comes back this way"
	own := "-m mark " + marked(n.NodePortMark)
	rest := xrule{own, masqueradeFully, "translated, but no Service"}
	var toPods []xrule
	if n.Masquerade {
		if n.wireLikePod() {
			toPods = append(toPods, xrule{"-o " + n.HostInterface + " " + own, masqueradeFully, "ipMasq"})
		}
		for _, prefix := range podInterfaces { // what is translated, but no Service, has to come back this way
			toPods = append(toPods, xrule{"-o " + prefix + "+ " + own + " -m conntrack ! --ctstate DNAT", "-j RETURN", commentToPod})
		}
		rest = xrule{own + " -m addrtype ! --dst-type MULTICAST", masqueradeFully, "ipMasq"}
	}
	return slices.Concat([]xrule{
		{service + " -m devgroup " + dstGroup(n.Group), fmt.Sprintf("-j SNAT --to-source %s --random-fully", addr), back},
		// What the main table sends out, for a pod without a gateway; not into pods of other networks, whose host ends have
		// no address to masquerade with.
		{service + " ! -o veth+", masqueradeFully, back},
	}, toPods, []xrule{rest})
}

// known matches in FORWARD what belongs to a connection that a pod has opened, or that somebody else has by a translation.
const known = " -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"

// forwardRules accept what a policy of DROP would drop. A pod opens connections to the outside by the node
// only with ipMasq; what others open to a pod by the node is translated.
func forwardRules(n Node) []xrule {
	from := []xrule{
		{"-m devgroup " + srcGroup(n.Group) + known, "-j ACCEPT", "from a pod"},
		{"-m devgroup " + srcGroup(n.Group) + " -m connmark " + marked(n.ServiceMark), "-j ACCEPT", "from a pod to a Service"},
	}
	if n.Masquerade {
		from = []xrule{{"-m devgroup " + srcGroup(n.Group), "-j ACCEPT", "from a pod"}}
	}
	return append(from, xrule{"-m devgroup " + dstGroup(n.Group) + known, "-j ACCEPT", "to a pod"})
}

// Pod is the same as the nftables backend's, in the families that the pod has. That a connection came in by the
// node, its mark tells.
func (b iptBackend) Pod(ns Namespace, p Pod) Change { return b.pod(ns, p) }

func (b iptBackend) pod(ns Namespace, p Pod) *ruleset {
	s := &ruleset{ns: ns, owner: podTable}
	name := func(s string) string { return podChains + "-" + s }
	answer := func(mark uint32, by string) xrule {
		return xrule{"-m conntrack --ctdir REPLY -m connmark " + marked(mark), orMark(mark), "answer by " + by}
	}
	tables := []xtable{
		{"mangle", []xchain{
			{name: name("PRE"), from: "PREROUTING", rules: []xrule{
				{"-i " + p.Interface + " -m conntrack --ctdir ORIGINAL", orConnmark(p.NodePortMark), "came in by the wire"},
				{"-i " + p.Veth + " -m conntrack --ctdir ORIGINAL", orConnmark(p.ServiceMark), "came in by the node"},
			}},
			{name: name("OUT"), from: "OUTPUT", rules: []xrule{answer(p.NodePortMark, p.Interface), answer(p.ServiceMark, p.Veth)}},
		}},
		{"nat", []xchain{{name: name("POST"), from: "POSTROUTING", rules: []xrule{
			{"-o " + p.Interface + " -m connmark " + marked(p.ServiceMark), masqueradeFully, "the backend sees the pod"},
		}}}},
		{"filter", []xchain{{name: name("FWD"), from: "FORWARD", rules: []xrule{
			{"-i " + p.Interface + " -o " + p.Veth + " -m conntrack --ctstate RELATED,ESTABLISHED", "-j ACCEPT", "replies to what the node returned"},
			{"-i " + p.Interface, "-j DROP", "no router for the wire"},
		}}}},
	}
	for _, v6 := range []bool{false, true} {
		if v6 && p.IPv6 || !v6 && p.IPv4 {
			s.add(v6, b.variant, tables)
		}
	}
	return s
}

// podChains begins the names of all chains of iptables; a network's have its interface group in them.
const podChains = "VETH-HOST"

const masqueradeFully = "-j MASQUERADE --random-fully"

func srcGroup(group uint32) string { return fmt.Sprintf("--src-group %#x", group) }
func dstGroup(group uint32) string { return fmt.Sprintf("--dst-group %#x", group) }

func marked(bits uint32) string     { return fmt.Sprintf("--mark %#x/%#[1]x", bits) }
func orMark(bits uint32) string     { return fmt.Sprintf("-j MARK --or-mark %#x", bits) }
func orConnmark(bits uint32) string { return fmt.Sprintf("-j CONNMARK --or-mark %#x", bits) }
