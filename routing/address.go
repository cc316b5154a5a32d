package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

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

// Usable reports whether the address is one that others can reach: global, and not rejected by duplicate
// address detection. A tentative one will be usable in a moment.
func (a Address) Usable() bool { return a.global() && a.Flags&unix.IFA_F_DADFAILED == 0 }

// Duplicate reports whether duplicate address detection has found the address elsewhere.
func (a Address) Duplicate() bool { return a.Flags&unix.IFA_F_DADFAILED != 0 }

// Tentative reports whether duplicate address detection still runs.
func (a Address) Tentative() bool {
	return a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0
}

// Dynamic reports whether the address comes and goes by itself, as those of router advertisements do.
func (a Address) Dynamic() bool { return a.Flags&unix.IFA_F_PERMANENT == 0 }

// rank orders addresses by how well they serve as a source and a next hop: lower is better. Deprecated ones
// come last, as VIPs often are, with the temporary ones of RFC 8981; then dynamic ones; then those of a single
// address, which VIPs are too.
func (a Address) rank() int {
	temporary := a.Prefix.Addr().Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0 // in IPv4 the bit is IFA_F_SECONDARY
	rank := 0
	for i, worse := range []bool{a.Prefix.IsSingleIP(), a.Dynamic(), temporary || a.Flags&unix.IFA_F_DEPRECATED != 0} {
		if worse {
			rank += 1 << i
		}
	}
	return rank
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
		err := n.dump(unix.RTM_GETADDR, f, func() { all = all[:before] }, func(m []byte) error {
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

// UsableAddresses lists the usable addresses of an interface, in the order of Usable.
func (n *Namespace) UsableAddresses(l *Link) ([]Address, error) {
	all, err := n.Addresses(l)
	if err != nil {
		return nil, err
	}
	return Usable(all), nil
}

// Usable are the usable ones of some addresses, those first that serve best as a source and a next hop. Among
// equals it is the oldest, so that an address that is added later changes nothing: the kernel lists those of
// IPv4 in that order, and those of IPv6 the other way round.
func Usable(all []Address) []Address {
	var usable []Address
	for _, a := range all {
		if a.Usable() && a.Prefix.Addr().Is4() {
			usable = append(usable, a)
		}
	}
	for _, a := range slices.Backward(all) {
		if a.Usable() && a.Prefix.Addr().Is6() {
			usable = append(usable, a)
		}
	}
	for i := range usable { // slices.SortStableFunc would be 10 KB of every plugin
		for j := i; j > 0 && usable[j-1].rank() > usable[j].rank(); j-- {
			usable[j-1], usable[j] = usable[j], usable[j-1]
		}
	}
	return usable
}

// IsLocal reports whether an address is one of the namespace's own, on whatever interface. In IPv6 one that is still
// tentative counts, which has no route yet, but not a duplicate.
func (n *Namespace) IsLocal(addr netip.Addr) (bool, error) {
	msg := rtmsg(familyOf(addr), 0)
	msg.Dst_len = uint8(addr.BitLen())
	m, err := n.get(unix.RTM_GETROUTE, msg, attr(unix.RTA_DST, addr.AsSlice()))
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EACCES):
	case err != nil:
		return false, fmt.Errorf("ip route get %s: %w", addr, err)
	case nl.DeserializeRtMsg(m).Type == unix.RTN_LOCAL:
		return true, nil
	}
	if addr.Is4() {
		return false, nil
	}
	m, err = n.get(unix.RTM_GETADDR, nl.NewIfAddrmsg(int(v6)), attr(unix.IFA_ADDRESS, addr.AsSlice()))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // the latter from a kernel without IPv6
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", addr, err)
	}
	a, err := parseAddress(m)
	return err == nil && !a.Duplicate(), err
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
