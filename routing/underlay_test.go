package routing_test

import (
	"fmt"

	"underlay-cni/routing"
)

// underlayCases are the changes that only veth makes.
func underlayCases(f family) []changeCase {
	neigh := func(w *world) *routing.Neigh {
		return &routing.Neigh{Addr: f.pod, Dev: w.node.Link("vetha0e043dd"), MAC: podMAC}
	}
	here := fmt.Sprintf("ip neigh replace %s dev vetha0e043dd lladdr %s nud permanent", f.pod, podMAC)
	cases := []changeCase{
		{
			name: "no neigh", before: here, stays: true, change: func(w *world) change { return &routing.NoNeigh{Neigh: neigh(w)} },
			says: fmt.Sprintf("neighbour %s is still there on vetha0e043dd", f.pod), spoilt: []spoilt{{"back", here, "is still there"}},
		},
		{name: "neigh, already", before: here, already: true, change: func(w *world) change { return neigh(w) }},
		{
			name: "rule of a source", says: "rule is missing: ip ",
			change: func(w *world) change {
				return &routing.Rule{NS: w.pod, V6: f.v6, Pref: 1024, From: host(f.pod), Table: w.pod.Table(200)}
			},
			spoilt: []spoilt{
				{"gone", "pod " + f.ip + " rule del pref 1024", "rule is missing"},
			},
		},
	}
	if f.v6 { // whose route to an address of its own the kernel makes at a time of its own
		return cases
	}
	own := addr("169.254.100.1")
	return append(cases, []changeCase{
		{
			name: "link address", stays: true, change: func(w *world) change { return &routing.LinkAddress{Addr: own, Dev: w.pod.Link("veth0")} },
			says:   fmt.Sprintf("address is missing: %s on veth0", host(own)),
			spoilt: []spoilt{{"gone", fmt.Sprintf("pod %s addr del %s dev veth0", f.ip, host(own)), "address is missing"}},
		},
		{
			name: "link address, already", already: true, before: fmt.Sprintf("pod %s addr add %s dev veth0 scope link", f.ip, host(own)),
			change: func(w *world) change { return &routing.LinkAddress{Addr: own, Dev: w.pod.Link("veth0")} },
		},
	}...)
}

// altNameCases are those of further names.
func altNameCases() []changeCase {
	name := func(w *world) *routing.AltName {
		return &routing.AltName{Link: w.node.Link("vetha0e043dd"), Name: "vetha0e043dd.16bc4837.eth0"}
	}
	const (
		here = "ip link property add dev vetha0e043dd altname vetha0e043dd.16bc4837.eth0"
		gone = "ip link property del dev vetha0e043dd altname vetha0e043dd.16bc4837.eth0"
	)
	return []changeCase{
		{
			name: "altname", change: func(w *world) change { return name(w) }, says: "interface vetha0e043dd has no altname vetha0e043dd.16bc4837.eth0",
			spoilt: []spoilt{{"gone", gone, "has no altname"}},
		},
		{
			name: "no altname", change: func(w *world) change { return &routing.NoAltName{AltName: name(w)} }, before: here, stays: true,
			says: "interface vetha0e043dd still has the altname vetha0e043dd.16bc4837.eth0", spoilt: []spoilt{{"back", here, "still has the altname"}},
		},
	}
}
