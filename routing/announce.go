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
// ARP (RFC 5227, section 3) and unsolicited neighbour advertisements (RFC 4861, section 7.2.6). With
// ipvlan an address that moves between nodes changes its hardware address.
//
// The kernel itself sends the ARP: asked to resolve an address of its own, it broadcasts a request
// whose sender and target are that address, which is what an announcement is. A packet socket would
// cost an RCU grace period (8 to 16 ms) when it is closed; only a secondary address of its subnet needs
// one, because the kernel's request names the primary as its sender.
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
			errs = append(errs, n.resolveSelf(ip, attrs.Index))
		}
	}
	return errors.Join(errs...)
}

// resolveSelf makes the kernel resolve one of its own addresses; the neighbour entry that this takes
// goes at once, the request has been sent by then.
func (n *Namespace) resolveSelf(ip netip.Addr, index int) error {
	const use = 0x01 // NTF_USE
	dst := attr(unix.NDA_DST, ip.AsSlice())
	err := n.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &ndmsg{family: v4, index: index, flags: use}, dst)
	if err == nil {
		err = n.request(unix.RTM_DELNEIGH, 0, &ndmsg{family: v4, index: index}, dst)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
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
