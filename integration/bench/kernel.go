package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bareAttach is the kernel work that no design of this kind can do without, by netlink from this process: a veth with its
// peer made in the pod, no IPv6 addresses, both ends up, a permanent neighbour on each side, a host route, a route
// table and its rule on the node, and in the pod the way to the node, the default route, a table and a rule. No
// firewall, no sysctl, nothing looked up.
type bareAttach struct {
	pod      *pod
	rt, prt  *netlink.Handle // of the node and of the pod
	hostEnd  *netlink.Veth
	rule     *netlink.Rule
	nodeMAC  net.HardwareAddr
	podMAC   net.HardwareAddr
	nodeAddr netip.Addr
}

// newBareAttach prepares the work. It opens its own sockets: those of the node are locked.
func newBareAttach(p *pod) (*bareAttach, error) {
	b := &bareAttach{pod: p, nodeAddr: nodeAddress.Addr()}
	var err error
	if b.rt, err = p.node.ns.handle(); err != nil {
		return nil, err
	}
	if b.prt, err = p.ns.handle(); err != nil {
		return nil, err
	}
	ip := p.addr.Addr().AsSlice()
	b.nodeMAC = append(net.HardwareAddr{0x02, 0x0b}, ip...)
	b.podMAC = append(net.HardwareAddr{0x02, 0x0c}, ip...)
	name := "bare" + p.id[len(p.id)-8:]
	b.hostEnd = netlink.NewVeth(netlink.LinkAttrs{Name: name, MTU: 1500, HardwareAddr: b.nodeMAC})
	b.hostEnd.PeerName, b.hostEnd.PeerHardwareAddr, b.hostEnd.PeerNamespace = "veth0", b.podMAC, netlink.NsFd(p.ns)
	b.rule = netlink.NewRule()
	b.rule.Priority, b.rule.IifName, b.rule.Family = 1024, name, unix.AF_INET
	return b, nil
}

// add does the work.
func (b *bareAttach) add() error {
	if err := b.rt.LinkAdd(b.hostEnd); err != nil {
		return fmt.Errorf("ip link add %s: %w", b.hostEnd.Name, err)
	}
	if err := up(b.rt, b.hostEnd.Name, netip.Prefix{}); err != nil {
		return err
	}
	if err := up(b.prt, "veth0", netip.Prefix{}); err != nil {
		return err
	}
	peer, err := b.prt.LinkByName("veth0")
	if err != nil {
		return fmt.Errorf("find veth0: %w", err)
	}
	host, veth0 := b.hostEnd.Index, peer.Attrs().Index
	b.rule.Table = 256 + host
	own, node := b.pod.addr.Addr(), b.nodeAddr
	table := defaultRoute(host, own)
	table.Table = b.rule.Table
	back := defaultRoute(veth0, node)
	back.Table = 256
	inPod := netlink.NewRule()
	inPod.Priority, inPod.Family, inPod.IifName, inPod.Table = 1024, unix.AF_INET, "veth0", 256
	return errors.Join(
		b.rt.NeighSet(permanent(host, own, b.podMAC)),
		b.rt.RouteReplace(hostRoute(host, own)),
		b.rt.RouteReplace(table),
		b.rt.RuleAdd(b.rule),
		b.prt.NeighSet(permanent(veth0, node, b.nodeMAC)),
		b.prt.RouteReplace(hostRoute(veth0, node)),
		b.prt.RouteReplace(back),
		b.prt.RuleAdd(inPod),
		b.prt.RouteReplace(defaultRoute(veth0, node)),
	)
}

// del deletes the pair, and tells how long that alone took, and then what it leaves behind.
func (b *bareAttach) del() (time.Duration, error) {
	start := time.Now()
	err := b.rt.LinkDel(b.hostEnd)
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("ip link del %s: %w", b.hostEnd.Name, err)
	}
	if err := b.rt.RuleDel(b.rule); err != nil {
		return took, fmt.Errorf("ip rule del iif %s: %w", b.hostEnd.Name, err)
	}
	b.rt.Close()
	b.prt.Close()
	return took, nil
}

func permanent(index int, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, IP: ip.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: unix.AF_INET}
}

func hostRoute(index int, ip netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(ip, ip.BitLen())), Scope: netlink.SCOPE_LINK}
}
