package routing

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtmsg is the header of a message about routes; a table id that does not fit goes into an attribute.
func rtmsg(f family, table int) *nl.RtMsg {
	msg := &nl.RtMsg{}
	msg.Family = uint8(f)
	if table < 256 {
		msg.Table = uint8(table)
	}
	return msg
}

// A dumped route is one as the kernel has listed it: the fields that we look at, and all the rest to
// make copies that are true in every detail.
type dumped struct {
	msg      nl.RtMsg
	attrs    []nl.NetlinkRequestData // but for those that a copy does not share
	table    int
	oif      int
	metric   int
	dst      netip.Prefix
	via, src netip.Addr
	hops     []hop // of a multipath route
	oifs     []int // of a multipath route
	shared   bool  // it is the part of one of several interfaces
	options  options
}

// A hop is one of several next hops.
type hop struct {
	via    netip.Addr
	weight int
	onlink bool
}

// options are what an operator may have said of a route beside where it leads.
type options struct {
	protocol    uint8
	onlink      bool
	mtuLocked   bool
	mtu, advmss uint32
}

// rtaNhID is RTA_NH_ID of linux/rtnetlink.h, which package unix does not have.
const rtaNhID = 30

func parseRoute(m []byte) (*dumped, error) {
	msg := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return nil, fmt.Errorf("parse a route: %w", err)
	}
	d := &dumped{msg: *msg, table: int(msg.Table)}
	d.options = options{protocol: msg.Protocol, onlink: msg.Flags&unix.RTNH_F_ONLINK != 0}
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_TABLE:
			d.table = int(uint32Of(a.Value))
			continue // the copy's own
		case unix.RTA_CACHEINFO:
			continue // the kernel's
		case rtaNhID:
			continue // of an object that says what the other attributes say too, and excludes them
		case unix.RTA_OIF:
			d.oif = int(uint32Of(a.Value))
		case unix.RTA_PRIORITY:
			d.metric = int(uint32Of(a.Value))
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_GATEWAY:
			d.via, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA: // a next hop of the other family: struct rtvia, the family and the address
			d.via, _ = netip.AddrFromSlice(a.Value[min(2, len(a.Value)):])
		case unix.RTA_PREFSRC:
			d.src, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_METRICS:
			if err := d.options.parseMetrics(a.Value); err != nil {
				return nil, err
			}
		}
		value := append([]byte(nil), a.Value...)
		if a.Attr.Type == unix.RTA_MULTIPATH {
			if err := d.parseHops(value); err != nil {
				return nil, err
			}
		}
		d.attrs = append(d.attrs, attr(int(a.Attr.Type), value))
	}
	d.dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return d, nil
}

// parseHops reads the next hops, and clears those of their flags that are the kernel's to set.
func (d *dumped) parseHops(b []byte) error {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return fmt.Errorf("parse a route: a next hop of %d bytes", size)
		}
		b[2] &= unix.RTNH_F_ONLINK
		d.oifs = append(d.oifs, int(uint32Of(b[4:])))
		attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtNexthop:size])
		if err != nil {
			return fmt.Errorf("parse a route: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.RTA_GATEWAY {
				via, _ := netip.AddrFromSlice(a.Value)
				d.hops = append(d.hops, hop{via: via, weight: int(b[3]) + 1, onlink: b[2] != 0})
			}
		}
		b = b[min((size+unix.RTNH_ALIGNTO-1)&^(unix.RTNH_ALIGNTO-1), len(b)):]
	}
	return nil
}

func (o *options) parseMetrics(b []byte) error {
	metrics, err := nl.ParseRouteAttr(b)
	if err != nil {
		return fmt.Errorf("parse a route: %w", err)
	}
	for _, m := range metrics {
		if len(m.Value) < 4 {
			continue
		}
		switch m.Attr.Type {
		case unix.RTAX_LOCK:
			o.mtuLocked = uint32Of(m.Value)&(1<<unix.RTAX_MTU) != 0
		case unix.RTAX_MTU:
			o.mtu = uint32Of(m.Value)
		case unix.RTAX_ADVMSS:
			o.advmss = uint32Of(m.Value)
		}
	}
	return nil
}

// String is what ip-route(8) takes them for, behind everything but several next hops.
func (o options) String() string {
	var s strings.Builder
	switch o.protocol {
	case unix.RTPROT_BOOT: // what ip(8) says by itself
	case unix.RTPROT_KERNEL:
		s.WriteString(" proto kernel")
	case unix.RTPROT_STATIC:
		s.WriteString(" proto static")
	case unix.RTPROT_RA:
		s.WriteString(" proto ra")
	default:
		fmt.Fprintf(&s, " proto %d", o.protocol)
	}
	if o.onlink {
		s.WriteString(" onlink")
	}
	if o.mtu != 0 {
		s.WriteString(" mtu")
		if o.mtuLocked {
			s.WriteString(" lock")
		}
		fmt.Fprintf(&s, " %d", o.mtu)
	}
	if o.advmss != 0 {
		fmt.Fprintf(&s, " advmss %d", o.advmss)
	}
	return s.String()
}

// message is a copy of the route in the table with that id, whose header msg is.
func (d *dumped) message(msg *nl.RtMsg, table int) []nl.NetlinkRequestData {
	header := d.msg
	header.Table = msg.Table
	header.Flags &= unix.RTNH_F_ONLINK
	return append([]nl.NetlinkRequestData{&header, attr32(unix.RTA_TABLE, uint32(table))}, d.attrs...)
}

// plain leaves out what is not a route of the interface's user.
func (d *dumped) plain() bool {
	addr := d.dst.Addr()
	ours := addr.Is6() && (addr.IsLinkLocalUnicast() || addr.IsMulticast())
	return d.msg.Type == unix.RTN_UNICAST && d.table != unix.RT_TABLE_LOCAL && d.msg.Flags&unix.RTM_F_CLONED == 0 && !ours
}

// leavesBy reports whether the route, with all its next hops, leaves by the interface of that index.
func (d *dumped) leavesBy(index int) bool {
	for _, oif := range d.oifs {
		if oif != index {
			return false
		}
	}
	return len(d.oifs) > 0 || d.oif == index
}

// share is the part of a route that leaves by the interface of that index, where others have the rest: those of IPv6 with
// the same metric become one by themselves (the macvlan plugin adds its default route so), and each next hop can be added
// and deleted alone. Where the interface has no part or all of it, or several next hops, it is the route.
func (d *dumped) share(index int) *dumped {
	mine := -1
	for i, oif := range d.oifs {
		if oif == index && mine >= 0 {
			return d
		}
		if oif == index {
			mine = i
		}
	}
	if mine < 0 || len(d.oifs) < 2 || len(d.hops) != len(d.oifs) {
		return d
	}
	s := *d
	s.shared = true
	s.attrs, s.hops, s.oifs, s.oif, s.via = nil, nil, nil, index, d.hops[mine].via
	for _, a := range d.attrs {
		if r, ok := a.(*nl.RtAttr); !ok || r.Type != unix.RTA_MULTIPATH {
			s.attrs = append(s.attrs, a)
		}
	}
	s.attrs = append(s.attrs, attr32(unix.RTA_OIF, uint32(index)), attr(unix.RTA_GATEWAY, s.via.AsSlice()))
	return &s
}
