package routing

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// An Address is one address of an interface, as ip-address(8) shows it.
type Address struct {
	Prefix netip.Prefix // the address with its prefix length, host bits kept
	Link   int          // interface index
	Scope  int          // unix.RT_SCOPE_UNIVERSE for a global address
	Flags  int          // unix.IFA_F_…
}

// Usable reports whether others can reach the address: it is global, and neither tentative nor rejected
// by duplicate address detection.
func (a Address) Usable() bool {
	tentative := a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0
	return a.global() && !tentative && a.Flags&unix.IFA_F_DADFAILED == 0
}

// Preferred reports whether the address may be a source or a next hop for long: usable, and neither
// deprecated, as VIPs often are, nor a temporary address of RFC 8981.
func (a Address) Preferred() bool {
	return a.Usable() && a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY) == 0
}

// global leaves out loopback, link-local and multicast addresses.
func (a Address) global() bool {
	ip := a.Prefix.Addr()
	return a.Scope == unix.RT_SCOPE_UNIVERSE && ip.IsGlobalUnicast() && !ip.IsLinkLocalUnicast()
}

// Addresses lists the addresses of an interface in the kernel's order, IPv4 first; with a nil link
// those of all interfaces of the namespace. The error is ErrNoLink when there is no such interface.
func (n *Namespace) Addresses(l *Link) ([]Address, error) {
	index := 0
	if l != nil {
		var err error
		if index, err = l.Index(); err != nil {
			return nil, err
		}
	}
	var all []Address
	for _, f := range []family{v4, v6} {
		msg := nl.NewIfAddrmsg(int(f))
		msg.Index = uint32(index)
		before := len(all)
		err := n.dump(unix.RTM_GETADDR, func() { all = all[:before] }, func(m []byte) error {
			a, err := parseAddress(m)
			if err == nil && (index == 0 || a.Link == index) {
				all = append(all, a)
			}
			return err
		}, msg)
		if errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("interface %s: %w", l.Name, ErrNoLink)
		}
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
	}
	return all, nil
}

// UsableAddresses lists the usable addresses of an interface, the preferred ones first.
func (n *Namespace) UsableAddresses(l *Link) ([]Address, error) {
	all, err := n.Addresses(l)
	if err != nil {
		return nil, err
	}
	return Usable(all), nil
}

// Usable are the usable ones of some addresses, the preferred ones first.
func Usable(all []Address) []Address {
	var usable []Address
	for _, preferred := range []bool{true, false} {
		for _, a := range all {
			if a.Usable() && a.Preferred() == preferred {
				usable = append(usable, a)
			}
		}
	}
	return usable
}

func parseAddress(m []byte) (Address, error) {
	msg := nl.DeserializeIfAddrmsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return Address{}, fmt.Errorf("parse an address: %w", err)
	}
	a := Address{Link: int(msg.Index), Scope: int(msg.Scope), Flags: int(msg.Flags)}
	var ip netip.Addr
	for _, attr := range attrs {
		switch attr.Attr.Type {
		case unix.IFA_LOCAL: // IPv4, and IPv6 with a peer: the address itself
			ip, _ = netip.AddrFromSlice(attr.Value)
		case unix.IFA_ADDRESS: // the peer's, where there is one
			if !ip.IsValid() {
				ip, _ = netip.AddrFromSlice(attr.Value)
			}
		case unix.IFA_FLAGS:
			a.Flags = int(uint32Of(attr.Value))
		}
	}
	a.Prefix = netip.PrefixFrom(ip, int(msg.Prefixlen))
	return a, nil
}
