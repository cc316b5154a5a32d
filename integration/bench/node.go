package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What every node looks like: one interface on the wire, whose other end is the gateway and the client, and a second
// one whose other end swallows what it is sent: it has no address and does not forward.
const (
	hostInterface = "enp1s0"
	sinkInterface = "sink0"
)

var (
	nodeAddress   = netip.MustParsePrefix("10.10.20.152/16")
	clientAddress = netip.MustParsePrefix("10.10.20.1/16")
	sinkAddress   = netip.MustParsePrefix("198.51.100.1/24")
	sinkNeighbour = netip.MustParseAddr("198.51.100.9") // floodTo
	sinkMAC       = net.HardwareAddr{0x02, 0, 0, 0, 0, 9}
)

// A node is a network namespace that looks like a machine of a cluster.
type node struct {
	ns, client namespace
	sink       namespace
	rt         *netlink.Handle
	launcher   *launcher
	overlay    bool // its pods have eth0 of an overlay, and net1 on the wire
	parent     int  // index of hostInterface
	mode       netlink.MacvlanMode
	pods       uint32      // made so far
	made       []namespace // of those pods
}

// newNode makes the namespaces of a node and of its client, the wire between them, and what every node of a cluster
// has before there is a pod: forwarding, and a NAT chain that turns connection tracking on, as kube-proxy's do.
func newNode(mode netlink.MacvlanMode) (*node, error) {
	n := &node{mode: mode}
	var err error
	if n.ns, err = newNamespace(); err != nil {
		return nil, err
	}
	if n.client, err = newNamespace(); err != nil {
		return nil, err
	}
	if n.sink, err = newNamespace(); err != nil {
		return nil, err
	}
	if n.rt, err = n.ns.handle(); err != nil {
		return nil, err
	}
	if n.launcher, err = newLauncher(n.ns); err != nil {
		return nil, err
	}
	if err := n.wire(); err != nil {
		return nil, err
	}
	return n, n.ns.do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return fmt.Errorf("turn forwarding on: %w", err)
		}
		return trackConnections()
	})
}

// wire connects the node with its client and its sink.
func (n *node) wire() error {
	client, err := n.client.handle()
	if err != nil {
		return err
	}
	defer client.Close()
	sink, err := n.sink.handle()
	if err != nil {
		return err
	}
	defer sink.Close()

	wire := netlink.NewVeth(netlink.LinkAttrs{Name: hostInterface, MTU: 1500})
	wire.PeerName, wire.PeerNamespace = "wire0", netlink.NsFd(n.client)
	drain := netlink.NewVeth(netlink.LinkAttrs{Name: sinkInterface, MTU: 1500})
	drain.PeerName, drain.PeerNamespace, drain.PeerHardwareAddr = "wire0", netlink.NsFd(n.sink), sinkMAC
	if err := errors.Join(n.rt.LinkAdd(wire), n.rt.LinkAdd(drain)); err != nil {
		return fmt.Errorf("make the wires: %w", err)
	}
	n.parent = wire.Index
	err = errors.Join(
		up(n.rt, "lo", netip.Prefix{}),
		up(n.rt, hostInterface, nodeAddress),
		up(n.rt, sinkInterface, sinkAddress),
		up(client, "wire0", clientAddress),
		up(sink, "wire0", netip.Prefix{}),
	)
	if err != nil {
		return err
	}
	err = errors.Join(
		n.rt.RouteAdd(defaultRoute(n.parent, clientAddress.Addr())),
		n.rt.NeighSet(permanent(drain.Index, sinkNeighbour, sinkMAC)),
		client.RouteAdd(&netlink.Route{Dst: ipNet(sinkAddress.Masked()), Gw: nodeAddress.Addr().AsSlice()}),
	)
	if err != nil {
		return fmt.Errorf("add the routes of a node: %w", err)
	}
	return nil
}

// trackConnections adds an empty NAT chain in the calling thread's namespace.
func trackConnections() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "kube-proxy"})
	c.AddChain(&nftables.Chain{
		Table: table, Name: "services", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("turn connection tracking on: %w", err)
	}
	return nil
}

// A pod is a network namespace with a macvlan interface on its node's wire, eth0, or net1 beside the eth0 of an overlay:
// what a chained plugin finds.
type pod struct {
	node *node
	ns   namespace
	id   string // CNI_CONTAINERID
	addr netip.Prefix
	prev json.RawMessage // the result of the macvlan plugin
}

