package router

import (
	"net/netip"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// prefHost is the priority of the node's one rule for the routes to pods, which all of them share.
const prefHost = 1000

// plan is the attachment: every change, in the order in which the kernel gets it. It changes nothing.
func (a *attachment) plan() *plugin.Plan {
	var p plugin.Plan
	a.wire.Address(&p)
	if underlay.OnlyMAC(a.config) {
		return &p
	}

	// The names by which a DEL finds what follows.
	p.Add(&routing.AltName{Link: a.wire.Link, Name: podName(a.wire.Link.Name)})
	if a.peer != nil {
		p.Add(&routing.AltName{Link: a.peer, Name: hostName(a.Attachment)})
		for _, f := range a.families {
			for _, addr := range f.Pods {
				p.Add(&routing.AltName{Link: a.peer, Name: routeName(a.Attachment, a.config.HostRuleTable, addr)})
			}
		}
	}
	a.nodeSysctls(&p)
	a.podSysctls(&p)

	// Neighbours: the node's addresses in the pod, and the pod's new ones on the node.
	for _, f := range a.families {
		if a.peer != nil {
			f.overlay.Neighbours(&p, a.overlay, a.peerMAC, true)
			for _, addr := range f.Pods {
				p.Add(&routing.Neigh{Addr: addr, Dev: a.peer, MAC: a.overlayMAC})
			}
		}
	}

	// addChainedIPRoute: the node reaches the new addresses by the overlay. A stale route of an earlier pod with the same
	// address is replaced; the rule is there for all pods, and stays.
	for _, f := range a.families {
		if a.peer == nil {
			break
		}
		for _, addr := range f.Pods {
			route := hostRoute(a.node, a.config.HostRuleTable, addr, a.peer)
			route.Src = f.source
			p.Add(route)
		}
		if !f.ruled {
			p.Add(&routing.Rule{NS: a.node, V6: f.V6, Pref: prefHost, Table: a.node.Table(a.config.HostRuleTable), Shared: true})
		}
	}

	// addHostIPRoute: the pod reaches the node by the overlay, and so do answers to what came in by it.
	main := a.pod.Table(routing.MainTable)
	for _, f := range a.families {
		f.overlay.NodeRoutes(&p, main, a.overlay)
		f.overlay.Reply(&p, a.pod, a.overlay)
	}
	p.Add(a.firewall.Replies(a.pod, a.replies()))

	// HijackCustomSubnet: overlay, Services and further ranges by the overlay, whatever the default route will be.
	for _, f := range a.families {
		f.overlay.HijackRoutes(&p, main, a.overlay)
	}

	// MigrateRoute: the table of each interface whose routes move, with the ways to the node as in main.
	for _, m := range a.moved {
		for _, f := range m.families {
			f.NodeRoutes(&p, m.table, a.overlay)
			f.Copies(&p, m.table)
			f.HijackRoutes(&p, m.table, a.overlay)
			f.Move(&p, a.pod, m.table)
		}
	}

	// Last, the default routes of main: the new one takes the place of the old one, and the family is never without.
	for _, f := range a.families {
		if f.gets != nil {
			p.Add(f.gets)
		}
	}
	for _, m := range a.moved {
		for _, f := range m.families {
			if !f.forsake {
				continue
			}
			if f.V6 {
				underlay.IgnoreRouters(&p, m.link)
			}
			f.Forsake(&p)
		}
	}
	return &p
}

// hostRoute is the node's route to an address of a pod.
func hostRoute(node *routing.Namespace, table int, addr netip.Addr, peer *routing.Link) *routing.Route {
	return &routing.Route{Table: node.Table(table), Dst: underlay.Single(addr), Dev: peer}
}

// nodeSysctls touches of the node what it cannot do without, unless it is asked for more.
func (a *attachment) nodeSysctls(p *plugin.Plan) {
	if a.config.RPFilter.SetHost {
		underlay.RPFilterOfNode(p, a.node, a.rpFilter(), a.hostConf)
	}
	if a.peer != nil && a.family(true) != nil {
		p.Add(&routing.Sysctls{NS: a.node, Dir: underlay.V6Conf + a.peer.Name, Values: routing.Values("disable_ipv6=0")})
	}
}

// podSysctls makes every rp_filter work: the way back is looked up as the packet is, with its mark. And a neighbour on
// the wire that takes the pod for a router gets nothing by the overlay: a new network namespace has the node's forwarding
// in IPv4, which is on.
func (a *attachment) podSysctls(p *plugin.Plan) {
	p.Add(
		&routing.Sysctls{NS: a.pod, Dir: underlay.V4Conf + "all", Values: routing.Values(a.rpFilter())},
		&routing.InetConf{Dev: a.wire.Link, Values: routing.Values(a.rpFilter(), "forwarding=0")},
		&routing.InetConf{Dev: a.overlay, Values: routing.Values(a.rpFilter(), "src_valid_mark=1")},
	)
	if a.family(true) == nil {
		return
	}
	for _, link := range []*routing.Link{a.wire.Link, a.overlay} {
		p.Add(&routing.Sysctls{NS: a.pod, Dir: underlay.V6Conf + link.Name, Values: routing.Values("disable_ipv6=0")})
	}
}
