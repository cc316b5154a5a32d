package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A LinkAddress is an address of an interface that nobody else is to know: its scope is link, and IPv6 does no
// duplicate address detection for it.
type LinkAddress struct {
	Addr netip.Addr
	Dev  *Link
}

// String is the line of ip-address(8).
func (l *LinkAddress) String() string {
	nodad := ""
	if l.Addr.Is6() {
		nodad = " nodad"
	}
	return l.Dev.NS.line("ip %saddr replace %s dev %s scope link%s", familyOf(l.Addr).flag(), Single(l.Addr), quote.Sh(l.Dev.Name), nodad)
}

// Apply adds the address. It is no error if the interface has it already.
func (l *LinkAddress) Apply() error {
	index, err := l.Dev.Index()
	if err != nil {
		return err
	}
	msg := nl.NewIfAddrmsg(int(familyOf(l.Addr)))
	msg.Index, msg.Prefixlen, msg.Scope = uint32(index), uint8(l.Addr.BitLen()), unix.RT_SCOPE_LINK
	parts := []nl.NetlinkRequestData{msg, attr(unix.IFA_LOCAL, l.Addr.AsSlice()), attr(unix.IFA_ADDRESS, l.Addr.AsSlice())}
	if l.Addr.Is6() {
		parts = append(parts, attr32(unix.IFA_FLAGS, unix.IFA_F_NODAD))
	}
	err = l.Dev.NS.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Verify tells whether the interface has the address.
func (l *LinkAddress) Verify() error {
	addrs, err := l.Dev.NS.Addresses(l.Dev)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(addrs, func(a Address) bool { return a.Prefix == Single(l.Addr) }) {
		return fmt.Errorf("address is missing: %s on %s", Single(l.Addr), l.Dev.Name)
	}
	return nil
}

// Revert does nothing: the address goes with the pair that the interface is an end of.
func (*LinkAddress) Revert() error { return nil }

// SourceTo is the address that the kernel sends from to a destination. It is not valid if there is no way there.
func (n *Namespace) SourceTo(dst netip.Addr) (netip.Addr, error) {
	msg := rtmsg(familyOf(dst), 0)
	msg.Dst_len = uint8(dst.BitLen())
	m, err := n.get(unix.RTM_GETROUTE, msg, attr(unix.RTA_DST, dst.AsSlice()))
	for _, no := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EACCES, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENODEV} {
		if errors.Is(err, no) {
			return netip.Addr{}, nil
		}
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ip route get %s: %w", dst, err)
	}
	got, err := parseRoute(m)
	if err != nil {
		return netip.Addr{}, err
	}
	return got.src, nil
}
