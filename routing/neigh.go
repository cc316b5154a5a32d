package routing

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Neigh is a permanent neighbour: the kernel never asks for it by ARP or ND, so neither the node's
// arp_ignore nor a proxy matters.
type Neigh struct {
	Addr netip.Addr
	Dev  *Link
	MAC  net.HardwareAddr

	added bool
}

// String is the line of ip-neighbour(8).
func (n *Neigh) String() string {
	return n.Dev.NS.line("ip neigh replace %s lladdr %s dev %s nud permanent", n.Addr, n.MAC, n.Dev.Name)
}

func (n *Neigh) entry() (*netlink.Neigh, error) {
	index, err := n.Dev.Index()
	if err != nil {
		return nil, err
	}
	return &netlink.Neigh{
		LinkIndex: index, State: unix.NUD_PERMANENT, IP: n.Addr.AsSlice(), HardwareAddr: n.MAC,
		Family: int(familyOf(n.Addr)),
	}, nil
}

// Apply writes the neighbour over whatever is known of the address on that interface.
func (n *Neigh) Apply() error {
	e, err := n.entry()
	if err != nil {
		return err
	}
	n.added = true
	return n.Dev.NS.rt.NeighSet(e)
}

// Verify tells whether the neighbour is there, permanent, with that hardware address.
func (n *Neigh) Verify() error {
	want, err := n.entry()
	if err != nil {
		return err
	}
	var all []netlink.Neigh
	err = retry(func() (err error) {
		all, err = n.Dev.NS.rt.NeighList(want.LinkIndex, want.Family)
		return err
	})
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, got := range all {
		if !got.IP.Equal(want.IP) {
			continue
		}
		if got.State != unix.NUD_PERMANENT || !bytes.Equal(got.HardwareAddr, n.MAC) {
			return fmt.Errorf("neighbour %s on %s has lladdr %s and state %#x", n.Addr, n.Dev.Name, got.HardwareAddr, got.State)
		}
		return nil
	}
	return fmt.Errorf("neighbour %s is missing on %s", n.Addr, n.Dev.Name)
}

// Revert deletes the neighbour if Apply wrote it. It is no error if it is already gone.
func (n *Neigh) Revert() error {
	if !n.added {
		return nil
	}
	e, err := n.entry()
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	err = n.Dev.NS.rt.NeighDel(e)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
