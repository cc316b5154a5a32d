package vethhost

import (
	"net/netip"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Priorities of the rules, on the node and in the pod. Lower numbers come first.
const (
	prefMark    = 512  // node: packets marked to take the main table; pod: answers to the wire
	prefNode    = 513  // pod: answers to the node
	prefService = 1022 // node: a Service packet of a pod goes to the per-pod rules
	prefJump    = 1023 // node: everything else jumps over them
	prefPod     = 1024 // node: one per pod; pod: what the node returned to be handed on
	prefEnd     = 1025 // node: where the jump lands

	prefWireMain = 1100 // pod, without ipMasq: what the main table knows better than by its default
	prefWireNode = 1101 // pod, without ipMasq: Services and link-local addresses, to the node
	prefWire     = 1102 // pod, without ipMasq: the outside, by the wire
)

// Tables in the pod, numbered as the rules that look them up first.
const (
	tableUnderlay = prefMark // the interface's own routes: answers to the wire, and what the node returned
	tableNode     = prefNode // everything by the node: answers to the node
)

// defaultMetric6 is below 1024, the metric of the IPv6 default routes that plugins add and that router
// advertisements bring back. IPv4 defaults have metric 0 and are replaced.
const defaultMetric6 = 512

// plan is the attachment: every change, in the order in which the kernel gets it. It changes nothing.
func (a *attachment) plan() *plugin.Plan {
	var p plugin.Plan

	// The node, once per network.
	for _, f := range a.families {
		a.jump(&p, f)
	}
	p.Add(a.firewall.Node(a.node, a.nodeRules()))

	// The node, for this pod. Both ends come up before anything is routed over them.
	p.Add(
		&routing.Veth{Host: a.hostEnd, Peer: a.podEnd, PeerMAC: a.podMAC, MTU: a.mtu, Owner: a.owner},
		plugin.Unbelieving(a.hostEnd, a.family(true) != nil),
		&routing.LinkUp{Link: a.hostEnd, Alias: a.owner.Alias},
		&routing.LinkUp{Link: a.podEnd},
	)
	a.nodeSysctls(&p)
	p.Add(&routing.NoIif{NS: a.node, Pref: prefPod, Iif: a.hostEnd.Name, Except: a.podTable})
	for _, f := range a.families {
		for _, addr := range f.podAddrs {
			p.Add(&routing.Neigh{Addr: addr.Addr(), Dev: a.hostEnd, MAC: a.podMAC})
			host := &routing.Route{Table: a.node.Table(routing.MainTable), Dst: routing.Single(addr.Addr()), Dev: a.hostEnd}
			p.Add(host, &routing.Source{Route: host, Addr: f.node()})
		}
		for _, dst := range f.returned() {
			p.Add(&routing.Route{Table: a.podTable, Dst: dst, Via: f.pod(), Dev: a.hostEnd})
		}
		p.Add(&routing.Rule{NS: a.node, V6: f.v6, Pref: prefPod, Iif: a.hostEnd.Name, Table: a.podTable})
	}

	// The pod.
	a.podSysctls(&p)
	for _, f := range a.families {
		for _, addr := range f.nodeAddrs {
			p.Add(
				&routing.Neigh{Addr: addr, Dev: a.podEnd, MAC: a.owner.MAC},
				&routing.Route{Table: a.pod.Table(routing.MainTable), Dst: routing.Single(addr), Dev: a.podEnd, Src: f.source},
			)
		}
		underlay, byNode := a.pod.Table(tableUnderlay), a.pod.Table(tableNode)
		for _, r := range f.routes {
			p.Add(r.In(underlay))
		}
		p.Add(&routing.Route{Table: byNode, Dst: routing.All(f.v6), Via: f.node(), Dev: a.podEnd, Src: f.source})
		wire, node := uint32(a.config.NodePortMark), uint32(a.config.ServiceMark)
		a.podRule(&p, f, routing.Rule{Pref: prefMark, Mark: wire, Mask: wire})
		a.podRule(&p, f, routing.Rule{Pref: prefNode, Mark: node, Mask: node})
		a.podRule(&p, f, routing.Rule{Pref: prefPod, Iif: a.podEnd.Name})
		a.byWire(&p, f)
	}
	p.Add(a.firewall.Pod(a.pod, a.podRules()))

	// The pod's default route, last: a half-done ADD never leaves a pod routing into nothing.
	for _, f := range a.families {
		p.Add(&routing.Route{
			Table: a.pod.Table(routing.MainTable), Dst: routing.All(f.v6), Via: f.node(), Dev: a.podEnd, Src: f.source, Metric: f.metric(),
			Over: f.replaced,
		})
		for _, r := range f.replaced {
			p.Add(&routing.NoRoute{Route: r})
		}
	}
	return &p
}

// jump keeps the per-pod rules, a list that the kernel walks for every packet of the node, out of the
// way of all packets but the Service packets of pods. Each network has its own pair of rules, so that
// networks with different service marks live side by side.
func (a *attachment) jump(p *plugin.Plan, f *family) {
	rule := func(r routing.Rule) {
		r.NS, r.V6, r.Shared = a.node, f.v6, true
		p.Add(&r)
	}
	main, service := uint32(a.config.NodePortMark), uint32(a.config.ServiceMark)
	rule(routing.Rule{Pref: prefMark, Mark: main, Mask: main, Table: a.node.Table(routing.MainTable)})
	rule(routing.Rule{Pref: prefEnd})
	rule(routing.Rule{Pref: prefService, Mark: service, Mask: service, Goto: prefPod})
	rule(routing.Rule{Pref: prefJump, Mark: 0, Mask: service, Goto: prefEnd})
}

// nodeSysctls touches no sysctl of the node but those of the host end. With src_valid_mark the reverse
// path is looked up as the packet is, with its mark: so every rp_filter of the node works.
func (a *attachment) nodeSysctls(p *plugin.Plan) {
	if a.family(false) != nil {
		p.Add(&routing.InetConf{Dev: a.hostEnd, Values: routing.Values("src_valid_mark=1", "forwarding=1")})
	}
}

// podSysctls lets the pod hand on what the node returns to it, and nothing else change its routes.
// rp_filter is 0 everywhere: an interface without an IPv4 address drops asymmetric packets even in loose
// mode.
func (a *attachment) podSysctls(p *plugin.Plan) {
	if a.family(false) != nil {
		p.Add(&routing.Sysctls{NS: a.pod, Dir: routing.V4Conf + "all", Values: routing.Values("rp_filter=0", "send_redirects=0")})
		for _, dev := range []*routing.Link{a.eth, a.podEnd} {
			p.Add(&routing.InetConf{Dev: dev, Values: routing.Values("rp_filter=0", "send_redirects=0", "accept_redirects=0", "forwarding=1")})
		}
	}
	if a.family(true) == nil {
		return
	}
	v6 := []string{"disable_ipv6=0", "accept_redirects=0"}
	if a.forceForwarding {
		v6 = append(v6, "force_forwarding=1")
	}
	for _, dev := range []*routing.Link{a.eth, a.podEnd} {
		p.Add(routing.Inet6Conf(dev, v6...))
	}
	if !a.forceForwarding {
		// Before Linux 6.17 IPv6 forwards on all interfaces or on none; with accept_ra 2 a router
		// still listens to router advertisements.
		p.Add(
			routing.Inet6Conf(a.eth, "accept_ra=2"),
			&routing.Sysctls{NS: a.pod, Dir: routing.V6Conf + "all", Values: routing.Values("forwarding=1")},
		)
	}
}

// byWire sends what the pod opens to the outside by its own interface, where nobody masquerades it and
// there is a gateway. It needs to know the Services by their addresses; where it does not, the node's
// firewall hands such packets back to the pod. `ip route` shows the same in all cases.
func (a *attachment) byWire(p *plugin.Plan, f *family) {
	if a.config.IPMasq || !f.gateway || len(f.services) == 0 {
		if a.wired { // by an ADD before the configuration changed
			noRules(p, a.pod, f.v6, prefWireMain, prefWireNode, prefWire)
		}
		return
	}
	a.podRule(p, f, routing.Rule{Pref: prefWireMain, NoDefault: true})
	for _, dst := range f.services {
		a.podRule(p, f, routing.Rule{Pref: prefWireNode, To: dst})
	}
	if !f.v6 {
		a.podRule(p, f, routing.Rule{Pref: prefWireNode, To: netip.MustParsePrefix("169.254.0.0/16")})
	}
	a.podRule(p, f, routing.Rule{Pref: prefWire})
}

// podRule adds a rule in the pod. Its pref tells the table.
func (a *attachment) podRule(p *plugin.Plan, f *family, r routing.Rule) {
	r.NS, r.V6, r.Table = a.pod, f.v6, a.pod.Table(podTable(r.Pref))
	p.Add(&r)
}

// podTable is the table that the rules of one pref in the pod look up.
func podTable(pref int) int {
	switch pref {
	case prefMark, prefPod, prefWire:
		return tableUnderlay
	case prefNode:
		return tableNode
	default:
		return routing.MainTable
	}
}

// noRules takes away all rules of some prefs in the pod.
func noRules(p *plugin.Plan, pod *routing.Namespace, v6 bool, prefs ...int) {
	for _, pref := range prefs {
		p.Add(&routing.NoRule{Rule: &routing.Rule{NS: pod, V6: v6, Pref: pref, Table: pod.Table(podTable(pref))}})
	}
}

// leave is the end of the attachment: what the network's pods share stays. On the node the rules go by the host
// end's name, and the pair takes its routes, table and neighbours along. In a pod that lives on, its interface
// gets the default routes back that others had made, and the rules and the underlay table go. Deleting the
// pair takes the kernel's routing lock for long, so what is quick comes first; but until the main table has them
// again, the underlay table keeps the default routes, or a DEL that is killed would lose them.
//
// The pod's firewall rules stay: they name nothing but the pod's own interfaces, the next ADD in the same pod
// finds them, and deleting them would take another RCU grace period of a pod that is going as a rule.
func leave(p *plugin.Plan, hostEnd *routing.Link, owner routing.Owner, pod *routing.Namespace, underlay []*routing.Route) {
	var back []plugin.Change
	for _, r := range underlay {
		if r.IsDefault() && r.Copied() {
			back = append(back, &routing.SpareRoute{Route: r.In(pod.Table(routing.MainTable))}, &routing.NoRoute{Route: r})
		} else {
			p.Add(&routing.NoRoute{Route: r})
		}
	}
	if pod != nil {
		for _, v6 := range []bool{false, true} {
			noRules(p, pod, v6, prefMark, prefNode, prefPod, prefWireMain, prefWireNode, prefWire)
		}
	}
	p.Add(
		&routing.NoIif{NS: hostEnd.NS, Pref: prefPod, Iif: hostEnd.Name},
		&routing.NoLink{Link: hostEnd, Owner: owner},
	)
	p.Add(back...)
}
