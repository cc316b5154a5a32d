package routing

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/j-keck/arping"
	"golang.org/x/sys/unix"
)

// Announce tells the wire which hardware address the addresses of an interface have now: gratuitous
// ARP (RFC 5227, section 2.3) and unsolicited neighbour advertisements (RFC 4861, section 7.2.6). With
// ipvlan an address that moves between nodes changes its hardware address.
//
// The kernel itself sends the ARP, three times, a second apart and while nobody waits: a frame to all takes
// milliseconds where 1000 pods share the wire, and closing a packet socket costs an RCU grace period (8 to
// 16 ms). Only a secondary address of its subnet needs one, because the kernel names the primary as the
// sender of its requests.
func (n *Namespace) Announce(l *Link, addresses []Address) error {
	attrs, err := l.Attrs()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addresses {
		ip := a.Prefix.Addr()
		switch {
		case ip.Is6():
			errs = append(errs, n.advertise(ip, attrs))
		case a.Flags&unix.IFA_F_SECONDARY != 0:
			errs = append(errs, n.Do(func() error {
				iface := net.Interface{Index: attrs.Index, Name: attrs.Name, HardwareAddr: attrs.MAC}
				return arping.GratuitousArpOverIface(ip.AsSlice(), iface)
			}))
		default:
			errs = append(errs, n.probeSelf(ip, attrs.Index))
		}
	}
	return errors.Join(errs...)
}

// probeSelf makes the kernel confirm a neighbour whose address is its own and whose hardware address is
// everybody's: it broadcasts requests whose sender and target are that address, which is what an announcement
// is. Nobody answers, so the neighbour ends as FAILED, and nobody will ever look it up.
func (n *Namespace) probeSelf(ip netip.Addr, index int) error {
	everybody := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	err := n.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		&ndmsg{family: v4, index: index, state: unix.NUD_PROBE}, attr(unix.NDA_DST, ip.AsSlice()), attr(unix.NDA_LLADDR, everybody))
	if err != nil {
		return fmt.Errorf("announce %s: %w", ip, err)
	}
	return nil
}

// advertise sends one unsolicited neighbour advertisement with the override flag to all nodes.
func (n *Namespace) advertise(ip netip.Addr, link *LinkAttrs) error {
	const (
		typeAdvertisement = 136
		flagOverride      = 0x20
		optTargetLinkAddr = 2
	)
	msg := make([]byte, 24, 32) // type, code, checksum (the kernel's to fill in), flags, target
	msg[0], msg[4] = typeAdvertisement, flagOverride
	copy(msg[8:], ip.AsSlice())
	msg = append(msg, optTargetLinkAddr, 1) // 1: in units of 8 bytes
	msg = append(msg, link.MAC...)

	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: ip.As16()}); err != nil {
			return err
		}
		allNodes := netip.MustParseAddr("ff02::1").As16()
		return unix.Sendto(fd, msg, 0, &unix.SockaddrInet6{Addr: allNodes, ZoneId: uint32(link.Index)})
	})
	if err != nil {
		return fmt.Errorf("announce %s: %w", ip, err)
	}
	return nil
}
