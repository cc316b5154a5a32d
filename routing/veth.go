package routing

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A Veth is a pair of virtual Ethernet interfaces, each end in its own namespace. The pair is made in
// one step with the peer already where it belongs: moving an end afterwards costs an RCU grace period.
// Both hardware addresses are explicit, because udev rewrites random ones after the neighbours have
// been written. Each end has one queue: the kernel would make one for every processor, with two objects
// in sysfs for each, while a veth without XDP uses them for nothing.
type Veth struct {
	Host, Peer *Link
	PeerMAC    net.HardwareAddr
	MTU        int   // of both ends, in bytes
	Owner      Owner // of the host end

	created bool
}

// An Owner is what the host end of a pair carries to say whose it is.
type Owner struct {
	Alias string           // ip link set … alias; at most 255 bytes
	Group uint32           // ip link set … group; the kernel's default is 0
	MAC   net.HardwareAddr // its address, made out of the owner's name
}

// ErrForeign says that a name is taken by something that is not ours.
var ErrForeign = errors.New("it is not ours")

// Owns reports whether a link is the owner's. The alias may be missing, since it
// is set after the link has been made and the process may have been killed in between; and an operator may have
// written another one, or put the link into another group: then the address tells.
func (o Owner) Owns(l *LinkAttrs) bool {
	return l.Kind == "veth" && bytes.Equal(l.MAC, o.MAC) || l.Group == o.Group && (l.Alias == o.Alias || l.Alias == "")
}

// check is nil for a link of the owner's, and wraps ErrForeign for any other.
func (o Owner) check(l *LinkAttrs) error {
	if o.Owns(l) {
		return nil
	}
	return fmt.Errorf("interface %s has alias %q and group %d: %w", l.Name, l.Alias, l.Group, ErrForeign)
}

// String is the line of ip-link(8).
func (v *Veth) String() string {
	const queues = "numtxqueues 1 numrxqueues 1"
	return v.Host.NS.line("ip link add %s mtu %d address %s group %d "+queues+" type veth peer name %s netns %s mtu %d address %s "+queues,
		quote.Sh(v.Host.Name), v.MTU, v.Owner.MAC, v.Owner.Group, quote.Sh(v.Peer.Name), quote.Sh(v.Peer.NS.String()), v.MTU, v.PeerMAC)
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
	if errors.Is(err, ErrNoLink) {
		return v.peerTaken()
	}
	if err != nil {
		return err
	}
	if err := v.Owner.check(host); err != nil {
		return err
	}
	if v.compare(host) == nil {
		return nil
	}
	if err := v.Host.delete(); err != nil {
		return err
	}
	if err = v.add(); errors.Is(err, fs.ErrExist) {
		return v.peerTaken()
	}
	return err
}

func (v *Veth) peerTaken() error {
	return fmt.Errorf("interface %s exists in %s: %w", v.Peer.Name, v.Peer.NS, ErrForeign)
}

func (v *Veth) add() error {
	v.Host.index, v.Peer.index = 0, 0
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Peer.Name))
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU)))
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.PeerMAC)
	peer.AddRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1))
	peer.AddRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.Peer.NS.FD())))
	err := v.Host.NS.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		nl.NewIfInfomsg(unix.AF_UNSPEC), attr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Host.Name)), attr32(unix.IFLA_MTU, uint32(v.MTU)),
		attr(unix.IFLA_ADDRESS, v.Owner.MAC), attr32(unix.IFLA_GROUP, v.Owner.Group),
		attr32(unix.IFLA_NUM_TX_QUEUES, 1), attr32(unix.IFLA_NUM_RX_QUEUES, 1), info)
	v.created = v.created || done(err)
	return err
}

// Verify compares both ends with the kernel.
func (v *Veth) Verify() error {
	host, err := v.Host.Attrs()
	if err != nil {
		return err
	}
	if err := v.Owner.check(host); err != nil {
		return err
	}
	return v.compare(host)
}

// compare tells how the pair differs from the description, given its host end.
func (v *Veth) compare(host *LinkAttrs) error {
	peer, err := v.Peer.Attrs()
	if err != nil {
		return err
	}
	if pair, err := Pair(host, v.Host.NS, peer, v.Peer.NS); err != nil {
		return err
	} else if !pair {
		return fmt.Errorf("interface %s in %s is not the peer of %s: %w", peer.Name, v.Peer.NS, host.Name, ErrForeign)
	}
	var errs []error
	if host.Group != v.Owner.Group {
		errs = append(errs, fmt.Errorf("interface %s has group %d, not %d", host.Name, host.Group, v.Owner.Group))
	}
	for _, end := range []struct {
		*LinkAttrs
		mac net.HardwareAddr
	}{{host, v.Owner.MAC}, {peer, v.PeerMAC}} {
		if !bytes.Equal(end.MAC, end.mac) {
			errs = append(errs, fmt.Errorf("interface %s has address %s, not %s", end.Name, end.MAC, end.mac))
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
