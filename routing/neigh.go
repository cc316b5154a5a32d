package routing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A Neigh is a permanent neighbour: the kernel never asks for it by ARP or ND, so neither the node's
// arp_ignore nor a proxy matters.
type Neigh struct {
	Addr netip.Addr
	Dev  *Link
	MAC  net.HardwareAddr
	// There says that an earlier change has made it, as a rule: a look comes first, so that Revert, after an answer that
	// got lost, knows what was there before.
	There bool

	added bool
}

// String is the line of ip-neighbour(8).
func (n *Neigh) String() string {
	return n.Dev.NS.line("ip neigh replace %s lladdr %s dev %s nud permanent", n.Addr, n.MAC, quote.Sh(n.Dev.Name))
}

// Apply writes the neighbour over whatever is known of the address on that interface. One that is there as described
// stays as it is, and Revert leaves it: another may have written it.
func (n *Neigh) Apply() error {
	if n.There {
		if there, err := n.find(); err != nil || n.is(there) {
			return err
		}
	}
	err := n.write(unix.NLM_F_EXCL)
	if errors.Is(err, fs.ErrExist) {
		there, failed := n.find()
		if failed != nil || n.is(there) {
			return failed
		}
		err = n.write(unix.NLM_F_REPLACE)
	}
	n.added = n.added || done(err)
	return err
}

func (n *Neigh) write(flag int) error {
	msg, err := n.message(unix.NUD_PERMANENT)
	if err != nil {
		return err
	}
	return n.Dev.NS.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|flag, msg, attr(unix.NDA_DST, n.Addr.AsSlice()), attr(unix.NDA_LLADDR, n.MAC))
}

func (n *Neigh) message(state uint16) (*ndmsg, error) {
	index, err := n.Dev.Index()
	return &ndmsg{family: familyOf(n.Addr), index: index, state: state}, err
}

// Verify tells whether the neighbour is there, permanent, with that hardware address.
func (n *Neigh) Verify() error {
	got, err := n.find()
	switch {
	case err != nil:
		return err
	case got == nil:
		return fmt.Errorf("neighbour %s is missing on %s", n.Addr, n.Dev.Name)
	case !n.is(got):
		return fmt.Errorf("neighbour %s on %s has lladdr %s and state %#x", n.Addr, n.Dev.Name, got.mac, got.state)
	}
	return nil
}

// is tells whether what the kernel has of the neighbour is as described.
func (n *Neigh) is(got *neigh) bool {
	return got != nil && got.state == unix.NUD_PERMANENT && bytes.Equal(got.mac, n.MAC)
}

// Found is the hardware address that the kernel has for the neighbour, nil if it has none.
func (n *Neigh) Found() (net.HardwareAddr, error) {
	got, err := n.find()
	if got == nil {
		return nil, err
	}
	return got.mac, err
}

func (n *Neigh) find() (found *neigh, err error) {
	index, err := n.Dev.Index()
	if err != nil {
		return nil, err
	}
	err = n.Dev.NS.dump(unix.RTM_GETNEIGH, familyOf(n.Addr), func() { found = nil }, func(m []byte) error {
		got, err := parseNeigh(m)
		if err == nil && got.index == index && got.addr == n.Addr {
			found = &got
		}
		return err
	}, &ndmsg{family: familyOf(n.Addr)}, attr32(unix.NDA_IFINDEX, uint32(index)))
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	return found, nil
}

// Revert deletes the neighbour if Apply wrote it. It is no error if it is already gone.
func (n *Neigh) Revert() error {
	if !n.added {
		return nil
	}
	return (&NoNeigh{n}).Apply()
}

// NoNeigh is the absence of a neighbour.
type NoNeigh struct{ *Neigh }

// String is the line of ip-neighbour(8).
func (n *NoNeigh) String() string {
	return n.Dev.NS.line("ip neigh del %s dev %s", n.Addr, quote.Sh(n.Dev.Name))
}

// Apply deletes the neighbour. It is no error if it, or the interface, is already gone.
func (n *NoNeigh) Apply() error {
	msg, err := n.message(0)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	err = n.Dev.NS.request(unix.RTM_DELNEIGH, 0, msg, attr(unix.NDA_DST, n.Addr.AsSlice()))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Verify tells whether the neighbour is gone: whatever hardware address it has, if it has one. One that the kernel has asked for
// in vain stays in its list for a while.
func (n *NoNeigh) Verify() error {
	got, err := n.find()
	return gone(got != nil && got.state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0, err, "neighbour %s is still there on %s", n.Addr, n.Dev.Name)
}

// Revert does nothing: what is gone was ours.
func (*NoNeigh) Revert() error { return nil }

// An ndmsg is struct ndmsg of linux/neighbour.h.
type ndmsg struct {
	family family
	index  int
	state  uint16
	flags  uint8
}

func (*ndmsg) Len() int { return unix.SizeofNdMsg }

func (m *ndmsg) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = byte(m.family)
	binary.NativeEndian.PutUint32(b[4:], uint32(m.index))
	binary.NativeEndian.PutUint16(b[8:], m.state)
	b[10] = m.flags
	return b
}

// A neigh is what Verify needs to know of one.
type neigh struct {
	index int
	state uint16
	addr  netip.Addr
	mac   net.HardwareAddr
}

func parseNeigh(m []byte) (neigh, error) {
	if len(m) < unix.SizeofNdMsg {
		return neigh{}, fmt.Errorf("parse a neighbour: %d bytes", len(m))
	}
	n := neigh{index: int(uint32Of(m[4:])), state: binary.NativeEndian.Uint16(m[8:])}
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofNdMsg:])
	if err != nil {
		return neigh{}, fmt.Errorf("parse a neighbour: %w", err)
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.NDA_DST:
			n.addr, _ = netip.AddrFromSlice(a.Value)
		case unix.NDA_LLADDR:
			n.mac = net.HardwareAddr(bytes.Clone(a.Value))
		}
	}
	return n, nil
}