// newPod makes the next pod of the node.
func (n *node) newPod() (*pod, error) {
	n.pods++
	ip := binary.BigEndian.AppendUint32(nil, 10<<24|10<<16|64<<8+n.pods)
	addr, _ := netip.AddrFromSlice(ip)
	p := &pod{node: n, id: fmt.Sprintf("%064x", n.pods), addr: netip.PrefixFrom(addr, clientAddress.Bits())}
	var err error
	if p.ns, err = newNamespace(); err != nil {
		return nil, err
	}
	n.made = append(n.made, p.ns)
	wire := &netlink.Macvlan{
		Mode: n.mode,
		LinkAttrs: netlink.LinkAttrs{
			Name: p.onWire(), ParentIndex: n.parent, Namespace: netlink.NsFd(p.ns),
			HardwareAddr: append(net.HardwareAddr{0x02, 0x0a}, ip...),
		},
	}
	if err := n.rt.LinkAdd(wire); err != nil {
		return nil, fmt.Errorf("make a pod's %s: %w", wire.Name, err)
	}
	h, err := p.ns.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := up(h, "lo", netip.Prefix{}); err != nil {
		return nil, err
	}
	if err := up(h, wire.Name, p.addr); err != nil {
		return nil, err
	}
	gateway := clientAddress.Addr()
	if n.overlay {
		if gateway, err = p.plugOverlay(h); err != nil {
			return nil, err
		}
	}
	link, err := h.LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("find a pod's eth0: %w", err)
	}
	if err := h.RouteAdd(defaultRoute(link.Attrs().Index, gateway)); err != nil {
		return nil, fmt.Errorf("add a pod's default route: %w", err)
	}
	p.prev, err = json.Marshal(map[string]any{
		"cniVersion": cniVersion,
		"interfaces": []any{map[string]any{"name": wire.Name, "mac": wire.HardwareAddr.String(), "sandbox": p.ns.path()}},
		"ips":        []any{map[string]any{"address": p.addr, "gateway": clientAddress.Addr(), "interface": 0}},
		"routes":     []any{map[string]any{"dst": "0.0.0.0/0"}},
	})
	return p, err
}

// onWire is the pod's interface on the wire.
func (p *pod) onWire() string {
	if p.node.overlay {
		return "net1"
	}
	return "eth0"
}

// plugOverlay gives the pod eth0 as Calico does, whose other end on the node has no address, and returns its next hop.
func (p *pod) plugOverlay(h *netlink.Handle) (netip.Addr, error) {
	n := p.node
	gateway, ip := netip.AddrFrom4([4]byte{169, 254, 1, 1}), p.addr.Addr().As4()
	ip[1] = 244
	addr := netip.PrefixFrom(netip.AddrFrom4(ip), 32)
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: fmt.Sprint("cali", n.pods), MTU: 1500})
	pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(p.ns)
	if err := n.rt.LinkAdd(pair); err != nil {
		return gateway, fmt.Errorf("make a pod's eth0: %w", err)
	}
	err := errors.Join(up(n.rt, pair.Name, netip.Prefix{}), up(h, "eth0", addr))
	if err == nil {
		err = n.rt.RouteAdd(&netlink.Route{LinkIndex: pair.Index, Dst: ipNet(addr), Scope: netlink.SCOPE_LINK})
	}
	return gateway, err
}

// leave takes the pod off the wire, and off the overlay. Its namespace stays until the end: freeing it would keep the kernel busy during the
// next measurement.
func (p *pod) leave() error {
	h, err := p.ns.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range slices.Compact([]string{p.onWire(), "eth0"}) {
		if err := h.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			return fmt.Errorf("delete a pod's %s: %w", name, err)
		}
	}
	return nil
}

// up brings an interface up without IPv6 addresses, which nobody uses here, and with the address where there is one.
func up(h *netlink.Handle, name string, addr netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetIP6AddrGenMode(link, genModeNone); err != nil {
		return fmt.Errorf("ip link set %s addrgenmode none: %w", name, err)
	}
	if addr.IsValid() {
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
			return fmt.Errorf("ip addr add %s dev %s: %w", addr, name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("ip link set %s up: %w", name, err)
	}
	return nil
}

// genModeNone is IN6_ADDR_GEN_MODE_NONE: no link-local address.
const genModeNone = 1

func defaultRoute(index int, via netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: index, Gw: via.AsSlice(), Flags: unix.RTNH_F_ONLINK}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
