package veth

import (
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// plan is the attachment: every change, in the order in which the kernel gets it. It changes nothing. The steps have the
// names of the requirement.
func (a *attachment) plan() *plugin.Plan {
	var p plugin.Plan
	a.wire.Address(&p)
	if underlay.OnlyMAC(a.config) || len(a.families) == 0 {
		return &p
	}
	if a.first { // on the node, once per network
		p.Add(a.firewall.Services(a.node, services(a.network, a.config, a.nodeAddrs)))
	}
	a.rpFilter.OfNode(&p, a.node)
	a.setupVeth(&p)
	a.setupNeighborhood(&p)
	a.setupRoutes(&p)
	a.migrateRoute(&p)
	return &p
}

// setupVeth: the first interface makes the pair, later ones find it there. Each says that it uses it. The node's other
// sysctls stay as they are, unless rp_filter asks for more.
func (a *attachment) setupVeth(p *plugin.Plan) {
	if a.first {
		p.Add(&routing.Veth{Host: a.hostEnd, Peer: a.podEnd, PeerMAC: a.podMAC, MTU: a.mtu, Owner: a.owner})
	}
	p.Add(
		&routing.AltName{Link: a.hostEnd, Name: a.user.altname()},
		plugin.Unbelieving(a.hostEnd, a.has(true)),
		&routing.LinkUp{Link: a.hostEnd, Alias: a.owner.Alias},
		&routing.LinkUp{Link: a.podEnd},
		&routing.InetConf{Dev: a.hostEnd, Values: routing.Values(a.rpFilter.String(), "forwarding=1", "send_redirects=0")},
	)
	underlay.PodSysctls(p, a.wire.Link, a.podEnd, a.rpFilter, a.has(true), "accept_redirects=0")
	for _, addr := range a.config.VethLinkAddress {
		p.Add(&routing.LinkAddress{Addr: addr, Dev: a.podEnd})
	}
}

// setupNeighborhood: the node's addresses in the pod, and the pod's on the node.
func (a *attachment) setupNeighborhood(p *plugin.Plan) {
	for _, f := range a.served() {
		f.Neighbours(p, a.podEnd, a.hostMAC, !a.first)
		for _, addr := range f.Given {
			p.Add(&routing.Neigh{Addr: addr, Dev: a.hostEnd, MAC: a.podMAC})
		}
	}
}

// setupRoutes: the node and the pod reach each other by the pair, and so do answers to what came in by it. A stale route
// of an earlier pod with the same address is replaced.
func (a *attachment) setupRoutes(p *plugin.Plan) {
	for _, f := range a.served() {
		for _, addr := range f.Given {
			p.Add(&routing.Route{Table: a.node.Table(routing.MainTable), Dst: routing.Single(addr), Dev: a.hostEnd, Src: f.Node()})
		}
		if f.main {
			f.NodeRoutes(p, a.pod.Table(routing.MainTable), a.podEnd)
			f.Reply(p, a.pod, a.podEnd)
		}
	}
	if len(a.served()) > 0 {
		p.Add(a.firewall.Replies(a.pod, a.replies()))
	}
}

// migrateRoute: a later interface's own table, with the ways to the node as in main. What takes traffic away from where it
// went so far comes last: a half-done ADD never leaves a pod routing into nothing.
func (a *attachment) migrateRoute(p *plugin.Plan) {
	for _, f := range a.families {
		if a.own == nil {
			break
		}
		f.Fill(p, a.own, a.podEnd)
		if a.moves() {
			f.Move(p, a.pod, a.own)
		}
	}
	for _, f := range a.families {
		f.NoRivals(p)
		if f.main {
			f.HijackRoutes(p, a.pod.Table(routing.MainTable), a.podEnd)
		}
		f.Forsake(p, a.wire.Link)
		for _, heir := range f.heirs {
			heir.Forsake(p, heir.link)
		}
	}
}
