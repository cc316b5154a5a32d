// Package lab builds a small world out of network namespaces, in which the tests, the demonstration and the
// benchmarks attach pods with the real cnitool and send packets:
//
//	outside 192.0.2.2 ── router 10.10.20.1 ──┬── n1 10.10.20.152   pods .50 to .99
//	                                         ├── n2 10.10.20.153   pods .100 to .149
//	                                         ├── client 10.10.20.200
//	                                         └── thief 10.10.20.201, which uses a pod as its router
//
// The same in IPv6 is fd20::152 and so on, and 2001:db8:2::2 outside. The wire is a bridge in a namespace of its own. There
// may be a second one, 10.10.40.0/24 and fd40::/64, and an Overlay that makes the pods' first interface.
// Nothing has a name in the file system and nothing of the machine that runs it is touched: when the process ends,
// however it ends, the kernel takes the world down.
//
// Requests are answered by a Server, which tells whom it saw; KubeProxy stands in for kube-proxy; Dump writes down
// everything that a node's kernel knows, to compare before and after.
package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// Options is what differs between worlds. The zero value is a plain dual-stack one.
type Options struct {
	Stack         Stack   // families; both by default
	HostInterface string  // of the nodes, on the wire: "enp1s0" by default
	Parent        Parent  // of the pods' interfaces: $LAB_PARENT, or macvlan
	Firewall      string  // of veth-host: $LAB_FIREWALL, or what it chooses by itself
	MTU           int     // of the wire: 1500 by default
	NarrowMTU     int     // of the path between the wire and outside, enforced by the router; 0: that of the wire
	RPFilter      int     // of the nodes and the pods, on all, default and the host interface
	ARPIgnore     int     // of the nodes and the pods
	SrcValidMark  int     // of the nodes, on all
	VIP           bool    // an address in the underlay subnet on each node's lo
	Overlay       Overlay // who makes the pods' eth0; the interface on the wire is net1 then
	OverlayStack  Stack   // its families: those of the world by default
	SecondWire    bool    // another wire, for the pods' net2
	NoGateway     bool    // the IPAM (the static plugin then) gives the pods neither a gateway nor a route

	// IPTables is the iptables of the nodes, where the machine has two: "nft" or "legacy"; "": $LAB_IPTABLES, or the machine's choice.
	IPTables   string
	NoNFTables bool   // the nodes' programs get no socket to nf_tables, as on a kernel without it
	Shims      string // a directory in front of the nodes' PATH; "": none

	// Edit changes the conflist of a node before it is written.
	Edit func(*Conflist)

	// Tools is the directory of cnitool, macvlan, host-local and the other programs of the CNI project: $LAB_TOOLS,
	// or .tools in the module. Plugins is that of the programs under test: $LAB_PLUGINS, or bin in the module.
	Tools, Plugins string
}

// A World is two nodes on a wire, and who talks to them.
type World struct {
	Options Options

	Wire    *Namespace // the bridge
	Router  *Namespace
	Outside *Namespace // a machine behind the router
	Client  *Namespace // a machine on the wire
	Thief   *Namespace // a machine on the wire that sends everything to where Steal tells
	Client2 *Namespace // a machine on the second wire; nil without one
	N1, N2  *Node
}

// New builds a world. The caller closes it.
func New(o Options) (*World, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(o.Tools, "cnitool")); err != nil {
		return nil, fmt.Errorf("the CNI tools are missing, `make cni-tools` builds them: %w", err)
	}
	w := &World{Options: o}
	if err := w.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build a world: %w", err), w.Close())
	}
	return w, nil
}

