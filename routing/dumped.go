package routing

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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
	hops     []netip.Addr // of a multipath route
	oifs     []int        // of a multipath route
}

func parseRoute(m []byte) (*dumped, error) {
	msg := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return nil, fmt.Errorf("parse a route: %w", err)
	}
	d := &dumped{msg: *msg, table: int(msg.Table)}
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
		case unix.RTA_OIF:
			d.oif = int(uint32Of(a.Value))
		case unix.RTA_PRIORITY:
			d.metric = int(uint32Of(a.Value))
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_GATEWAY:
			d.via, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_PREFSRC:
			d.src, _ = netip.AddrFromSlice(a.Value)
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
				d.hops = append(d.hops, via)
			}
		}
		b = b[min((size+unix.RTNH_ALIGNTO-1)&^(unix.RTNH_ALIGNTO-1), len(b)):]
	}
	return nil
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
