// Package paths is the table "Paths that must work" of the requirement, as a program: who asks whom, who has to
// answer, and which source address the server has to see. The integration tests run every row of it in many worlds;
// the demonstration prints it with a verdict each.
//
// The pods a and b are on node n1, c on n2; with an overlay o1 and o2 have its interface alone. A target is the name of a machine, or one of the ways into a Service of
// kube-proxy, which is named for its only endpoint: svc/c is the ClusterIP in front of c, nodeport/c the NodePort.
package paths

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"underlay-cni/integration/lab"
)

// A Row is a line of the table.
type Row struct {
	Number    int
	Name      string
	Protocols []lab.Proto
	ways      func(*World, lab.Proto) []path
	send      func(path, *World, lab.Family, lab.Proto) error // what goes over each of them
}

var (
	everything = []lab.Proto{lab.TCP, lab.UDP, lab.ICMP}
	ports      = []lab.Proto{lab.TCP, lab.UDP} // a Service has no ICMP
)

// Rows is the table. Row 16 is not in it: it is all the others in other worlds. Those from 17 on are for worlds with an
// overlay, or a second wire.
var Rows = []Row{
	{1, "pod to its node, node to pod", everything, always(
		path{from: "a", to: "n1", by: toNode, server: "n1", sees: "a"},
		path{from: "n1", to: "a", server: "a", sees: "n1", back: toNode},
	), path.follow},
	{2, "pod to pod, pod to another node and back, by the wire", everything, byTheWire, path.follow},
	{3, "pod to Service, backend on another node", ports, always(
		path{from: "a", to: "svc/c", by: toNode, server: "c", sees: "a"},
	), path.follow},
	{4, "pod to Service, backend another pod on this node", ports, always(
		path{from: "a", to: "svc/b", by: toNode, server: "b", sees: "a"},
	), path.follow},
	{5, "pod to Service, backend the pod itself", ports, hairpin, path.follow},
	{6, "pod to Service, backend on this or another node's host network", ports, always(
		path{from: "a", to: "svc/n1", by: toNode, server: "n1", sees: "a"},
		path{from: "a", to: "svc/n2", by: toNode, server: "n2", sees: "a"},
	), path.follow},
	{7, "pod to Service, backend outside the underlay subnet", ports, backendOutside, path.follow},
	{8, "client to NodePort, backend on this node, source kept", ports, always(
		path{from: "outside", to: "nodeport/a", server: "a", sees: "outside", back: toNode},
	), path.follow},
	{9, "client to NodePort, backend on another node, masqueraded", ports, always(
		path{from: "outside", to: "nodeport/c", server: "c", sees: "n1", back: toWire},
	), path.follow},
	{10, "client to hostPort and to LoadBalancer address", ports, always(
		path{from: "outside", to: "hostport/a", server: "a", sees: "outside", back: toNode},
		path{from: "outside", to: "lb/a", server: "a", sees: "outside", back: toNode},
	), path.follow},
	{11, "client in the underlay subnet to NodePort", ports, always(
		path{from: "client", to: "nodeport/a", server: "a", sees: "client", back: toNode},
	), path.follow},
	{12, "client to the pod's own address, answered by the wire", everything, always(
		path{from: "client", to: "a", server: "a", sees: "client", back: toWire},
		path{from: "outside", to: "a", server: "a", sees: "outside", back: toWire},
	), path.follow},
	{13, "pod to outside", everything, toOutside, path.follow},
	{14, "1 MB, large datagrams and ICMP errors on rows 1, 3, 8 and 12", everything, load, path.load},
	{15, "a neighbour that uses the pod as its router gets nothing", everything, refused, path.refuse},
	{17, "pod to pod of the overlay, on this and another node, and back", everything, onOverlay(
		path{from: "a", to: "eth0/b", by: toNode, server: "b", sees: "eth0/a", back: toNode},
		path{from: "a", to: "eth0/c", by: toNode, server: "c", sees: "eth0/a", back: toNode},
		path{from: "a", to: "o1", by: toNode, server: "o1", sees: "eth0/a"},
		path{from: "a", to: "o2", by: toNode, server: "o2", sees: "eth0/a"},
		path{from: "o1", to: "eth0/a", server: "a", sees: "o1", back: toNode},
		path{from: "o2", to: "eth0/a", server: "a", sees: "o2", back: toNode},
	), path.follow},
	// What comes from another node comes by the wire, and is answered there.
	{18, "pod of the overlay alone to a pod's address on the wire", everything, onOverlay(
		path{from: "o1", to: "a", server: "a", sees: "o1", back: toNode},
		path{from: "o2", to: "a", server: "a", sees: "o2", back: toWire},
	), path.follow},
	{19, "pod of the overlay alone to Service, backend on the wire", ports, onOverlay(
		path{from: "o1", to: "svc/a", server: "a", sees: "o1", back: toNode},
		path{from: "o2", to: "svc/a", server: "a", sees: "o2", back: toWire},
		path{from: "o1", to: "svc/c", server: "c", sees: "o1", back: toWire},
		path{from: "o2", to: "svc/c", server: "c", sees: "o2", back: toNode},
	), path.follow},
	{20, "pod to Service, backend of the overlay", ports, onOverlay(
		path{from: "a", to: "svc/o1", by: toNode, server: "o1", sees: "eth0/a"},
		path{from: "a", to: "svc/o2", by: toNode, server: "o2", sees: "eth0/a"},
	), path.follow},
	{21, "pod to an additional subnet, by the overlay", everything, onOverlay(
		path{from: "a", to: "further", by: toNode, server: "outside", sees: "a"},
	), path.follow},
	{22, "the pod's second interface on the wire", everything, bySecond, path.follow},
}

