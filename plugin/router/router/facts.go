package router

import (
	"fmt"
	"net/netip"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// Facts are what an attachment relies on beside its plan, of a request as for CHECK.
func Facts(r *plugin.Request) (*plugin.Facts, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	facts := &plugin.Facts{HostEnd: a.peer, PodEnd: a.overlay}
	if underlay.OnlyMAC(a.config) {
		return facts, nil
	}
	facts.PodMarks = underlay.MarkReply
	if a.peer != nil {
		facts.Tables, facts.Names = []int{a.config.HostRuleTable}, []string{hostName(a.Attachment)}
	}
	for _, f := range a.families {
		behind, err := f.overlay.Behind(a.pod)
		if err != nil {
			return nil, err
		}
		if f.HasNode() {
			facts.Ways = append(facts.Ways, a.byOverlay(f, behind)...)
		}
		facts.Ways = append(facts.Ways, a.byWire(f)...)
		if a.peer == nil || !f.HasNode() {
			continue
		}
		for _, addr := range f.Given {
			facts.Names = append(facts.Names, routeName(a.Attachment, a.config.HostRuleTable, addr))
		}
		facts.Walks = append(facts.Walks, plugin.Walk{Name: "a packet to the pod", V6: f.V6, Prefs: []int{prefHost}, Same: a.same})
		if behind.IsValid() {
			facts.Settings = append(facts.Settings, underlay.Forwarding(a.node, behind)...)
			if !f.V6 {
				facts.Settings = append(facts.Settings, &routing.Sysctls{NS: a.node, Dir: routing.V4Conf + a.comesIn.Name, Values: routing.Values("forwarding=1")})
			}
		}
	}
	facts.Oddities = a.lostDefaults()
	return facts, nil
}

// same tells a rule that does the same as ours, whoever has made it, and wherever.
func (a *attachment) same(r routing.ListedRule) bool { return looksUp(r, a.config.HostRuleTable) }

// byOverlay are the ways to and by the node, in one family that it has; to an address behind it, too, if that is valid.
func (a *attachment) byOverlay(f *family, behind netip.Addr) []plugin.Way {
	eth, outside := a.overlay.Name, underlay.Outside(f.V6)
	ways := []plugin.Way{
		{Name: "pod to node", NS: a.pod, Query: routing.Query{To: f.Node(), From: f.Source()}, Dev: eth},
		{Name: "answers to what came in by the overlay", NS: a.pod, Query: routing.Query{To: outside, From: f.Source(), Mark: underlay.MarkReply}, Dev: eth},
	}
	if a.peer != nil {
		for _, addr := range f.Given {
			ways = append(ways, plugin.Way{Name: "node to pod", NS: a.node, Query: routing.Query{To: addr}, Dev: a.peer.Name})
		}
	}
	if a.peer != nil && !f.V6 { // IPv6 has no rp_filter
		ways = append(
			ways,
			a.fromPod(f),
			plugin.Way{
				Name: "a client by the node, with rp_filter", NS: a.pod,
				Query: routing.Query{To: f.Source(), From: outside, Iif: a.overlay, Mark: underlay.MarkReply}, Dev: "lo",
			},
		)
	}
	if behind.IsValid() {
		ways = append(ways, plugin.Way{
			Name: "pod to what is behind the node", NS: a.pod, Query: routing.Query{To: behind, From: f.Source()}, Dev: eth,
		})
	}
	return ways
}

// byWire are the ways of one family by the interfaces of those who have the default routes.
func (a *attachment) byWire(f *family) (ways []plugin.Way) {
	net1, outside := a.wire.Link.Name, underlay.Outside(f.V6)
	byWire := f.gets != nil || len(f.Main) > 0 // main is its
	for _, m := range a.moved {
		for _, of := range m.families {
			if of.V6 != f.V6 || !of.HasDefault() {
				continue
			}
			if m.link == a.wire.Link {
				byWire = true
			} else {
				ways = append(ways, plugin.Way{
					Name: "from the address of " + m.link.Name + " to beyond", NS: a.pod, Query: routing.Query{To: outside, From: of.Source()}, Dev: m.link.Name,
				})
			}
		}
	}
	if byWire {
		ways = append(ways, plugin.Way{Name: "from the interface's address to the wire", NS: a.pod, Query: routing.Query{To: outside, From: f.Source()}, Dev: net1})
	}
	return ways
}

// fromPod is the way of what the pod sends to the node. The way back is by the peer, so that a strict bridge drops it.
func (a *attachment) fromPod(f *family) plugin.Way {
	way := plugin.Way{Name: "from the pod, with rp_filter", NS: a.node, Query: routing.Query{To: f.Node(), From: f.Source(), Iif: a.comesIn}, Dev: "lo"}
	if a.bridged {
		way.Advice = fmt.Sprintf("sysctl -w %s # %s is a port of this bridge, and table %d's route is by %[2]s",
			quote.Sh("net/ipv4/conf/"+a.comesIn.Name+"/rp_filter=2"), quote.Sh(a.peer.Name), a.config.HostRuleTable)
	}
	return way
}

// lostDefaults tells of an overlay without a default route, in main and in the table that its routes have moved to. No plan
// has it: nobody but the overlay's plugin knows that there was one.
func (a *attachment) lostDefaults() (all []plugin.Oddity) {
	for _, m := range a.moved {
		for _, of := range m.families {
			if m.link.Name != a.overlay.Name || of.HasDefault() {
				continue
			}
			all = append(all, plugin.Oddity{
				Object: "pod: default route of " + m.link.Name, Expected: fmt.Sprintf("%s dev %s in table %s", routing.All(of.V6), quote.Sh(m.link.Name), m.table),
				Found: "none: what has its address leaves by another interface", Weight: plugin.Risk,
				Advice: fmt.Sprintf("# if the overlay gave it one: %s, with the overlay's next hop",
					a.pod.Command(fmt.Sprintf("ip route add default via NEXTHOP dev %s table %s", quote.Sh(m.link.Name), m.table))),
			})
		}
	}
	return all
}
