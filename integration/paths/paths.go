// Package paths is the table "Paths that must work" of the requirement, as a program: who asks whom, who has to
// answer, and which source address the server has to see. The integration tests run every row of it in many worlds;
// the demonstration prints it with a verdict each.
//
// The pods a and b are on node n1, c on n2. A target is the name of a machine, or one of the ways into a Service of
// kube-proxy, which is named for its only endpoint: svc/c is the ClusterIP in front of c, nodeport/c the NodePort.
package paths

import (
	"iter"
	"slices"

	"underlay-cni/integration/lab"
)

// A Row is a line of the table.
type Row struct {
	Number    int
	Name      string
	Protocols []lab.Proto
	// Run sends the packets and tells what was wrong with the answers.
	Run func(*World, lab.Family, lab.Proto) error
}

var (
	everything = []lab.Proto{lab.TCP, lab.UDP, lab.ICMP}
	ports      = []lab.Proto{lab.TCP, lab.UDP} // a Service has no ICMP
)

// Rows is the table. Row 16 is not in it: it is all the others in other worlds.
var Rows = []Row{
	{1, "pod to its node, node to pod", everything, ask(
		path{from: "a", to: "n1", by: "veth0", server: "n1", sees: "a"},
		path{from: "n1", to: "a", server: "a", sees: "n1", back: "veth0"},
	)},
	{2, "pod to pod, pod to another node and back, by the wire", everything, byTheWire},
	{3, "pod to Service, backend on another node", ports, ask(
		path{from: "a", to: "svc/c", by: "veth0", server: "c", sees: "a"},
	)},
	{4, "pod to Service, backend another pod on this node", ports, ask(
		path{from: "a", to: "svc/b", by: "veth0", server: "b", sees: "a"},
	)},
	{5, "pod to Service, backend the pod itself", ports, hairpin},
	{6, "pod to Service, backend on this or another node's host network", ports, ask(
		path{from: "a", to: "svc/n1", by: "veth0", server: "n1", sees: "a"},
		path{from: "a", to: "svc/n2", by: "veth0", server: "n2", sees: "a"},
	)},
	{7, "pod to Service, backend outside the underlay subnet", ports, backendOutside},
	{8, "client to NodePort, backend on this node, source kept", ports, ask(
		path{from: "outside", to: "nodeport/a", server: "a", sees: "outside", back: "veth0"},
	)},
	{9, "client to NodePort, backend on another node, masqueraded", ports, ask(
		path{from: "outside", to: "nodeport/c", server: "c", sees: "n1", back: "eth0"},
	)},
	{10, "client to hostPort and to LoadBalancer address", ports, ask(
		path{from: "outside", to: "hostport/a", server: "a", sees: "outside", back: "veth0"},
		path{from: "outside", to: "lb/a", server: "a", sees: "outside", back: "veth0"},
	)},
	{11, "client in the underlay subnet to NodePort", ports, ask(
		path{from: "client", to: "nodeport/a", server: "a", sees: "client", back: "veth0"},
	)},
	{12, "client to the pod's own address, answered by eth0", everything, direct},
	{13, "pod to outside", everything, toOutside},
	{14, "1 MB, large datagrams and ICMP errors on rows 1, 3, 8 and 12", everything, load},
	{15, "a neighbour that uses the pod as its router gets nothing", everything, refuse},
}

// byTheWire is row 2. In a subnet of the node's own, everybody but the pods of the same node is outside, and reached
// as row 13 says.
func byTheWire(w *World, f lab.Family, p lab.Proto) error {
	by, sees := "eth0", "a"
	if w.Options.Parent.Routed() && w.Config.IPMasq {
		by, sees = "veth0", "n1"
	}
	return ask(
		path{from: "a", to: "b", by: "eth0", server: "b", sees: "a", back: "eth0"},
		path{from: "a", to: "c", by: by, server: "c", sees: sees, back: "eth0"},
		path{from: "a", to: "n2", by: by, server: "n2", sees: sees},
		path{from: "n2", to: "a", server: "a", sees: "n2", back: "eth0"},
	)(w, f, p)
}

// hairpin is row 5. kube-proxy masquerades it too. With the iptables backend both do so in the same hook, whoever came
// last is first, and in this world that is kube-proxy: where there is a VIP on lo, it chooses that.
func hairpin(w *World, f lab.Family, p lab.Proto) error {
	sees := "n1"
	if firewall, _ := w.Config.Backend.split(); firewall == "iptables" && w.Options.VIP {
		sees = "vip"
	}
	return ask(path{from: "a", to: "svc/a", by: "veth0", server: "a", sees: sees})(w, f, p)
}

// backendOutside is row 7. A pod without an underlay gateway has no way there but its node, which translates.
func backendOutside(w *World, f lab.Family, p lab.Proto) error {
	sees := "a"
	if w.Options.NoGateway {
		sees = "n1"
	}
	return ask(path{from: "a", to: "svc/outside", by: "veth0", server: "outside", sees: sees})(w, f, p)
}

// direct is row 12. Without an underlay gateway the pod can be reached from its own subnet only.
func direct(w *World, f lab.Family, p lab.Proto) error {
	ways := []path{{from: "client", to: "a", server: "a", sees: "client", back: "eth0"}}
	if !w.Options.NoGateway {
		ways = append(ways, path{from: "outside", to: "a", server: "a", sees: "outside", back: "eth0"})
	}
	return ask(ways...)(w, f, p)
}

// toOutside is row 13.
func toOutside(w *World, f lab.Family, p lab.Proto) error {
	if w.Config.IPMasq {
		return ask(path{from: "a", to: "outside", by: "veth0", server: "outside", sees: "n1"})(w, f, p)
	}
	return ask(path{from: "a", to: "outside", by: "eth0", server: "outside", sees: "a"})(w, f, p)
}

// A Case is a row in one family over one protocol.
type Case struct {
	Row
	Family lab.Family
	Proto  lab.Proto
}

// Cases are those that the world can have, in the order of the table.
func (w *World) Cases() iter.Seq[Case] {
	return func(yield func(Case) bool) {
		for _, row := range Rows {
			if row.Number == 15 && w.Options.Parent.Routed() {
				continue // the pod has no part in the link layer: nobody can have it as a next hop
			}
			for _, f := range w.Options.Stack {
				for _, p := range row.Protocols {
					if !yield(Case{row, f, p}) {
						return
					}
				}
			}
		}
	}
}

// Run sends the packets of the case.
func (c Case) Run(w *World) error { return c.Row.Run(w, c.Family, c.Proto) }

// Verdicts runs the whole table: the error of each row is that of its first case that failed, nil if none did.
func (w *World) Verdicts() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		cases := slices.Collect(w.Cases())
		for _, row := range Rows {
			var err error
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
