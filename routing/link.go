package routing

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
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

// LinkAttrs are the properties of an interface.
type LinkAttrs struct {
	Index  int
	Peer   int // index of the other end of a veth, in its namespace; the parent's of a macvlan or an ipvlan
	Master int // index of the bridge that it is a port of, or of another master; 0: none
	NSID   int // number that this namespace has for that of the peer; -1: the peer is in this one
	Name   string
	Kind   string // veth, macvlan, …; empty for hardware
	Alias  string
	Group  uint32
	MTU    int // in bytes
	Up     bool
	MAC    net.HardwareAddr
	L3S    bool // an ipvlan in mode l3s

	AltNames []string // further names

	Running bool // up, with a carrier, and what is sent goes out
	NoARP   bool // it has no neighbours to ask for by ARP or ND: an ipvlan in mode l3 or l3s

	// AddrGenMode is how the kernel makes the IPv6 addresses of the interface, in the words of ip-link(8); empty
	// without IPv6.
	AddrGenMode string

	inetConf  []int32 // net/ipv4/conf of the interface, by IPV4_DEVCONF number less 1
	inet6Conf []int32 // net/ipv6/conf of the interface, by DEVCONF number; none without IPv6
}

// ErrNoLink says that an interface does not exist. (Its text avoids the words "not found", which
// containerd takes for a finished DEL.)
var ErrNoLink = errors.New("no such interface")

// Index is the interface index. The error wraps ErrNoLink when there is no such interface.
func (l *Link) Index() (int, error) {
	if l.index == 0 {
		if _, err := l.Attrs(); err != nil {
			return 0, err
		}
	}
	return l.index, nil
}

// Attrs asks the kernel for the interface, by name. The error wraps ErrNoLink when there is none.
func (l *Link) Attrs() (*LinkAttrs, error) {
	l.index = 0
	attrs, err := l.NS.link(l.Name, nl.NewIfInfomsg(unix.AF_UNSPEC), attr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)))
	if err != nil {
		return nil, err
	}
	l.index = attrs.Index
	return attrs, nil
}

// LinkAt asks the kernel for the interface of an index. The error wraps ErrNoLink when there is none.
func (n *Namespace) LinkAt(index int) (*LinkAttrs, error) {
	return n.link(fmt.Sprint("of index ", index), ifinfo(index, 0))
}

// link asks the kernel for one interface.
func (n *Namespace) link(name string, which ...nl.NetlinkRequestData) (*LinkAttrs, error) {
	// The statistics are most of an answer.
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	m, err := n.get(unix.RTM_GETLINK, append(which, attr32(unix.IFLA_EXT_MASK, skipStats))...)
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("interface %s: %w", name, ErrNoLink)
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return parseLink(m)
}

func parseLink(m []byte) (*LinkAttrs, error) {
	msg := nl.DeserializeIfInfomsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return nil, fmt.Errorf("parse an interface: %w", err)
	}
	l := &LinkAttrs{Index: int(msg.Index), NSID: -1}
	l.Up, l.Running, l.NoARP = msg.Flags&unix.IFF_UP != 0, msg.Flags&unix.IFF_RUNNING != 0, msg.Flags&unix.IFF_NOARP != 0
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			l.Name = nl.BytesToString(a.Value)
		case unix.IFLA_LINK:
			l.Peer = int(uint32Of(a.Value))
		case unix.IFLA_MASTER:
			l.Master = int(uint32Of(a.Value))
		case unix.IFLA_LINK_NETNSID:
			l.NSID = int(int32(uint32Of(a.Value)))
		case unix.IFLA_IFALIAS:
			l.Alias = nl.BytesToString(a.Value)
		case unix.IFLA_PROP_LIST, unix.IFLA_PROP_LIST | unix.NLA_F_NESTED:
			names, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return nil, fmt.Errorf("parse an interface: %w", err)
			}
			for _, n := range names {
				l.AltNames = append(l.AltNames, nl.BytesToString(n.Value))
			}
		case unix.IFLA_GROUP:
			l.Group = uint32Of(a.Value)
		case unix.IFLA_MTU:
			l.MTU = int(uint32Of(a.Value))
		case unix.IFLA_ADDRESS:
			l.MAC = append(l.MAC, a.Value...)
		case unix.IFLA_AF_SPEC:
			if err := l.parseFamilies(a.Value); err != nil {
				return nil, fmt.Errorf("parse an interface: %w", err)
			}
		case unix.IFLA_LINKINFO:
			info, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return nil, fmt.Errorf("parse an interface: %w", err)
			}
			for _, i := range info {
				switch i.Attr.Type {
				case nl.IFLA_INFO_KIND: // comes before the data
					l.Kind = nl.BytesToString(i.Value)
				case nl.IFLA_INFO_DATA:
					if l.L3S, err = isL3S(l.Kind, i.Value); err != nil {
						return nil, fmt.Errorf("parse an interface: %w", err)
					}
				}
			}
		}
	}
	return l, nil
}

