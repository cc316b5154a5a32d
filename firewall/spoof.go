package firewall

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Neighbour discovery, by the types of ICMPv6: what a pod has to ask its node, and to answer. Not router advertisements: the
// pod is no router of the node.
const (
	routerSolicitation     = 133
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

// The comments of the rules, in both backends.
const (
	commentAnswer    = "an answer, or what a Service returns"
	commentDiscovery = "neighbour discovery, and nothing else"
	commentSpoofed   = "not from the pod: the node has no route back by that interface"
)

// sourceChains drop what comes in by a host end with a source that the node would not route back by it (BCP 38): a pod
// is what its addresses say, whatever rp_filter is; in IPv6 there is none. They come after conntrack, which knows what is an
// answer, and before all that marks or translates: the source is still what the pod has written.
//
// An answer keeps its source: a Service returns what its backend has said, and conntrack has let the question pass. What belongs
// to no connection (invalid, untracked) has no direction, so it is looked at like what opens one. The kernel's look-up is by
// address and interface alone, without the mark, so it never takes the rules of this project for Services.
//
// The kernel says of 0.0.0.0 to a multicast address and of :: to a link-local one that they are right (nft_fib_ipv4.c,
// nft_fib_ipv6.c), and of fe80::/10 where the host end has such an address. These have rules of their own.
func sourceChains(group uint32) []chain {
	discovery := make([]rule, 0, 4)
	for _, kind := range []byte{routerSolicitation, neighbourSolicitation, neighbourAdvertisement} {
		discovery = append(discovery, rule{[]term{icmpv6Type(kind), verdict("accept")}, commentDiscovery})
	}
	anyone6, linkLocal := netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")
	return []chain{
		base("spoofcheck", nftables.ChainTypeFilter, "prerouting", *nftables.ChainPriorityMangle-10, []rule{
			{[]term{iifgroup(group), gotoChain("source")}, "from a pod"},
		}),
		{name: "source", rules: []rule{
			{[]term{ctDirection("reply"), verdict("accept")}, commentAnswer},
			{[]term{saddr(linkLocal), gotoChain("link-local")}, commentDiscovery},
			{[]term{saddr(anyone6), gotoChain("link-local")}, commentDiscovery},
			{[]term{saddr(netip.MustParsePrefix("0.0.0.0/8")), verdict("drop")}, commentSpoofed},
			{[]term{fibSaddrMissing(), verdict("drop")}, commentSpoofed},
		}},
		{name: "link-local", rules: append(discovery, rule{[]term{verdict("drop")}, commentSpoofed})},
	}
}

// fibSaddrMissing matches a source that the node does not route back by the interface that the packet came in by.
func fibSaddrMissing() term {
	return term{text: "fib saddr . iif oif missing", exprs: load(
		&expr.Fib{Register: reg, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true, ResultOIF: true}, equals(native(0)))}
}

func icmpv6Type(kind byte) term {
	return term{text: fmt.Sprintf("icmpv6 type %d", kind), exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equals([]byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equals([]byte{kind}),
	}}
}

// sourceChain is the same in iptables, of one family: mangle is after conntrack and before DNAT, too. rpfilter is the look-up of
// fib, and takes :: for right; ctdir is no match for what belongs to no connection (xt_conntrack.c, xt_rpfilter's ip6t_rpfilter.c).
func sourceChain(name string, v6 bool) xchain {
	rules := []xrule{{"-m conntrack --ctdir REPLY", "-j RETURN", commentAnswer}}
	if v6 {
		for _, from := range []string{"-s fe80::/10", "-s ::/128"} {
			for _, kind := range []int{routerSolicitation, neighbourSolicitation, neighbourAdvertisement} {
				rules = append(rules, xrule{fmt.Sprintf("%s -p ipv6-icmp -m icmp6 --icmpv6-type %d", from, kind), "-j RETURN", commentDiscovery})
			}
			rules = append(rules, xrule{from, "-j DROP", commentSpoofed})
		}
	} else {
		rules = append(rules, xrule{"-s 0.0.0.0/8", "-j DROP", commentSpoofed})
	}
	return xchain{name: name, rules: append(rules, xrule{"-m rpfilter --invert", "-j DROP", commentSpoofed})}
}
