package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// A Parent is what makes a pod's interface out of its node's: the real macvlan plugin, or the real ipvlan plugin in
// one of its modes. All interfaces of an ipvlan have the hardware address of their parent.
type Parent string

// The parents. With l2 a pod is a machine on the wire, as with macvlan. With l3 and l3s it has no part in the link
// layer, neither ARP nor neighbour discovery nor broadcasts, and its address lies in a subnet that is routed to its
// node: the node's own stack sends what the pod sends. With l3s the node's netfilter sees both directions of it.
const (
	Macvlan   Parent = "macvlan"
	IPvlanL2  Parent = "ipvlan-l2"
	IPvlanL3  Parent = "ipvlan-l3"
	IPvlanL3S Parent = "ipvlan-l3s"
)

// Parents is all of them.
var Parents = []Parent{Macvlan, IPvlanL2, IPvlanL3, IPvlanL3S}

func defaultParent() Parent { return Parent(cmp.Or(os.Getenv("LAB_PARENT"), string(Macvlan))) }

// SharesMAC tells whether the pods have the hardware address of their node.
func (p Parent) SharesMAC() bool { return p != Macvlan }

// Routed tells whether the pods are in subnets of their own, which their nodes route.
func (p Parent) Routed() bool { return p == IPvlanL3 || p == IPvlanL3S }

// Type is the CNI plugin's name.
func (p Parent) Type() string {
	typ, _, _ := strings.Cut(string(p), "-")
	return typ
}

func (p Parent) mode() string {
	if _, mode, ok := strings.Cut(string(p), "-"); ok {
		return mode
	}
	return "bridge"
}

// Supported probes whether the kernel has such interfaces, in a namespace that it throws away. The zero value is the
// default of Options.
func (p Parent) Supported() error {
	p = cmp.Or(p, defaultParent())
	ns, err := newNamespace("probe")
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := ns.IP("link add wire type veth peer name end", fmt.Sprintf("link add pod link wire type %s mode %s", p.Type(), p.mode())); err != nil {
		return fmt.Errorf("this kernel has no %s: %w", p, err)
	}
	return nil
}

// podSubnet is where the pods of a node have their addresses. Those that a node routes are numbered for it: the pods
// of 10.10.20.152 are in 10.10.152.0/24.
func (n *Node) podSubnet(f Family) netip.Prefix {
	switch {
	case !n.World.Options.Parent.Routed():
		return underlay[f]
	case f == IPv6:
		return netip.MustParsePrefix(fmt.Sprintf("fd20:0:0:%d::/64", n.number))
	default:
		return netip.MustParsePrefix(fmt.Sprintf("10.10.%d.0/24", n.number))
	}
}

// podGateway is the next hop of the pods' underlay default route. On an interface without a link layer that is only
// a name for it.
func (n *Node) podGateway(f Family) netip.Addr {
	if n.World.Options.Parent.Routed() {
		return host(n.podSubnet(f), 1)
	}
	return routerWire.Of(f)
}

// routePods tells everybody on the wire which node has which pods, where the wire does not tell it.
func (w *World) routePods() error {
	if !w.Options.Parent.Routed() {
		return nil
	}
	for _, m := range []*Namespace{w.Router, w.Client, w.Thief, w.N1.Namespace, w.N2.Namespace} {
		var lines []string
		for _, n := range []*Node{w.N1, w.N2} {
			for _, f := range w.Options.Stack {
				if m == n.Namespace {
					continue
				}
				line := fmt.Sprintf("route add %s via %s", n.podSubnet(f), n.Addr.Of(f))
				if m == w.Router && w.Options.NarrowMTU > 0 {
					line += fmt.Sprintf(" mtu %d", w.Options.NarrowMTU)
				}
				lines = append(lines, line)
			}
		}
		if err := m.IP(lines...); err != nil {
			return err
		}
	}
	return nil
}