func (o *Options) setDefaults() error {
	if len(o.Stack) == 0 {
		o.Stack = DualStack
	}
	if len(o.OverlayStack) == 0 {
		o.OverlayStack = o.Stack
	}
	if o.HostInterface == "" {
		o.HostInterface = "enp1s0"
	}
	if o.Firewall == "" {
		o.Firewall = cmp.Or(os.Getenv("LAB_FIREWALL"), "auto")
	}
	o.IPTables = cmp.Or(o.IPTables, os.Getenv("LAB_IPTABLES"))
	if o.Parent == "" {
		o.Parent = defaultParent()
	}
	if !slices.Contains(Parents, o.Parent) {
		return fmt.Errorf("no such parent of pods' interfaces: %q; there are %v", o.Parent, Parents)
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	for _, dir := range []struct {
		path          *string
		variable, sub string
	}{{&o.Tools, "LAB_TOOLS", ".tools"}, {&o.Plugins, "LAB_PLUGINS", "bin"}} {
		if *dir.path == "" {
			*dir.path = os.Getenv(dir.variable)
		}
		if *dir.path == "" {
			root, err := moduleRoot()
			if err != nil {
				return err
			}
			*dir.path = filepath.Join(root, dir.sub)
		}
	}
	return nil
}

// moduleRoot is the nearest directory upwards that has a go.mod.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod in %s or above it: set LAB_TOOLS and LAB_PLUGINS", start)
		}
	}
}

// build makes the namespaces first and then the cables between them.
func (w *World) build() error {
	var err error
	for _, m := range []struct {
		ns   **Namespace
		name string
	}{{&w.Wire, "wire"}, {&w.Router, "router"}, {&w.Outside, "outside"}, {&w.Client, "client"}, {&w.Thief, "thief"}} {
		if *m.ns, err = newNamespace(m.name); err != nil {
			return err
		}
	}
	if w.N1, err = newNode(w, "n1", nodeOne, 50); err != nil {
		return err
	}
	if w.N2, err = newNode(w, "n2", nodeTwo, 100); err != nil {
		return err
	}
	if err := w.addWire(firstWire); err != nil {
		return err
	}
	for _, m := range []struct {
		*Namespace
		iface string
		addr  Pair
	}{
		{w.Router, "eth0", routerWire},
		{w.Client, "eth0", wireClient},
		{w.Thief, "eth0", wireThief},
		{w.N1.Namespace, w.Options.HostInterface, nodeOne},
		{w.N2.Namespace, w.Options.HostInterface, nodeTwo},
	} {
		m.Addr = m.addr.In(w.Options.Stack)
		if err := w.plug(firstWire, m.Namespace, m.iface, m.addr, m.Namespace == w.Router); err != nil {
			return err
		}
	}
	if err := w.buildOutside(); err != nil {
		return err
	}
	if w.Options.SecondWire {
		if err := w.buildSecondWire(); err != nil {
			return err
		}
	}
	if err := w.routePods(); err != nil {
		return err
	}
	if err := w.overlays(); err != nil {
		return err
	}
	return errors.Join(w.N1.settle(), w.N2.settle())
}

// settle waits until the node has its addresses for good: a Dump shows how far the kernel has come with them.
func (n *Node) settle() error {
	addrs := []netip.Addr{n.Addr.V6}
	if n.World.Options.SecondWire {
		addrs = append(addrs, OnSecondWire(n.Addr).V6)
	}
	return n.awaitAddresses(addrs...)
}

func (w *World) addWire(on wire) error {
	return w.Wire.IP(fmt.Sprintf("link add br%d mtu %d up type bridge", on.number, w.Options.MTU))
}

// buildSecondWire connects the router and the nodes, which have their default routes elsewhere, and a client.
func (w *World) buildSecondWire() (err error) {
	if w.Client2, err = newNamespace("client2"); err != nil {
		return err
	}
	w.Client2.Addr = secondWire.with(wireClient).In(w.Options.Stack)
	return errors.Join(
		w.addWire(secondWire),
		w.plug(secondWire, w.Router, "eth2", routerWire, true),
		w.plug(secondWire, w.N1.Namespace, secondInterface, nodeOne, true),
		w.plug(secondWire, w.N2.Namespace, secondInterface, nodeTwo, true),
		w.plug(secondWire, w.Client2, "eth0", wireClient, false),
	)
}

