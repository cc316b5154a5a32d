package router

import (
	"fmt"
	"net/netip"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// prefHost is the priority of the node's one rule for the routes to pods, which all of them share.
const prefHost = 1000

// plan is the attachment: every change, in the order in which the kernel gets it. It changes nothing. The steps have the
// names of the requirement. Without a peer (host_route false) the node stays as the overlay has made it.
func (a *attachment) plan() *plugin.Plan {
	var p plugin.Plan
	a.wire.Address(&p)
	if underlay.OnlyMAC(a.config) {
		return &p
	}
	a.names(&p)
	a.sysctls(&p)
	a.addChainedIPRoute(&p)
	a.addHostIPRoute(&p)
	a.setupNeighborhood(&p)
	a.hijackCustomSubnet(&p)
	a.migrateRoute(&p)
	if a.bridged && a.peer != nil && a.has(false) {
		p.Then(a.strictBridge)
	}
	return &p
}

// strictBridge is an error where the overlay's bridge drops what the pod sends, since the way back is by a port of it. That is for
// the administrator to change. The kernel goes by the greater one of the bridge's value and all's.
func (a *attachment) strictBridge() error {
	is := func(value string) bool {
		values := routing.Values("rp_filter=" + value)
		return (&routing.InetConf{Dev: a.comesIn, Values: values}).Verify() == nil ||
			(&routing.Sysctls{NS: a.node, Dir: routing.V4Conf + "all", Values: values}).Verify() == nil
	}
	if is("2") || !is("1") {
		return nil
	}
	return fmt.Errorf("the node drops what comes from %s: %s is a port of the bridge %s with rp_filter 1; accepted: 0 or 2", a.IfName, a.peer.Name, a.comesIn.Name)
}

// names are what a DEL finds the rest by: in the pod, and on the node without the pod.
func (a *attachment) names(p *plugin.Plan) {
	for _, name := range a.stale {
		p.Add(&routing.NoAltName{AltName: &routing.AltName{Link: a.wire.Link, Name: name}})
	}
	p.Add(&routing.AltName{Link: a.wire.Link, Name: podName(hostName(a.Attachment))})
	if a.peer == nil {
		p.Add(&routing.AltName{Link: a.overlay, Name: hostName(a.Attachment)})
		return
	}
	p.Add(&routing.AltName{Link: a.peer, Name: hostName(a.Attachment)})
	for _, f := range a.served() {
		for _, addr := range f.Given {
			p.Add(&routing.AltName{Link: a.peer, Name: routeName(a.Attachment, a.config.HostRuleTable, addr)})
		}
	}
}

// sysctls touches of the node what it cannot do without, unless rp_filter asks for more. The node's come first: in a process
// that runs out of descriptors between the two, those of the pod could not be undone.
func (a *attachment) sysctls(p *plugin.Plan) {
	a.rpFilter.OfNode(p, a.node)
	if a.peerOff && a.has(true) {
		p.Add(plugin.Unbelieving(a.peer, true))
	}
	underlay.PodSysctls(p, a.wire.Link, a.overlay, a.rpFilter, a.has(true))
}

// addChainedIPRoute: the node reaches the new addresses by the overlay. A stale route of an earlier pod with the same
// address is replaced; the rule is there for all pods, and stays.
func (a *attachment) addChainedIPRoute(p *plugin.Plan) {
	if a.peer == nil {
		return
	}
	for _, f := range a.served() {
		for _, addr := range f.Given {
			route := hostRoute(a.node, a.config.HostRuleTable, addr, a.peer)
			route.Src = f.source
			p.Add(route)
		}
		if !f.ruled {
			p.Add(&routing.Rule{NS: a.node, V6: f.V6, Pref: prefHost, Table: a.node.Table(a.config.HostRuleTable), Shared: true})
		}
	}
}

// hostRoute is the node's route to an address of a pod.
func hostRoute(node *routing.Namespace, table int, addr netip.Addr, peer *routing.Link) *routing.Route {
	return &routing.Route{Table: node.Table(table), Dst: routing.Single(addr), Dev: peer}
}

// addHostIPRoute: the pod reaches the node by the overlay, and so do answers to what came in by it.
func (a *attachment) addHostIPRoute(p *plugin.Plan) {
	for _, f := range a.served() {
		f.overlay.NodeRoutes(p, a.pod.Table(routing.MainTable), a.overlay)
		f.overlay.Reply(p, a.pod, a.overlay)
	}
	if len(a.served()) > 0 {
		p.Add(a.firewall.Replies(a.pod, a.replies()))
	}
}

// setupNeighborhood: the node's addresses in the pod, and the pod's new ones on the node. They come after the routes to them, by
// which a DEL finds them if this ADD gets no further.
func (a *attachment) setupNeighborhood(p *plugin.Plan) {
	if a.peer == nil {
		return
	}
	for _, f := range a.served() {
		f.overlay.Neighbours(p, a.overlay, a.peerMAC, true)
		for _, addr := range f.Given {
			p.Add(&routing.Neigh{Addr: addr, Dev: a.peer, MAC: a.overlayMAC})
		}
	}
}

// hijackCustomSubnet: overlay, Services and further ranges by the overlay, whatever the default route will be.
func (a *attachment) hijackCustomSubnet(p *plugin.Plan) {
	for _, f := range a.served() {
		f.overlay.NoRivals(p)
		f.overlay.HijackRoutes(p, a.pod.Table(routing.MainTable), a.overlay)
	}
}

// migrateRoute: a table for each interface whose routes move, with the ways to the node as in main. The default routes of
// main come last: the new one takes the place of the old one, and the family is never without.
func (a *attachment) migrateRoute(p *plugin.Plan) {
	for _, m := range a.moved {
		for _, f := range m.families {
			f.Move(p, a.pod, m.table) // by its rule a DEL finds the table, if this ADD gets no further
			f.Fill(p, m.table, a.overlay)
		}
	}
	for _, f := range a.families {
		if f.gets != nil {
			p.Add(f.gets)
		}
		f.Forsake(p, a.wire.Link) // nothing of its own: it only has others be deaf, or is
	}
	for _, m := range a.moved {
		for _, f := range m.families {
			f.Forsake(p, m.link)
		}
	}
}
