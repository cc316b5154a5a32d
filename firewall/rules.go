package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// podTable is the name of the table in a pod, and the prefix of a network's on the node.
const podTable = "veth-host"

// Node is the table of one network on the node:
//
//   - spoofcheck comes first, where the network wants it, see sourceChains;
//   - nodeport marks connections to a NodePort while the port is still in the packet, before DNAT;
//   - prerouting, after DNAT and before routing, sends what comes from a pod through from-pod;
//   - from-pod lets a Service connection of a pod, both directions of it, look up the pod's own table,
//     and everything else the main table;
//   - postrouting gives what goes back into a pod the node's address, so that the reply retraces the
//     way. Never a bare masquerade there: the host end has no address, and a VIP on lo would be chosen.
func (nftBackend) Node(ns Namespace, n Node) Change {
	const most = 100 // nft(8) takes comments of 128 bytes; the name of the table has all of the network's
	prerouting := []rule{
		{terms: []term{iifgroup(n.Group), gotoChain("from-pod")}, comment: "from a pod of " + n.Network[:min(len(n.Network), most)]},
	}
	var chains []chain
	if n.SpoofCheck {
		chains = sourceChains(n.Group)
	}
	return &table{ns: ns, name: podTable + "-" + n.Network, shared: true, chains: append(chains,
		base("nodeport", nftables.ChainTypeFilter, "prerouting", *nftables.ChainPriorityMangle, nodePort(n)),
		base("prerouting", nftables.ChainTypeFilter, "prerouting", *nftables.ChainPriorityNATDest+10, prerouting),
		chain{name: "from-pod", rules: fromPod(n)},
		base("postrouting", nftables.ChainTypeNAT, "postrouting", *nftables.ChainPriorityNATSource-10, postrouting(n)),
	)}
}

func nodePort(n Node) (rules []rule) {
	for _, p := range n.NodePorts {
		rules = append(rules, rule{comment: "a client of a NodePort", terms: []term{
			iifname(n.HostInterface), fibDaddrType("", "local"), l4proto("tcp", "udp", "sctp"), dport(p), orCtMark(n.NodePortMark),
		}})
	}
	return rules
}

func fromPod(n Node) []rule {
	service := func(comment string, match ...term) rule {
		return rule{comment: comment, terms: append(append([]term{ctDirection("original")}, match...), orCtMark(n.ServiceMark))}
	}
	rules := []rule{service("a pod to a Service", ctStatusDNAT())}
	for _, cidr := range n.ServiceCIDRs {
		rules = append(rules, service("a pod to a Service, by IPVS", daddr(cidr)))
	}
	if !n.Masquerade {
		rules = append(rules, service("a pod to the outside: back to the pod, by its own gateway",
			ctStateNew(), fibDaddrOifname(n.HostInterface)))
	}
	return append(rules,
		rule{terms: []term{ctMark(n.ServiceMark, true), orMetaMark(n.ServiceMark), verdict("return")}, comment: "both directions: the pod's table"},
		rule{terms: []term{orMetaMark(n.NodePortMark)}, comment: "all else, and every other reply: main"},
	)
}

// podInterfaces begin the names that CNI plugins give the node's end of a pod's interface: ours, ptp, bridge, Calico, Cilium
// and what is a virtual machine's. By names, because an interface group says of ours alone, and of one network, that
// they are a pod's; and by those only, because whatever else the node has may be the way to the outside.
var podInterfaces = []string{"veth", "cali", "lxc", "tap", "cni"}

// commentToPod is the comment of the rules that keep ipMasq from what another pod of the node receives: it would see the
// node, which policies and pods trust (kubelet's probes).
const commentToPod = "another pod of this node sees the pod"

// wireLikePod tells whether HostInterface has such a name, as in a node that is a container itself.
func (n Node) wireLikePod() bool {
	return slices.ContainsFunc(podInterfaces, func(prefix string) bool { return strings.HasPrefix(n.HostInterface, prefix) })
}

