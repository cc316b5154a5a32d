package routing

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A LinkMAC is the hardware address of an interface. Setting it leaves the interface up, with its addresses and
// routes; but the kernel forgets every neighbour of the interface, the permanent ones too, so it comes before
// them in a plan. Whoever on the wire has the old one in a cache has to be told: see Announce.
type LinkMAC struct {
	Link *Link
	MAC  net.HardwareAddr

	was net.HardwareAddr // before the first Apply that changed it
}

// ErrSharedMAC says that an interface cannot have a hardware address of its own.
var ErrSharedMAC = errors.New("an ipvlan has the hardware address of its parent, and so has every other of that parent")

// String is the line of ip-link(8).
func (m *LinkMAC) String() string {
	return m.Link.NS.line("ip link set %s address %s", quote.Sh(m.Link.Name), m.MAC)
}

// Possible tells whether the interface can have a hardware address of its own, and changes nothing. The error
// wraps ErrSharedMAC, or ErrNoLink.
func (m *LinkMAC) Possible() error {
	_, err := m.look()
	return err
}

func (m *LinkMAC) look() (*LinkAttrs, error) {
	attrs, err := m.Link.Attrs()
	if err == nil && attrs.Kind == "ipvlan" {
		return nil, fmt.Errorf("interface %s: %w", m.Link.Name, ErrSharedMAC)
	}
	return attrs, err
}

// Apply sets the address if it is another. The error wraps ErrSharedMAC, and unix.EADDRINUSE when another macvlan of
// the same parent has the address.
func (m *LinkMAC) Apply() error {
	attrs, err := m.look()
	if err != nil || bytes.Equal(attrs.MAC, m.MAC) {
		return err
	}
	err = m.Link.setMAC(m.MAC)
	if done(err) && m.was == nil {
		m.was = attrs.MAC
	}
	return err
}

// Verify tells whether the interface has the address.
func (m *LinkMAC) Verify() error {
	attrs, err := m.Link.Attrs()
	if err != nil {
		return err
	}
	if !bytes.Equal(attrs.MAC, m.MAC) {
		return fmt.Errorf("interface %s has address %s, not %s", m.Link.Name, attrs.MAC, m.MAC)
	}
	return nil
}

// Revert gives the interface the address that it had. It is no error if the interface is gone.
func (m *LinkMAC) Revert() error {
	if m.was == nil {
		return nil
	}
	err := m.Link.setMAC(m.was)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	return err
}

func (l *Link) setMAC(mac net.HardwareAddr) error {
	index, err := l.Index()
	if err != nil {
		return err
	}
	err = l.NS.request(unix.RTM_SETLINK, 0, ifinfo(index, 0), attr(unix.IFLA_ADDRESS, mac))
	if errors.Is(err, unix.ENODEV) {
		l.index = 0
		return fmt.Errorf("interface %s: %w", l.Name, ErrNoLink)
	}
	return err
}
