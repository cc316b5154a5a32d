package veth

import (
	"net/netip"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// Facts are what an attachment relies on beside its plan, of a request as for CHECK. The plugin has no rules on the node, so
// there is no walk through them; and of marks it takes none there but with iptables.
func Facts(r *plugin.Request) (*plugin.Facts, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	facts := &plugin.Facts{HostEnd: a.hostEnd, PodEnd: a.podEnd}
	if underlay.OnlyMAC(a.config) {
		return facts, nil
	}
	facts.PodMarks = underlay.MarkReply
	facts.Marks = firewall.ServicesMarks(a.firewall.Services(a.node, services(a.network, a.config, a.nodeAddrs)))
	for _, f := range a.families {
		behind, err := f.Behind(a.pod)
		if err != nil {
			return nil, err
		}
		facts.Ways = append(facts.Ways, a.ways(f, behind)...)
		if behind.IsValid() { // else the node need not forward for the pod
			facts.Settings = append(facts.Settings, underlay.Forwarding(a.node, behind)...)
		}
	}
	return facts, nil
}

// ways are those of one family, to an address behind the node, too, if that is valid.
func (a *attachment) ways(f *family, behind netip.Addr) []plugin.Way {
	ways := a.byNode(f, behind)
	if a.moves() && f.HasDefault() {
		ways = append(ways, plugin.Way{
			Name: "from the interface's address to the wire", NS: a.pod, Query: routing.Query{To: underlay.Outside(f.V6), From: f.Source()}, Dev: a.wire.Link.Name,
		})
	}
	return ways
}

// byNode are the ways to and by the node, if that has the family.
func (a *attachment) byNode(f *family, behind netip.Addr) []plugin.Way {
	if !f.HasNode() {
		return nil
	}
	ways := []plugin.Way{{Name: "pod to node", NS: a.pod, Query: routing.Query{To: f.Node(), From: f.Source()}, Dev: podEnd}}
	for _, addr := range f.Given {
		ways = append(ways, plugin.Way{Name: "node to pod", NS: a.node, Query: routing.Query{To: addr}, Dev: a.hostEnd.Name})
	}
	if behind.IsValid() && (f.main || a.moves()) {
		ways = append(ways, plugin.Way{
			Name: "pod to what is behind the node", NS: a.pod, Query: routing.Query{To: behind, From: f.Source()}, Dev: podEnd,
		})
	}
	return append(ways, plugin.Way{
		Name: "answers to what came in by the node", NS: a.pod, Query: routing.Query{To: underlay.Outside(f.V6), From: f.Source(), Mark: underlay.MarkReply}, Dev: podEnd,
	})
}

// OwnsRule reports whether a rule of the node is one of this plugin's: it has none there.
func OwnsRule(routing.ListedRule) bool { return false }
