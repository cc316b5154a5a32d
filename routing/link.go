package routing

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Link is one network interface of a namespace, by name. It need not exist yet: the index is looked
// up when it is first needed.
type Link struct {
	NS   *Namespace
	Name string

	index int
}

// Link names an interface of the namespace.
func (n *Namespace) Link(name string) *Link { return &Link{NS: n, Name: name} }

// Index is the interface index. The error is ErrNoLink when there is no such interface.
func (l *Link) Index() (int, error) {
	if l.index == 0 {
		if _, err := l.Attrs(); err != nil {
			return 0, err
		}
	}
	return l.index, nil
}

// Attrs asks the kernel for the interface, by name. The error is ErrNoLink when there is none.
func (l *Link) Attrs() (*netlink.LinkAttrs, error) {
	link, err := l.get()
	if err != nil {
		return nil, err
	}
	return link.Attrs(), nil
}

func (l *Link) get() (netlink.Link, error) {
	link, err := l.NS.rt.LinkByName(l.Name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		l.index = 0
		return nil, fmt.Errorf("interface %s: %w", l.Name, ErrNoLink)
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", l.Name, err)
	}
	l.index = link.Attrs().Index
	return link, nil
}

// ErrNoLink says that an interface does not exist. (Its text avoids the words "not found", which
// containerd takes for a finished DEL.)
var ErrNoLink = errors.New("no such interface")

// A Veth is a pair of virtual Ethernet interfaces, each end in its own namespace. The pair is made in
// one step with the peer already where it belongs: moving an end afterwards costs an RCU grace period.
// Both hardware addresses are explicit, because udev rewrites random ones after the neighbours have
// been written.
type Veth struct {
	Host, Peer       *Link
	HostMAC, PeerMAC net.HardwareAddr
	MTU              int   // of both ends, in bytes
	Owner            Owner // of the host end

	created bool
}

// An Owner is what the host end of a pair carries to say whose it is.
type Owner struct {
	Alias string // ip link set … alias; at most 255 bytes
	Group uint32 // ip link set … group; the kernel's default is 0
}

// owns reports whether a link is the owner's. The alias may still be missing: it is set after the link
// has been made, and the process may have been killed in between.
func (o Owner) owns(l *netlink.LinkAttrs) bool {
	return l.Group == o.Group && (l.Alias == o.Alias || l.Alias == "")
}

// ErrForeign says that a name is taken by something that is not ours.
var ErrForeign = errors.New("it is not ours")

// String is the line of ip-link(8).
func (v *Veth) String() string {
	return v.Host.NS.line("ip link add %s mtu %d address %s group %d type veth peer name %s netns %s mtu %d address %s",
		v.Host.Name, v.MTU, v.HostMAC, v.Owner.Group, v.Peer.Name, v.Peer.NS, v.MTU, v.PeerMAC)
}

// Apply makes the pair. A pair that is already as described stays. A host end of ours that is not as
// described (its peer is elsewhere, or its MTU has changed) is deleted and made again. A name that is
// taken by an interface that is not ours is an error that wraps ErrForeign.
func (v *Veth) Apply() error {
	err := v.add()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	host, err := v.Host.Attrs()
	switch {
	case errors.Is(err, ErrNoLink):
		return fmt.Errorf("interface %s exists in %s: %w", v.Peer.Name, v.Peer.NS, ErrForeign)
	case err != nil:
		return err
	case !v.Owner.owns(host):
		return fmt.Errorf("interface %s has alias %q and group %d: %w", v.Host.Name, host.Alias, host.Group, ErrForeign)
	case v.compare(host) == nil:
		return nil
	}
	if err := v.Host.delete(); err != nil {
		return err
	}
	if err := v.add(); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("interface %s exists in %s: %w", v.Peer.Name, v.Peer.NS, ErrForeign)
	} else if err != nil {
		return err
	}
	return nil
}

func (v *Veth) add() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr, attrs.Group = v.Host.Name, v.MTU, v.HostMAC, v.Owner.Group
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = v.Peer.Name, v.PeerMAC, netlink.NsFd(v.Peer.NS.FD())
	if err := v.Host.NS.rt.LinkAdd(veth); err != nil {
		return err
	}
	v.created = true
	v.Host.index, v.Peer.index = veth.Attrs().Index, 0
	return nil
}

// Verify compares both ends with the kernel.
func (v *Veth) Verify() error {
	host, err := v.Host.Attrs()
	if err != nil {
		return err
	}
	if host.Alias != v.Owner.Alias || host.Group != v.Owner.Group {
		return fmt.Errorf("interface %s has alias %q and group %d: %w", v.Host.Name, host.Alias, host.Group, ErrForeign)
	}
	return v.compare(host)
}

