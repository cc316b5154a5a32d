package veth

import (
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// plan is the attachment: every change, in the order in which the kernel gets it. It changes nothing.
func (a *attachment) plan() *plugin.Plan {
	var p plugin.Plan

	a.wire.Address(&p)
	if underlay.OnlyMAC(a.config) || len(a.families) == 0 {
		return &p
	}

	// The node, once per network.
	if a.first {
		p.Add(a.firewall.Services(a.node, services(a.network, a.config, a.nodeAddrs)))
	}

	// The pair: the first interface makes it, later ones find it there. Each says that it uses it.
	if a.first {
		p.Add(&routing.Veth{Host: a.hostEnd, Peer: a.podEnd, PeerMAC: a.podMAC, MTU: a.mtu, Owner: a.owner})
	}
	p.Add(
		&routing.AltName{Link: a.hostEnd, Name: a.user.altname()},
		&routing.LinkUp{Link: a.hostEnd, Alias: a.owner.Alias},
		&routing.LinkUp{Link: a.podEnd},
	)
	a.nodeSysctls(&p)
	a.podSysctls(&p)
	for _, addr := range a.config.VethLinkAddress {
		p.Add(&routing.LinkAddress{Addr: addr, Dev: a.podEnd})
	}

	// Neighbours and routes of the node: to the pod's interface by the pair. A stale one of an earlier pod with the same
	// address is replaced.
	for _, f := range a.families {
		for _, addr := range f.Pods {
			p.Add(
				&routing.Neigh{Addr: addr, Dev: a.hostEnd, MAC: a.podMAC},
				&routing.Route{Table: a.node.Table(routing.MainTable), Dst: underlay.Single(addr), Dev: a.hostEnd, Src: f.Node()},
			)
		}
	}

	// The pod: the node's addresses, and answers to what came in by the node.
	main := a.pod.Table(routing.MainTable)
	for _, f := range a.families {
		f.Neighbours(&p, a.podEnd, a.hostMAC, !a.first)
		if f.main {
			f.NodeRoutes(&p, main, a.podEnd)
			f.Reply(&p, a.pod, a.podEnd)
		}
	}
	p.Add(a.firewall.Replies(a.pod, a.replies()))

	// A later interface's own table: by the node as from the first, by the wire as the interface's routes say.
	for _, f := range a.families {
		if a.own == nil {
			break
		}
		f.NodeRoutes(&p, a.own, a.podEnd)
		f.Copies(&p, a.own)
		f.HijackRoutes(&p, a.own, a.podEnd)
		if a.moves() {
			f.Move(&p, a.pod, a.own)
		}
	}

	// What takes traffic away from where it went so far, last: a half-done ADD never leaves a pod routing into nothing.
	for _, f := range a.families {
		if f.main {
			f.HijackRoutes(&p, main, a.podEnd)
		}
		if f.forsake {
			if f.V6 {
				underlay.IgnoreRouters(&p, a.eth)
			}
			f.Forsake(&p)
		}
	}
	return &p
}

// nodeSysctls touches no sysctl of the node but those of the host end, unless it is asked for more. What it is asked
// for stays: other pods rely on it by then.
func (a *attachment) nodeSysctls(p *plugin.Plan) {
	if a.config.RPFilter.SetHost {
		underlay.RPFilterOfNode(p, a.node, a.rpFilter(), a.hostConf)
	}
	p.Add(&routing.InetConf{Dev: a.hostEnd, Values: routing.Values(a.rpFilter(), "forwarding=1", "send_redirects=0")})
	if a.family(true) != nil {
		p.Add(&routing.Sysctls{NS: a.node, Dir: underlay.V6Conf + a.hostEnd.Name, Values: routing.Values("disable_ipv6=0")})
	}
}

// podSysctls makes every rp_filter work: the way back is looked up as the packet is, with its mark. And a neighbour on
// the wire that takes the pod for a router gets nothing by veth0: a new network namespace has the node's forwarding in
// IPv4, which is on. What wants to forward in the pod turns it on by itself, afterwards.
func (a *attachment) podSysctls(p *plugin.Plan) {
	p.Add(
		&routing.Sysctls{NS: a.pod, Dir: underlay.V4Conf + "all", Values: routing.Values(a.rpFilter())},
		&routing.InetConf{Dev: a.eth, Values: routing.Values(a.rpFilter(), "forwarding=0")},
		&routing.InetConf{Dev: a.podEnd, Values: routing.Values(a.rpFilter(), "src_valid_mark=1", "accept_redirects=0")},
	)
	if a.family(true) == nil {
		return
	}
	p.Add(
		&routing.Sysctls{NS: a.pod, Dir: underlay.V6Conf + a.eth.Name, Values: routing.Values("disable_ipv6=0")},
		&routing.Sysctls{NS: a.pod, Dir: underlay.V6Conf + podEnd, Values: routing.Values("disable_ipv6=0", "accept_redirects=0")},
	)
}
