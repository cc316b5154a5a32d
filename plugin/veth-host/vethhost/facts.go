package vethhost

import (
	"net/netip"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Facts are what an attachment relies on beside its plan, of a request as for CHECK.
func Facts(r *plugin.Request) (*plugin.Facts, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	main, service := uint32(a.config.NodePortMark), uint32(a.config.ServiceMark)
	facts := &plugin.Facts{Marks: main | service, HostEnd: a.hostEnd, PodEnd: a.podEnd}
	for _, f := range a.families {
		facts.Ways = append(facts.Ways, a.ways(f)...)
		facts.Walks = append(
			facts.Walks,
			plugin.Walk{Name: "a Service packet of the pod", V6: f.v6, Iif: a.hostEnd.Name, Mark: service, Prefs: []int{prefService, prefPod}},
			plugin.Walk{Name: "any other packet of the pod", V6: f.v6, Iif: a.hostEnd.Name, Mark: main, Prefs: []int{prefMark}},
			plugin.Walk{Name: "a packet that is no pod's", V6: f.v6, Prefs: []int{prefJump, prefEnd}},
		)
		dir := routing.V4Conf + a.hostName
		if f.v6 {
			dir = routing.V6Conf + "all"
		}
		facts.Settings = append(facts.Settings, &routing.Sysctls{NS: a.node, Dir: dir, Values: routing.Values("forwarding=1")})
	}
	return facts, nil
}

// Addresses for documentation (RFC 5737, RFC 3849) stand for everybody beyond the gateway.
var (
	outside4 = netip.AddrFrom4([4]byte{198, 51, 100, 1})
	outside6 = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
)

// ways are those of one family.
func (a *attachment) ways(f *family) []plugin.Way {
	main, service := uint32(a.config.NodePortMark), uint32(a.config.ServiceMark)
	ways := []plugin.Way{
		{Name: "node to pod", NS: a.node, Query: routing.Query{To: f.pod()}, Dev: a.hostEnd.Name},
		{Name: "pod to node", NS: a.pod, Query: routing.Query{To: f.node()}, Dev: a.podEnd.Name},
	}
	if len(f.services) > 0 {
		ways = append(ways, plugin.Way{Name: "pod to a Service", NS: a.pod, Query: routing.Query{To: f.services[0].Addr()}, Dev: a.podEnd.Name})
	}
	if !f.gateway {
		return ways
	}
	outside := outside4
	if f.v6 {
		outside = outside6
	}
	if !f.l3s {
		ways = append(ways, plugin.Way{
			Name: "a Service packet, back to the pod", NS: a.node,
			Query: routing.Query{To: outside, From: f.pod(), Iif: a.hostEnd, Mark: service}, Dev: a.hostEnd.Name,
		})
	}
	return append(
		ways,
		plugin.Way{
			Name: "any other packet of the pod, not back", NS: a.node,
			Query: routing.Query{To: f.node(), From: f.pod(), Iif: a.hostEnd, Mark: main}, Dev: a.hostEnd.Name, Not: true,
		},
		plugin.Way{
			Name: "what the node returned, to the wire", NS: a.pod,
			Query: routing.Query{To: outside, From: f.node(), Iif: a.podEnd}, Dev: a.eth.Name,
		},
		plugin.Way{Name: "answers to the wire", NS: a.pod, Query: routing.Query{To: outside, Mark: main}, Dev: a.eth.Name},
		plugin.Way{Name: "answers to the node", NS: a.pod, Query: routing.Query{To: outside, Mark: service}, Dev: a.podEnd.Name},
	)
}

// OwnsRule reports whether a rule of the node is one that a plan of this plugin makes: by its protocol, its priority and
// what it does, whatever the marks of its network.
func OwnsRule(r routing.ListedRule) bool {
	if !r.Kernel() || r.More || r.From.IsValid() || r.To.IsValid() || r.Oif != "" || r.NoDefault {
		return false
	}
	switch r.Pref {
	case prefPod:
		return plugin.IsHostEnd(r.Iif) && r.Mask == 0 && r.Table > routing.MainTable
	case prefMark:
		return r.Iif == "" && r.Mask != 0 && r.Mark == r.Mask && r.Table == routing.MainTable
	case prefService:
		return r.Iif == "" && r.Mask != 0 && r.Mark == r.Mask && r.Goto == prefPod
	case prefJump:
		return r.Iif == "" && r.Mask != 0 && r.Mark == 0 && r.Goto == prefEnd
	case prefEnd:
		return r.Iif == "" && r.Mask == 0 && r.IsNop()
	default:
		return false
	}
}