func postrouting(n Node) (rules []rule) {
	to := func(addr netip.Addr, match ...term) {
		if addr.IsValid() {
			rules = append(rules, rule{terms: append(match, snatTo(addr)), comment: "the reply comes back this way"})
		}
	}
	snat := func(match ...term) {
		to(n.Addr4, slices.Clip(match)...)
		to(n.Addr6, slices.Clip(match)...)
	}
	if n.Masquerade {
		snat(iifgroup(n.Group), ctMark(n.ServiceMark, true))
		if n.wireLikePod() {
			rules = append(rules, rule{comment: "ipMasq", terms: []term{iifgroup(n.Group), oifname(n.HostInterface), masquerade()}})
		}
		for _, prefix := range podInterfaces {
			rules = append(rules, rule{comment: commentToPod, terms: []term{iifgroup(n.Group), oifname(prefix + "*"), verdict("accept")}})
		}
		return append(rules, rule{comment: "ipMasq", terms: []term{
			iifgroup(n.Group), ctMark(n.ServiceMark, false), fibDaddrType("!= ", "multicast"), masquerade(),
		}})
	}
	// Without masquerading, what a pod without an underlay gateway opens to the outside keeps its
	// source: only what goes back into a pod, or to a Service, may be translated.
	snat(iifgroup(n.Group), oifgroup(n.Group), ctMark(n.ServiceMark, true))
	snat(iifgroup(n.Group), ctStatusDNAT(), ctMark(n.ServiceMark, true))
	for _, cidr := range n.ServiceCIDRs { // by IPVS, which does not DNAT
		addr := n.Addr4
		if cidr.Addr().Is6() {
			addr = n.Addr6
		}
		to(addr, iifgroup(n.Group), ctDaddr(cidr))
	}
	return rules
}

// Pod is the table in a pod: a connection is answered by the interface it came in by, and the pod hands
// on what the node returns to it, but is no router for its neighbours on the wire.
func (nftBackend) Pod(ns Namespace, p Pod) Change {
	answer := func(mark uint32, by string) rule {
		return rule{terms: []term{ctDirection("reply"), ctMark(mark, true), orMetaMark(mark)}, comment: "answer by " + by}
	}
	return &table{ns: ns, name: podTable, chains: []chain{
		base("prerouting", nftables.ChainTypeFilter, "prerouting", *nftables.ChainPriorityMangle, []rule{
			{terms: []term{iifname(p.Interface), ctDirection("original"), orCtMark(p.NodePortMark)}, comment: "came in by the wire"},
			{terms: []term{iifname(p.Veth), ctDirection("original"), orCtMark(p.ServiceMark)}, comment: "came in by the node"},
		}),
		base("output", nftables.ChainTypeRoute, "output", *nftables.ChainPriorityMangle, []rule{
			answer(p.NodePortMark, p.Interface), answer(p.ServiceMark, p.Veth),
		}),
		base("forward", nftables.ChainTypeFilter, "forward", *nftables.ChainPriorityFilter, []rule{
			{terms: []term{iifname(p.Interface), oifname(p.Veth), ctStateEstablished(), verdict("accept")}, comment: "replies to what the node returned"},
			{terms: []term{iifname(p.Interface), verdict("drop")}, comment: "no router for the wire"},
		}),
		base("postrouting", nftables.ChainTypeNAT, "postrouting", *nftables.ChainPriorityNATSource, []rule{
			{terms: []term{iifname(p.Veth), oifname(p.Interface), masquerade()}, comment: "the backend sees the pod"},
		}),
	}}
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput,
	"forward": nftables.ChainHookForward, "postrouting": nftables.ChainHookPostrouting,
}

func base(name string, kind nftables.ChainType, hook string, priority nftables.ChainPriority, rules []rule) chain {
	return chain{name: name, kind: kind, hook: hooks[hook], hookName: hook, priority: priority, rules: rules}
}

func set(elements []string) string { return fmt.Sprintf("{ %s }", strings.Join(elements, ", ")) }
