// Package underlay is what the plugins veth and router have in common: how a pod reaches its node, the overlay and
// Services by one interface while the wire stays another, and how the routes of one of several interfaces move to a
// table of their own. The plugins decide which interface is which, and in which order the changes come.
package underlay

import (
	"fmt"
	"net/netip"
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Priorities of the rules in the pod, one for each class. Lower numbers come first, so the order of the rules does not
// depend on who was called first.
const (
	PrefReply = 512  // answers to connections that came in by the node's side
	PrefFrom  = 1024 // from the addresses of an interface whose routes have moved
)

// TableReply is the pod's table with everything by the node: answers. It is numbered as the rule that looks it up.
const TableReply = PrefReply

// metricHijack is that of routes to what is behind the node, in IPv4 as in IPv6, where it is the kernel's default. A connected
// route to exactly that prefix has a lower one (0, and 256): it is before the hijack, whichever came first, and leaves it there.
const metricHijack = 1024

// MarkReply is the bit of the mark of connections that came in by the node's side, in the pod.
const MarkReply = 0x1000

// A Family is what a plan needs in IPv4 or in IPv6.
type Family struct {
	V6     bool
	Nodes  []netip.Addr     // addresses of the node; the first is the pod's next hop
	Pods   []netip.Addr     // addresses of the pod's interface, those of Given first; the first is the source of its routes
	Given  []netip.Addr     // those that the result gives to the interface: the node has ways to no others
	Hijack []netip.Prefix   // what is behind the node
	Rivals []*routing.Route // of the pod's interface in the main table, which would be before a hijack
	Routes []*routing.Route // of the pod's interface, as its own table is to hold them
	Main   []*routing.Route // those of them that are default routes in the main table
	Leaves bool             // these leave the main table
	Deaf   []*routing.Link  // interfaces without a default route that get none by router advertisements either

	// Of router, whose way to the node is another plugin's interface:
	Gateway netip.Addr   // the next hop, where the node's addresses are no neighbours; not valid: they are
	MTU     int          // of the routes to and by the node, where that plugin says one of its own; 0: the interface's
	Known   []netip.Addr // addresses of the node to which the interface has a route by itself
	There   bool         // an earlier attachment has made the routes, as a rule
	Static  bool         // routes say proto static, by which they are told from that plugin's
}

// Of is what the wire's interface has of one family.
func Of(v6 bool, w *Wire) Family {
	return Family{V6: v6, Pods: OfFamily(v6, w.Addrs), Given: OfFamily(v6, w.Given)}
}

// HasNode tells whether there are ways by the node: it has the family, and knows an address of the pod's interface in it. Else
// the interface's own routes move as ever.
func (f *Family) HasNode() bool { return len(f.Nodes) > 0 }

// Served are those of some families that the node has.
func Served[F interface{ HasNode() bool }](families []F) []F {
	return slices.DeleteFunc(slices.Clone(families), func(f F) bool { return !f.HasNode() })
}

// Node is the node's address that the pod has as its next hop; not valid if the node does not have the family.
func (f *Family) Node() (node netip.Addr) {
	if f.HasNode() {
		node = f.Nodes[0]
	}
	return node
}

// TellMissing has the log of an ADD tell what its interface does without, where the node does not have the family.
func (f *Family) TellMissing(r *plugin.Request) {
	switch {
	case f.HasNode() || r.Verb != "ADD":
	case len(f.Given) == 0:
		r.Warn(fmt.Sprintf("prevResult.ips gives %s no IPv%d address: it gets no way by the node in IPv%[2]d, not to it, the overlay or Services", r.IfName, map[bool]int{false: 4, true: 6}[f.V6]))
	default:
		r.Warn(fmt.Sprintf("the node has no IPv%d address: %s gets no way by the node in IPv%[1]d, not to it, the overlay or Services", map[bool]int{false: 4, true: 6}[f.V6], r.IfName))
	}
}

// hop is the pod's next hop.
func (f *Family) hop() netip.Addr {
	if f.Gateway.IsValid() {
		return f.Gateway
	}
	return f.Node()
}

// Source is the address of the pod that its routes by the node name; not valid, and the kernel's choice, if the interface
// has none of the family.
func (f *Family) Source() (source netip.Addr) {
	if len(f.Pods) > 0 {
		source = f.Pods[0]
	}
	return source
}

// Neighbours are the node's addresses as permanent neighbours of the pod, by one of its interfaces. there says that an earlier
// attachment has made them, as a rule.
func (f *Family) Neighbours(p *plugin.Plan, by *routing.Link, mac []byte, there bool) {
	for _, addr := range f.Nodes {
		p.Add(&routing.Neigh{Addr: addr, Dev: by, MAC: mac, There: there})
	}
}

// NodeRoutes are routes to the node's addresses, in a table of the pod.
func (f *Family) NodeRoutes(p *plugin.Plan, table *routing.Table, by *routing.Link) {
	for _, addr := range f.Nodes {
		if !slices.Contains(f.Known, addr) {
			p.Add(&routing.Route{Table: table, Dst: routing.Single(addr), Via: f.Gateway, Dev: by, Src: f.Source(), MTU: f.MTU, Static: f.Static, There: f.There})
		}
	}
}

// HijackRoutes are routes to what is behind the node. They name the node as the next hop: on the link, each destination
// would need a neighbour of its own.
func (f *Family) HijackRoutes(p *plugin.Plan, table *routing.Table, by *routing.Link) {
	for _, dst := range f.Hijack {
		p.Add(&routing.Route{Table: table, Dst: dst, Via: f.hop(), Dev: by, Src: f.Source(), Metric: metricHijack, MTU: f.MTU, Static: f.Static, There: f.There})
	}
}

// NoRivals takes away what would be before a hijack in the main table. It comes before that: with the same metric IPv6 would make
// one route of both.
func (f *Family) NoRivals(p *plugin.Plan) {
	for _, r := range f.Rivals {
		p.Add(&routing.NoRoute{Route: r})
	}
}

// rival tells a route that somebody has added to exactly a hijacked prefix, by another next hop, and that would be before the
// hijack or take its place. What is on the link without being connected is one in IPv6 only, where the metric is the same.
func (f *Family) rival(r *routing.Route) bool {
	return slices.Contains(f.Hijack, r.Dst) && !r.Connected() && (r.HasGateway() && r.Metric < metricHijack || r.Metric == metricHijack)
}

// Reply makes answers to connections that came in by an interface leave by it, to whomever. None do where the node does not have
// the family.
func (f *Family) Reply(p *plugin.Plan, pod *routing.Namespace, by *routing.Link) {
	if !f.HasNode() {
		return
	}
	rule := ReplyRule(pod, f.V6)
	rule.Shared = f.There // with the earlier attachment
	p.Add(&routing.Route{Table: pod.Table(TableReply), Dst: routing.All(f.V6), Via: f.hop(), Dev: by, MTU: f.MTU, There: f.There}, rule)
}

// ReplyRule sends what has the mark to the table for answers. The mark is asked for only where a packet begins or ends
// (iif lo): what the pod hands on takes its usual way, and rp_filter asks so too.
func ReplyRule(pod *routing.Namespace, v6 bool) *routing.Rule {
	return &routing.Rule{NS: pod, V6: v6, Pref: PrefReply, Mark: MarkReply, Mask: MarkReply, Iif: "lo", Table: pod.Table(TableReply)}
}

// IsReply tells a rule of ReplyRule.
func IsReply(r routing.ListedRule) bool {
	return r.Kernel() && r.Pref == PrefReply && r.Mark == MarkReply && r.Mask == MarkReply && r.Iif == "lo" && r.Table == TableReply
}

// Fill gives an interface a table of its own: by another interface to the node and to what is behind it, as in main, and
// by the wire as the interface's routes say, but for rivals of a hijack.
func (f *Family) Fill(p *plugin.Plan, table *routing.Table, by *routing.Link) {
	f.NodeRoutes(p, table, by)
	f.HijackRoutes(p, table, by)
	for _, r := range f.Routes { // with the default routes: what is not by the wire is there by then
		if f.rival(r) {
			continue
		}
		c := r.In(table)
		c.There = f.There
		p.Add(c)
	}
}

// Move sends what has one of the interface's addresses to the interface's own table.
func (f *Family) Move(p *plugin.Plan, pod *routing.Namespace, table *routing.Table) {
	for _, addr := range f.Pods {
		p.Add(&routing.Rule{NS: pod, V6: f.V6, Pref: PrefFrom, From: routing.Single(addr), Table: table, Shared: f.There})
	}
}

// Forsake takes the interface's default routes out of the main table, if they leave it, and keeps router advertisements
// from adding them again. It comes last: the copies are there by then.
func (f *Family) Forsake(p *plugin.Plan, link *routing.Link) {
	if f.Leaves && f.V6 && f.HasDefault() {
		p.Add(deaf(link))
	}
	for _, link := range f.Deaf {
		p.Add(deaf(link))
	}
	if !f.Leaves {
		return
	}
	for _, r := range f.Main {
		p.Add(&routing.NoRoute{Route: r})
	}
}

// HasDefault tells whether the interface has a default route, in main or in a table of its own.
func (f *Family) HasDefault() bool { return slices.ContainsFunc(f.Routes, (*routing.Route).IsDefault) }

// Deafen keeps router advertisements from giving default routes to interfaces that have none, beside that of another. Only an ADD does
// so, for its own interface, and for those before it if it brings the first one: what main has by now tells nobody else whether it
// was there then.
func (f *Family) Deafen(r *plugin.Request, links ...*routing.Link) {
	if f.V6 && r.Verb != "CHECK" {
		f.Deaf = append(f.Deaf, links...)
	}
}

func deaf(link *routing.Link) *routing.Sysctls { return routing.Inet6Conf(link, "accept_ra_defrtr=0") }

// Sort gives the family the routes of its interface: those in the main table, and the default route, which an earlier
// ADD may have moved to the interface's own table, or which may be known only by the gateway that the IPAM plugin has
// named: where another interface has a default route already, the interface plugin cannot add one. A gateway that is not on
// the interface's link is none.
func (f *Family) Sort(routes []*routing.Route, own *routing.Table, dev *routing.Link, gateway netip.Addr) error {
	id, err := own.ID()
	if err != nil {
		return err
	}
	var kept []*routing.Route
	hasDefault := false
	for _, r := range routes {
		switch {
		case r.Dst.Addr().Is6() != f.V6:
		case r.InMain():
			f.Routes = append(f.Routes, r)
			if r.IsDefault() {
				hasDefault = true
				f.Main = append(f.Main, r)
			}
		case r.InTable(id) && r.IsDefault():
			kept = append(kept, r)
		}
	}
	switch {
	case hasDefault:
	case len(kept) > 0:
		f.Routes = append(f.Routes, kept...)
	case gateway.IsValid() && onLink(f.Routes, gateway):
		f.Routes = append(f.Routes, &routing.Route{Table: own, Dst: routing.All(f.V6), Via: gateway, Dev: dev})
	}
	return nil
}

// onLink tells whether an address is a neighbour's, as the routes of an interface say.
func onLink(routes []*routing.Route, addr netip.Addr) bool {
	return addr.IsLinkLocalUnicast() && addr.Is6() || slices.ContainsFunc(routes, func(r *routing.Route) bool {
		return !r.IsDefault() && !r.HasGateway() && r.Dst.Contains(addr)
	})
}

// SetHijack gives the family its share of the prefixes, but for a node's address, to which there is a route already. Of the routes
// of the pod's interface it keeps the rivals. Without an address of the node in the family nothing is behind it.
func (f *Family) SetHijack(prefixes []netip.Prefix, routes []*routing.Route) {
	if !f.HasNode() {
		return
	}
	for _, dst := range prefixes {
		isNode := dst.IsSingleIP() && slices.Contains(f.Nodes, dst.Addr())
		if dst.Addr().Is6() == f.V6 && !isNode && !slices.Contains(f.Hijack, dst) {
			f.Hijack = append(f.Hijack, dst)
		}
	}
	for _, r := range routes {
		if r.InMain() && f.rival(r) {
			f.Rivals = append(f.Rivals, r)
		}
	}
}
