package veth

import (
	"net/netip"
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// Facts are what an attachment relies on beside its plan, of a request as for CHECK. The plugin has no rules on the node, so
// there is no walk through them; and of marks it takes none there that the pod's packets need.
func Facts(r *plugin.Request) (*plugin.Facts, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	facts := &plugin.Facts{HostEnd: a.hostEnd, PodEnd: a.podEnd}
	if underlay.OnlyMAC(a.config) {
		return facts, nil
	}
	for _, f := range a.families {
		facts.Ways = append(facts.Ways, a.ways(f)...)
		if len(f.Hijack) == 0 {
			continue // the node need not forward for the pod
		}
		// What is behind the node comes back by the interface that it went out by.
		dir := routing.V6Conf + "all"
		if !f.V6 {
			way, err := a.node.RouteGet(routing.Query{To: f.Hijack[0].Addr()})
			if err != nil {
				continue // the node has no way to it now, which is for whoever makes it
			}
			dir = routing.V4Conf + way.Dev
		}
		facts.Settings = append(facts.Settings, &routing.Sysctls{NS: a.node, Dir: dir, Values: routing.Values("forwarding=1")})
	}
	return facts, nil
}

// ways are those of one family.
func (a *attachment) ways(f *family) []plugin.Way {
	ways := []plugin.Way{{Name: "pod to node", NS: a.pod, Query: routing.Query{To: f.Node(), From: f.Source()}, Dev: podEnd}}
	for _, addr := range f.Pods {
		ways = append(ways, plugin.Way{Name: "node to pod", NS: a.node, Query: routing.Query{To: addr}, Dev: a.hostEnd.Name})
	}
	if len(f.Hijack) > 0 && (f.main || a.moves()) {
		ways = append(ways, plugin.Way{
			Name: "pod to what is behind the node", NS: a.pod, Query: routing.Query{To: f.Hijack[0].Addr(), From: f.Source()}, Dev: podEnd,
		})
	}
	// An address for documentation (RFC 5737, RFC 3849) stands for everybody beyond the gateway.
	outside := netip.AddrFrom4([4]byte{198, 51, 100, 1})
	if f.V6 {
		outside = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
	}
	ways = append(ways, plugin.Way{
		Name: "answers to what came in by the node", NS: a.pod, Query: routing.Query{To: outside, From: f.Source(), Mark: underlay.MarkReply}, Dev: podEnd,
	})
	if a.moves() && slices.ContainsFunc(f.Routes, (*routing.Route).IsDefault) {
		ways = append(ways, plugin.Way{
			Name: "from the interface's address to the wire", NS: a.pod, Query: routing.Query{To: outside, From: f.Source()}, Dev: a.eth.Name,
		})
	}
	return ways
}

// OwnsRule reports whether a rule of the node is one of this plugin's: it has none there.
func OwnsRule(routing.ListedRule) bool { return false }
