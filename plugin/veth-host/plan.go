package main

import (
	"net/netip"
	"strings"

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
		&routing.Veth{Host: a.hostEnd, Peer: a.podEnd, HostMAC: a.hostMAC, PeerMAC: a.podMAC, MTU: a.mtu, Owner: a.owner},
		&routing.LinkUp{Link: a.hostEnd, Alias: a.owner.Alias},
		&routing.LinkUp{Link: a.podEnd},
	)
	a.nodeSysctls(&p)
	p.Add(&routing.NoIif{NS: a.node, Pref: prefPod, Iif: a.hostEnd.Name, Except: a.podTable})
	for _, f := range a.families {
		for _, addr := range f.podAddrs {
			p.Add(&routing.Neigh{Addr: addr.Addr(), Dev: a.hostEnd, MAC: a.podMAC})
			host := &routing.Route{Table: a.node.Table(routing.MainTable), Dst: single(addr.Addr()), Dev: a.hostEnd}
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
				&routing.Neigh{Addr: addr, Dev: a.podEnd, MAC: a.hostMAC},
				&routing.Route{Table: a.pod.Table(routing.MainTable), Dst: single(addr), Dev: a.podEnd, Src: f.source},
			)
		}
		underlay, byNode := a.pod.Table(tableUnderlay), a.pod.Table(tableNode)
		for _, r := range f.routes {
			p.Add(r.In(underlay))
		}
		p.Add(&routing.Route{Table: byNode, Dst: f.all(), Via: f.node(), Dev: a.podEnd, Src: f.source})
		p.Add(
			&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefMark, Mark: a.nodePortMark, Mask: a.nodePortMark, Table: underlay},
			&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefNode, Mark: a.serviceMark, Mask: a.serviceMark, Table: byNode},
			&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefPod, Iif: a.podEnd.Name, Table: underlay},
		)
		a.wire(&p, f)
	}
	p.Add(a.firewall.Pod(a.pod, a.podRules()))

	// The pod's default route, last: a half-done ADD never leaves a pod routing into nothing.
	for _, f := range a.families {
		p.Add(&routing.Route{
			Table: a.pod.Table(routing.MainTable), Dst: f.all(), Via: f.node(), Dev: a.podEnd, Src: f.source, Metric: f.metric(),
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
	rule(routing.Rule{Pref: prefMark, Mark: a.nodePortMark, Mask: a.nodePortMark, Table: a.node.Table(routing.MainTable)})
	rule(routing.Rule{Pref: prefEnd})
	rule(routing.Rule{Pref: prefService, Mark: a.serviceMark, Mask: a.serviceMark, Goto: prefPod})
	rule(routing.Rule{Pref: prefJump, Mark: 0, Mask: a.serviceMark, Goto: prefEnd})
}

// nodeSysctls touches no sysctl of the node but those of the host end. With src_valid_mark the reverse
// path is looked up as the packet is, with its mark: so every rp_filter of the node works.
func (a *attachment) nodeSysctls(p *plugin.Plan) {
	if a.family(false) != nil {
		p.Add(&routing.InetConf{Dev: a.hostEnd, Values: values("src_valid_mark=1", "forwarding=1")})
	}
	if a.family(true) != nil {
		p.Add(&routing.Sysctls{NS: a.node, Dir: v6conf + a.hostEnd.Name, Values: values("disable_ipv6=0")})
	}
}

// podSysctls lets the pod hand on what the node returns to it, and nothing else change its routes.
// rp_filter is 0 everywhere: an interface without an IPv4 address drops asymmetric packets even in loose
// mode.
func (a *attachment) podSysctls(p *plugin.Plan) {
	if a.family(false) != nil {
		p.Add(&routing.Sysctls{NS: a.pod, Dir: v4conf + "all", Values: values("rp_filter=0", "send_redirects=0")})
		for _, dev := range []*routing.Link{a.eth, a.podEnd} {
			p.Add(&routing.InetConf{Dev: dev, Values: values("rp_filter=0", "send_redirects=0", "accept_redirects=0", "forwarding=1")})
		}
	}
	if a.family(true) == nil {
		return
	}
	v6 := values("disable_ipv6=0", "accept_redirects=0")
	if a.forceForwarding {
		v6 = append(v6, values("force_forwarding=1")...)
	}
	for _, dev := range []*routing.Link{a.eth, a.podEnd} {
		p.Add(&routing.Sysctls{NS: a.pod, Dir: v6conf + dev.Name, Values: v6})
	}
	if !a.forceForwarding {
		// Before Linux 6.17 IPv6 forwards on all interfaces or on none; with accept_ra 2 a router
		// still listens to router advertisements.
		p.Add(
			&routing.Sysctls{NS: a.pod, Dir: v6conf + a.eth.Name, Values: values("accept_ra=2")},
			&routing.Sysctls{NS: a.pod, Dir: v6conf + "all", Values: values("forwarding=1")},
		)
	}
}

const (
	v4conf = "net/ipv4/conf/"
	v6conf = "net/ipv6/conf/"
)

// values are written as sysctl(8) takes them: key=value.
func values(assignments ...string) (vs []routing.Value) {
	for _, a := range assignments {
		key, value, _ := strings.Cut(a, "=")
		vs = append(vs, routing.Value{Key: key, Value: value})
	}
	return vs
}

// wire sends what the pod opens to the outside by its own interface, where nobody masquerades it and
// there is a gateway. It needs to know the Services by their addresses; where it does not, the node's
// firewall hands such packets back to the pod. `ip route` shows the same in all cases.
func (a *attachment) wire(p *plugin.Plan, f *family) {
	if a.masquerade || !f.gateway || len(f.services) == 0 {
		return
	}
	main := a.pod.Table(routing.MainTable)
	p.Add(&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefWireMain, Table: main, NoDefault: true})
	for _, dst := range f.services {
		p.Add(&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefWireNode, To: dst, Table: main})
	}
	if !f.v6 {
		p.Add(&routing.Rule{NS: a.pod, Pref: prefWireNode, To: netip.MustParsePrefix("169.254.0.0/16"), Table: main})
	}
	p.Add(&routing.Rule{NS: a.pod, V6: f.v6, Pref: prefWire, Table: a.pod.Table(tableUnderlay)})
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
