package firewall

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
)

// Services describes the rules on the node that the pods of one network of veth need for Services: what the node
// translates for a pod gets the node as its source. Without that the backend would answer the pod straight over
// the wire, and the pod would not know the answer.
type Services struct {
	Owner        string // the plugin
	Network      string // CNI network name; names the rule set
	Group        uint32 // interface group of the network's host ends
	Addr4, Addr6 netip.Addr
	CIDRs        []netip.Prefix // of Services: IPVS translates without saying so
}

// Replies describes the rules in a pod that answer a connection by the interface that it came in by, where the pod's
// routes would have another: a client of a NodePort, say, whose address is kept.
type Replies struct {
	Owner      string // the plugin; names the rule set
	By         string // the interface
	Mark       uint32 // of such connections, and of their packets in both directions
	IPv4, IPv6 bool   // the families that the pod has
	// There says that an earlier interface has written them, as a rule: a look costs less than to write in vain.
	There bool
}

// table is the name in nftables. No network of veth-host can have it: that one's begin with "veth-host-".
func (s Services) table() string { return s.Owner + "." + s.Network }

// Services is the table of one network on the node. What goes into a pod has to be told a source, since the
// pod's host end has no address, and masquerade would choose a VIP on lo; elsewhere the output interface
// knows best: that of a tunnel is its own.
func (nftBackend) Services(ns Namespace, s Services) Change {
	var rules []rule
	toPod := func(match term, addrs ...netip.Addr) {
		for _, addr := range addrs {
			if addr.IsValid() {
				rules = append(rules, rule{[]term{iifgroup(s.Group), oifname("veth*"), match, snatTo(addr)}, "a pod to a Service, to a pod"})
			}
		}
	}
	translated := []term{ctStatusDNAT()}
	toPod(translated[0], s.Addr4, s.Addr6)
	for _, cidr := range s.CIDRs {
		translated = append(translated, ctDaddr(cidr))
		if cidr.Addr().Is6() {
			toPod(ctDaddr(cidr), s.Addr6)
		} else {
			toPod(ctDaddr(cidr), s.Addr4)
		}
	}
	for _, match := range translated {
		rules = append(rules, rule{[]term{iifgroup(s.Group), match, masquerade()}, "a pod to a Service"})
	}
	return &table{ns: ns, name: s.table(), shared: true, chains: []chain{
		base("postrouting", nftables.ChainTypeNAT, "postrouting", *nftables.ChainPriorityNATSource-10, rules),
	}}
}

// Replies is the table in a pod. The packets that come in get the mark too, so that rp_filter, in every mode, looks
// for the way back where the answer will take it (src_valid_mark).
func (nftBackend) Replies(ns Namespace, r Replies) Change {
	return &table{ns: ns, name: r.Owner, there: r.There, chains: []chain{
		base("prerouting", nftables.ChainTypeFilter, "prerouting", *nftables.ChainPriorityMangle, []rule{
			{[]term{iifname(r.By), ctDirection("original"), orCtMark(r.Mark), orMetaMark(r.Mark)}, "came in by " + r.By},
		}),
		base("output", nftables.ChainTypeRoute, "output", *nftables.ChainPriorityMangle, []rule{
			{[]term{ctDirection("reply"), ctMark(r.Mark, true), orMetaMark(r.Mark)}, "answer by " + r.By},
		}),
	}}
}

// openedByPod is the bit of a connection's mark, on a node with the iptables backend, of what a pod of veth has opened:
// POSTROUTING knows no input interface. It is none of those of veth-host, kube-proxy, Calico, Cilium and Istio.
const openedByPod = 0x40

// Services is the same in iptables.
func (b iptBackend) Services(ns Namespace, s Services) Change { return b.services(ns, s) }

func (b iptBackend) services(ns Namespace, s Services) *ruleset {
	set := &ruleset{ns: ns, owner: s.Owner + " " + s.Network, shared: true}
	for _, addr := range []netip.Addr{s.Addr4, s.Addr6} {
		if addr.IsValid() {
			set.add(addr.Is6(), b.variant, s.tables(addr))
		}
	}
	return set
}