// compare tells how the pair differs from the description, given its host end.
func (v *Veth) compare(host *netlink.LinkAttrs) error {
	peer, err := v.Peer.get()
	if err != nil {
		return err
	}
	p := peer.Attrs()
	if peer.Type() != "veth" || p.ParentIndex != host.Index || host.ParentIndex != p.Index {
		return fmt.Errorf("interface %s in %s is not the peer of %s: %w", p.Name, v.Peer.NS, host.Name, ErrForeign)
	}
	var errs []error
	for _, end := range []struct {
		*netlink.LinkAttrs
		mac net.HardwareAddr
	}{{host, v.HostMAC}, {p, v.PeerMAC}} {
		if !bytes.Equal(end.HardwareAddr, end.mac) {
			errs = append(errs, fmt.Errorf("interface %s has address %s, not %s", end.Name, end.HardwareAddr, end.mac))
		}
		if end.MTU != v.MTU {
			errs = append(errs, fmt.Errorf("interface %s has mtu %d, not %d", end.Name, end.MTU, v.MTU))
		}
	}
	return errors.Join(errs...)
}

// Revert deletes the pair if Apply made it.
func (v *Veth) Revert() error {
	if !v.created {
		return nil
	}
	return v.Host.delete()
}

// delete deletes the interface, and with a veth its peer. It is no error if it is already gone.
func (l *Link) delete() error {
	index, err := l.Index()
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	l.index = 0
	err = l.NS.rt.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// InGroup lists the interfaces of one group by name, with their owners.
func (n *Namespace) InGroup(group uint32) (map[string]Owner, error) {
	var links []netlink.Link
	err := retry(func() (err error) {
		links, err = n.rt.LinkList()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	owners := make(map[string]Owner)
	for _, l := range links {
		if attrs := l.Attrs(); attrs.Group == group {
			owners[attrs.Name] = Owner{Alias: attrs.Alias, Group: group}
		}
	}
	return owners, nil
}

// NoLink is the absence of an interface: its Apply deletes it, which for a veth takes the other end,
// the routes, the neighbours and the addresses of both along.
type NoLink struct {
	Link  *Link
	Owner Owner
}

// String is the line of ip-link(8).
func (n *NoLink) String() string { return n.Link.NS.line("ip link del %s", n.Link.Name) }

// Apply deletes the interface. It is no error if it is already gone; one that is not the owner's
// stays, and the error wraps ErrForeign.
func (n *NoLink) Apply() error {
	attrs, err := n.Link.Attrs()
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	if !n.Owner.owns(attrs) {
		return fmt.Errorf("interface %s has alias %q and group %d: %w", attrs.Name, attrs.Alias, attrs.Group, ErrForeign)
	}
	return n.Link.delete()
}

// Verify tells whether the interface is gone.
func (n *NoLink) Verify() error {
	_, err := n.Link.Attrs()
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("interface %s is still there", n.Link.Name))
}

// Revert does nothing: what is gone was ours.
func (*NoLink) Revert() error { return nil }

// LinkUp brings an interface up, with no IPv6 link-local address generated for it (addrgenmode none:
// this design needs none, and deleting a veth without one takes 13 ms in place of 33).
type LinkUp struct {
	Link  *Link
	Alias string // set as well, unless empty
}

// String is the line of ip-link(8).
func (u *LinkUp) String() string {
	alias := ""
	if u.Alias != "" {
		alias = fmt.Sprintf(" alias %q", u.Alias)
	}
	return u.Link.NS.line("ip link set %s%s addrgenmode none up", u.Link.Name, alias)
}

// Apply sets all of it, whatever it was before. The mode is skipped where the kernel has no IPv6 for
// the interface (ipv6.disable=1, or an MTU below 1280).
func (u *LinkUp) Apply() error {
	index, err := u.Link.Index()
	if err != nil {
		return err
	}
	rt, dev := u.Link.NS.rt, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if u.Alias != "" {
		if err := rt.LinkSetAlias(dev, u.Alias); err != nil {
			return err
		}
	}
	err = rt.LinkSetIP6AddrGenMode(dev, nl.IN6_ADDR_GEN_MODE_NONE)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("addrgenmode none: %w", err)
	}
	return rt.LinkSetUp(dev)
}

// Verify tells whether the interface is up and has its alias.
func (u *LinkUp) Verify() error {
	attrs, err := u.Link.Attrs()
	if err != nil {
		return err
	}
	if attrs.Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %s is down", u.Link.Name)
	}
	if u.Alias != "" && attrs.Alias != u.Alias {
		return fmt.Errorf("interface %s has alias %q, not %q", u.Link.Name, attrs.Alias, u.Alias)
	}
	return nil
}

// Revert does nothing: the interface goes with the pair that it is an end of.
func (*LinkUp) Revert() error { return nil }