// The two sides of a pod. What the interfaces are called is the plugin's matter.
const (
	toNode = "the node's side"
	toWire = "the wire's side"
)

// side is the interface of that side, by the plugin.
func (w *World) side(side string) string {
	overlay := w.Options.Overlay != lab.NoOverlay
	switch {
	case side == toNode && overlay:
		return "eth0"
	case side == toNode:
		return "veth0"
	case side == toWire && overlay:
		return "net1"
	case side == toWire:
		return "eth0"
	}
	return side
}

// always are the same paths in all worlds.
func always(ways ...path) func(*World, lab.Proto) []path {
	return func(*World, lab.Proto) []path { return ways }
}

// byTheWire is row 2. In a subnet of the node's own, everybody but the pods of the same node is outside, and reached
// as row 13 says.
func byTheWire(w *World, _ lab.Proto) []path {
	by, sees := toWire, "a"
	if w.Options.Parent.Routed() && w.Config.IPMasq {
		by, sees = toNode, "n1"
	}
	return []path{
		{from: "a", to: "b", by: toWire, server: "b", sees: "a", back: toWire},
		{from: "a", to: "c", by: by, server: "c", sees: sees, back: toWire},
		{from: "a", to: "n2", by: by, server: "n2", sees: sees},
		{from: "n2", to: "a", server: "a", sees: "n2", back: toWire},
	}
}

// hairpin is row 5. kube-proxy masquerades it too. With the iptables backend both do so in the same hook, whoever came
// last is first, and in this world that is kube-proxy: where there is a VIP on lo, it chooses that.
func hairpin(w *World, _ lab.Proto) []path {
	sees := "n1"
	if firewall, _ := w.Config.Backend.split(); firewall == "iptables" && w.Options.VIP {
		sees = "vip"
	}
	if w.Options.Overlay != lab.NoOverlay {
		sees = "a"
	}
	return []path{{from: "a", to: "svc/a", by: toNode, server: "a", sees: sees}}
}

// backendOutside is row 7. A pod without an underlay gateway has no way there but its node, which translates.
func backendOutside(w *World, _ lab.Proto) []path {
	sees := "a"
	if w.Options.NoGateway {
		sees = "n1"
	}
	return []path{{from: "a", to: "svc/outside", by: toNode, server: "outside", sees: sees}}
}

// toOutside is row 13.
func toOutside(w *World, _ lab.Proto) []path {
	switch {
	case w.Config.IPMasq || !w.defaultByWire():
		return []path{{from: "a", to: "outside", by: toNode, server: "outside", sees: "n1"}}
	case w.Options.SecondWire:
		return []path{{from: "a", to: "outside", by: "net2", server: "outside", sees: "net2/a"}}
	default:
		return []path{{from: "a", to: "outside", by: toWire, server: "outside", sees: "a"}}
	}
}

// A Case is a row in one family over one protocol.
type Case struct {
	Row
	Family lab.Family
	Proto  lab.Proto
}

// Cases are those that the world can have, in the order of the table.
func (w *World) Cases() iter.Seq[Case] { return w.casesOf(Rows) }

func (w *World) casesOf(rows []Row) iter.Seq[Case] {
	return func(yield func(Case) bool) {
		for _, row := range rows {
			for _, f := range w.Options.Stack {
				for _, p := range row.Protocols {
					if len(row.possible(w, f, p)) > 0 && !yield(Case{row, f, p}) {
						return
					}
				}
			}
		}
	}
}

// possible are the paths of the row that the world can have.
func (r Row) possible(w *World, f lab.Family, p lab.Proto) []path {
	return slices.DeleteFunc(slices.Clone(r.ways(w, p)), func(way path) bool { return w.leftOut(way, f) != "" })
}

// Run sends the packets of the case and tells what was wrong with the answers.
func (c Case) Run(w *World) error {
	var errs []error
	for _, way := range c.possible(w, c.Family, c.Proto) {
		if err := c.send(way, w, c.Family, c.Proto); err != nil {
			errs = append(errs, fmt.Errorf("%s to %s: %w", way.from, way.to, err))
		}
	}
	return errors.Join(errs...)
}

// Verdicts runs the whole table: the error of each row is that of its first case that failed, nil if none did. Rows that
// the world cannot have are left out.
func (w *World) Verdicts() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		cases := slices.Collect(w.Cases())
		for _, row := range Rows {
			var err error
			if !slices.ContainsFunc(cases, func(c Case) bool { return c.Number == row.Number }) {
				continue
			}
			for _, c := range cases {
				if c.Number == row.Number && err == nil {
					err = c.Run(w)
				}
			}
			if !yield(row, err) {
				return
			}
		}
	}
}