func isL3S(kind string, data []byte) (bool, error) {
	if kind != "ipvlan" {
		return false, nil
	}
	attrs, err := nl.ParseRouteAttr(data)
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IPVLAN_MODE {
			return native.Uint16(a.Value) == 2, nil // IPVLAN_MODE_L3S
		}
	}
	return false, err
}

// InGroup lists the interfaces of one group. It reads all of the namespace's.
func (n *Namespace) InGroup(group uint32) (links []*LinkAttrs, err error) {
	return n.Links(func(l *LinkAttrs) bool { return l.Group == group })
}

// Links lists the interfaces that keep wants, of all of the namespace's; nil wants them all. In the node's namespace they
// grow with the number of pods.
func (n *Namespace) Links(keep func(*LinkAttrs) bool) (links []*LinkAttrs, err error) {
	err = n.dump(unix.RTM_GETLINK, unix.AF_UNSPEC, func() { links = nil }, func(m []byte) error {
		l, err := parseLink(m)
		if err == nil && (keep == nil || keep(l)) {
			links = append(links, l)
		}
		return err
	}, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return links, nil
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
	err = l.NS.request(unix.RTM_DELLINK, 0, ifinfo(index, 0))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// ifinfo addresses a link by its index and sets flags of it.
func ifinfo(index int, flags uint32) *nl.IfInfomsg {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, flags
	return msg
}

// NoLink is the absence of an interface: its Apply deletes it, which for a veth takes the other end,
// the routes, the neighbours and the addresses of both along.
type NoLink struct {
	Link  *Link
	Owner Owner
}

// String is the line of ip-link(8).
func (n *NoLink) String() string { return n.Link.NS.line("ip link del %s", quote.Sh(n.Link.Name)) }

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
	if err := n.Owner.check(attrs); err != nil {
		return err
	}
	return n.Link.delete()
}

// Verify tells whether the interface is gone.
func (n *NoLink) Verify() error {
	_, err := n.Link.Attrs()
	return gone(err == nil, err, "interface %s is still there", n.Link.Name)
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
		alias = " alias " + quote.Sh(u.Alias)
	}
	return u.Link.NS.line("ip link set %s%s addrgenmode none up", quote.Sh(u.Link.Name), alias)
}

// Apply sets all of it, whatever it was before. The mode comes first, since an interface gets its
// link-local address when it comes up; and it is skipped where the kernel has no IPv6 for the interface
// (ipv6.disable=1, or an MTU below 1280).
func (u *LinkUp) Apply() error {
	index, err := u.Link.Index()
	if err != nil {
		return err
	}
	spec := attr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))
	err = u.Link.NS.request(unix.RTM_SETLINK, 0, ifinfo(index, 0), spec)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("addrgenmode none: %w", err)
	}
	up := []nl.NetlinkRequestData{ifinfo(index, unix.IFF_UP)}
	if u.Alias != "" {
		up = append(up, attr(unix.IFLA_IFALIAS, []byte(u.Alias)))
	}
	return u.Link.NS.request(unix.RTM_SETLINK, 0, up...)
}

// Verify tells whether the interface is up, makes no addresses and has its alias.
func (u *LinkUp) Verify() error {
	attrs, err := u.Link.Attrs()
	if err != nil {
		return err
	}
	if !attrs.Up {
		return fmt.Errorf("interface %s is down", u.Link.Name)
	}
	if attrs.AddrGenMode != "" && attrs.AddrGenMode != "none" {
		return fmt.Errorf("interface %s has addrgenmode %s, not none", u.Link.Name, attrs.AddrGenMode)
	}
	if u.Alias != "" && attrs.Alias != u.Alias {
		return fmt.Errorf("interface %s has alias %q, not %q", u.Link.Name, attrs.Alias, u.Alias)
	}
	return nil
}

// Revert does nothing: the interface goes with the pair that it is an end of.
func (*LinkUp) Revert() error { return nil }