// plug connects a machine to a wire and gives it the addresses there that have the host part of addr and, unless it has one
// or is the router, its default route.
func (w *World) plug(on wire, m *Namespace, iface string, addr Pair, routed bool) error {
	port, addr := fmt.Sprintf("%s-%d", m.Name, on.number), on.with(addr)
	err := w.Wire.IP(
		fmt.Sprintf("link add %s mtu %d type veth peer name %s mtu %[2]d netns %[4]s", port, w.Options.MTU, iface, m.Path()),
		fmt.Sprintf("link set %s master br%d up", port, on.number),
	)
	if err != nil {
		return err
	}
	var lines []string
	for _, f := range w.Options.Stack {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev %s", addr.Of(f), on.subnet[f].Bits(), iface))
	}
	lines = append(lines, fmt.Sprintf("link set %s up", iface))
	for _, f := range w.Options.Stack {
		if !routed {
			lines = append(lines, fmt.Sprintf("route add default via %s", on.router.Of(f)))
		}
	}
	return m.IP(lines...)
}

// buildOutside makes the router's second leg and the machine behind it.
func (w *World) buildOutside() error {
	if err := w.Router.Sysctl(forwarding); err != nil {
		return err
	}
	w.Outside.Addr = farClient.In(w.Options.Stack)
	router := []string{fmt.Sprintf("link add eth1 mtu %d type veth peer name eth0 mtu %[1]d netns %[2]s", w.Options.MTU, w.Outside.Path())}
	outside := []string{"link set eth0 up"}
	var routes []string
	for _, f := range w.Options.Stack {
		router = append(router, fmt.Sprintf("addr add %s/%d dev eth1", routerFar.Of(f), farSubnet[f].Bits()))
		outside = append(outside, fmt.Sprintf("addr add %s/%d dev eth0", farClient.Of(f), farSubnet[f].Bits()),
			fmt.Sprintf("route add default via %s", routerFar.Of(f)))
		routes = append(routes, fmt.Sprintf("route add %s via %s", LoadBalancer.Of(f), nodeOne.Of(f)))
		if narrow := w.Options.NarrowMTU; narrow > 0 {
			// More specific than the connected routes, which the kernel keeps for IPv6 whatever one replaces.
			routes = append(routes, fmt.Sprintf("route add %s dev eth1 mtu %d", farClient.Of(f), narrow))
			for _, half := range halves(underlay[f]) {
				routes = append(routes, fmt.Sprintf("route add %s dev eth0 mtu %d", half, narrow))
			}
		}
	}
	if err := w.Router.IP(append(append(router, "link set eth1 up"), routes...)...); err != nil {
		return err
	}
	return w.Outside.IP(outside...)
}

// forwarding makes a machine a router in both families.
var forwarding = map[string]string{
	"net/ipv4/ip_forward":              "1",
	"net/ipv6/conf/all/forwarding":     "1",
	"net/ipv6/conf/default/forwarding": "1",
}

// Steal makes the thief send everything but its own wire to the address: it uses a pod as its router. What is given
// in addition is on the wire and goes there all the same.
func (w *World) Steal(router Pair, also ...Pair) error {
	var lines []string
	for _, f := range w.Options.Stack {
		lines = append(lines, fmt.Sprintf("route replace default via %s", router.Of(f)))
		for _, p := range also {
			lines = append(lines, fmt.Sprintf("route replace %s via %s", p.Of(f), router.Of(f)))
		}
	}
	return w.Thief.IP(lines...)
}

// Close takes the world down.
func (w *World) Close() error {
	var errs []error
	for _, n := range []*Node{w.N1, w.N2} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	for _, n := range []*Namespace{w.Client2, w.Thief, w.Client, w.Outside, w.Router, w.Wire} {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