// tables are those of the network in the family of the node's address.
func (s Services) tables(addr netip.Addr) []xtable {
	name := func(of string) string { return fmt.Sprintf("%s-%d-%s", chainPrefix(s.Owner), s.Group, of) }
	from, to := "-m devgroup "+srcGroup(s.Group), "-m devgroup "+dstGroup(s.Group)
	opened := "-m connmark " + marked(openedByPod)
	translated := []string{" -m conntrack --ctstate DNAT"}
	for _, cidr := range s.CIDRs {
		if cidr.Addr().Is6() == addr.Is6() {
			translated = append(translated, fmt.Sprintf(" -m conntrack --ctorigdst %s", cidr))
		}
	}
	var post []xrule
	for _, match := range translated {
		post = append(post, xrule{"-o veth+ " + opened + match, fmt.Sprintf("-j SNAT --to-source %s --random-fully", addr), "a pod to a Service, to a pod"})
	}
	for _, match := range translated {
		post = append(post, xrule{opened + match, masqueradeFully, "a pod to a Service"})
	}
	return []xtable{
		{"mangle", []xchain{{name: name("PRE"), from: "PREROUTING", rules: []xrule{
			{from + " -m conntrack --ctdir ORIGINAL", orConnmark(openedByPod), "opened by a pod"},
		}}}},
		{"nat", []xchain{{name: name("POST"), from: "POSTROUTING", rules: post}}},
		{"filter", []xchain{{name: name("FWD"), from: "FORWARD", last: true, rules: []xrule{
			{from, "-j ACCEPT", "from a pod"},
			{to + known, "-j ACCEPT", "to a pod"},
		}}}},
	}
}

// Replies is the same in iptables.
func (b iptBackend) Replies(ns Namespace, r Replies) Change { return b.replies(ns, r) }

func (b iptBackend) replies(ns Namespace, r Replies) *ruleset {
	set := &ruleset{ns: ns, owner: r.Owner, there: r.There}
	name := func(of string) string { return chainPrefix(r.Owner) + "-" + of }
	in := "-i " + r.By + " -m conntrack --ctdir ORIGINAL"
	tables := []xtable{{"mangle", []xchain{
		{name: name("PRE"), from: "PREROUTING", rules: []xrule{
			{in, orConnmark(r.Mark), "came in by " + r.By},
			{in, orMark(r.Mark), "came in by " + r.By},
		}},
		{name: name("OUT"), from: "OUTPUT", rules: []xrule{
			{"-m conntrack --ctdir REPLY -m connmark " + marked(r.Mark), orMark(r.Mark), "answer by " + r.By},
		}},
	}}}
	for _, v6 := range []bool{false, true} {
		if v6 && r.IPv6 || !v6 && r.IPv4 {
			set.add(v6, b.variant, tables)
		}
	}
	return set
}

// chainPrefix begins the names of a plugin's chains of iptables: VETH or ROUTER, never VETH-HOST.
func chainPrefix(owner string) string {
	upper := []byte(owner)
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	return string(upper)
}

func (a *auto) Services(ns Namespace, s Services) Change {
	return &either{auto: a, nft: a.nft.Services(ns, s), ipt: a.ipt.Services(ns, s), try: func(ns Namespace) Change { return nftBackend{}.Services(ns, s) }}
}

func (a *auto) Replies(ns Namespace, r Replies) Change {
	return &either{auto: a, nft: a.nft.Replies(ns, r), ipt: a.ipt.Replies(ns, r), try: func(ns Namespace) Change { return nftBackend{}.Replies(ns, r) }}
}

func (s *sweeping) Services(ns Namespace, d Services) Change {
	anywhere := d
	anywhere.Addr4, anywhere.Addr6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	return &swept{s.backend.Services(ns, d), &leftovers{ns: ns, node: true, table: s.nftLeft(d.table()), halves: func(variant string) []*half {
		return iptBackend{variant}.services(ns, anywhere).halves
	}}, s.only}
}

func (s *sweeping) Replies(ns Namespace, r Replies) Change {
	both := r
	both.IPv4, both.IPv6 = true, true
	return &swept{s.backend.Replies(ns, r), &leftovers{ns: ns, table: s.nftLeft(r.Owner), halves: func(variant string) []*half {
		return iptBackend{variant}.replies(ns, both).halves
	}}, s.only}
}

// ProbeServices tells whether any backend can write the rule set of a network of veth.
func (a *auto) ProbeServices(ns Namespace, s Services) error {
	err := a.nft.ProbeServices(ns, s)
	if err == nil {
		return nil
	}
	return tried(err, a.ipt.ProbeServices(ns, s))
}

func (b nftBackend) ProbeServices(ns Namespace, s Services) error {
	return b.probe(ns, func(ns Namespace) Change { return b.Services(ns, s) })
}

// ProbeReplies tells whether any backend can write the rule set of a pod. There is none that would be proof on the node.
func (a *auto) ProbeReplies(r Replies) error {
	err := a.nft.ProbeReplies(r)
	if err == nil {
		return nil
	}
	return tried(err, a.ipt.ProbeReplies(r))
}

func (b nftBackend) ProbeReplies(r Replies) error {
	return try(func(ns Namespace) Change { return b.Replies(ns, r) })
}

func (b iptBackend) ProbeReplies(r Replies) error {
	return inScratch(func(ns Namespace) Change { return b.Replies(ns, r) })
}

func (b iptBackend) ProbeServices(_ Namespace, s Services) error {
	return inScratch(func(ns Namespace) Change { return b.Services(ns, s) })
}
