package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// All is the destination of the default route.
func All(v6 bool) netip.Prefix {
	if v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Single is the prefix of one address.
func Single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// A Route is one unicast route.
type Route struct {
	Table  *Table
	Dst    netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Via    netip.Addr   // the next hop; not valid: the destination is on the link
	Dev    *Link
	Src    netip.Addr // preferred source; not valid: the kernel chooses
	Metric int        // 0: the kernel's default, 0 for IPv4 and 1024 for IPv6
	MTU    int        // in bytes; 0: that of the interface
	// Static has the route say that an administrator wanted it (proto static), not a program at boot.
	Static bool
	// There says that an earlier change has made it, as a rule: a look comes first, so that Revert leaves it there.
	There bool
	// Over are the routes that this one takes the place of, if it does: Revert puts them back.
	Over []*Route

	// like is the route that this one is a copy of, with what the fields above do not hold: several
	// next hops, metrics, the protocol.
	like *dumped

	added bool
}

// String is the line of ip-route(8). Of a copy it leaves out what hardly anybody sets: the tos, the
// preference of a router, and metrics other than mtu and advmss.
func (r *Route) String() string { return r.Table.NS.line("%s", r.line("replace")) }

func (r *Route) line(verb string) string {
	var s strings.Builder
	dev := quote.Sh(r.Dev.Name)
	fmt.Fprintf(&s, "ip %sroute %s %s", familyOf(r.Dst.Addr()).flag(), verb, dstString(r.Dst))
	several := r.like != nil && len(r.like.hops) > 0
	switch {
	case several: // at the end of the line
	case r.Via.Is6() && r.Dst.Addr().Is4():
		fmt.Fprintf(&s, " via inet6 %s dev %s", r.Via, dev)
	case r.Via.IsValid():
		fmt.Fprintf(&s, " via %s dev %s", r.Via, dev)
	default:
		fmt.Fprintf(&s, " dev %s", dev)
		if r.Dst.Addr().Is4() {
			s.WriteString(" scope link")
		}
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&s, " src %s", r.Src)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&s, " metric %d", r.Metric)
	}
	if r.MTU != 0 {
		fmt.Fprintf(&s, " mtu %d", r.MTU)
	}
	if r.Static {
		s.WriteString(" proto static")
	}
	if r.Table.id != MainTable {
		fmt.Fprintf(&s, " table %s", r.Table)
	}
	if r.like != nil {
		s.WriteString(r.like.options.String())
	}
	if several {
		for _, h := range r.like.hops {
			fmt.Fprintf(&s, " nexthop via %s dev %s weight %d", h.via, dev, h.weight)
			if h.onlink {
				s.WriteString(" onlink")
			}
		}
	}
	return s.String()
}

func dstString(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

// message is the route as the kernel takes it, in the table with that id.
func (r *Route) message(table int) ([]nl.NetlinkRequestData, error) {
	index, err := r.Dev.Index()
	if err != nil {
		return nil, err
	}
	msg := rtmsg(familyOf(r.Dst.Addr()), table)
	if r.like != nil {
		return r.like.message(msg, table), nil
	}
	msg.Dst_len, msg.Protocol, msg.Type = uint8(r.Dst.Bits()), unix.RTPROT_BOOT, unix.RTN_UNICAST
	if r.Static {
		msg.Protocol = unix.RTPROT_STATIC
	}
	parts := []nl.NetlinkRequestData{msg, attr32(unix.RTA_TABLE, uint32(table)), attr32(unix.RTA_OIF, uint32(index))}
	if r.Dst.Bits() > 0 {
		parts = append(parts, attr(unix.RTA_DST, r.Dst.Addr().AsSlice()))
	}
	switch {
	case r.Via.IsValid():
		parts = append(parts, attr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	case r.Dst.Addr().Is4():
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if r.Src.IsValid() {
		parts = append(parts, attr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	if r.Metric != 0 {
		parts = append(parts, attr32(unix.RTA_PRIORITY, uint32(r.Metric)))
	}
	if r.MTU != 0 {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		metrics.AddRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(r.MTU)))
		parts = append(parts, metrics)
	}
	return parts, nil
}

// Apply adds the route, or puts it in the place of one to the same destination with the same metric,
// over whatever interface that goes: a stale route of an earlier pod is replaced. The first route of
// an interface's own table is added exclusively, so that a table which somebody else takes at the same
// moment is left to them.
func (r *Route) Apply() error {
	if r.There {
		if there, err := r.find(); err != nil || there {
			return err
		}
	}
	id, err := r.Table.ID()
	if err != nil {
		return err
	}
	if r.Table.dev == nil || r.Table.owned {
		return r.write(id, unix.NLM_F_REPLACE)
	}
	for {
		err := r.write(id, unix.NLM_F_EXCL)
		if err == nil {
			r.Table.owned = true
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// There already: ours, from an ADD that is being repeated, or somebody's who was faster.
		index, err := r.Table.dev.Index()
		if err != nil {
			return err
		}
		next, err := r.Table.next(id, index)
		if err != nil {
			return err
		}
		if next == id {
			r.Table.owned = true
			return r.write(id, unix.NLM_F_REPLACE)
		}
		id = next
	}
}

func (r *Route) write(table, flag int) error {
	parts, err := r.message(table)
	if err != nil {
		return err
	}
	err = r.Table.NS.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|flag, parts...)
	r.added = r.added || done(err)
	return err
}

// Verify tells whether the table holds the route. A preferred source that the kernel shows is no
// difference where this route leaves the choice to it.
func (r *Route) Verify() error {
	found, err := r.find()
	if err == nil && !found {
		err = fmt.Errorf("route is missing: %s", r.line(""))
	}
	return err
}

func (r *Route) find() (found bool, err error) {
	id, err := r.Table.ID()
	if err != nil {
		return false, err
	}
	index, err := r.Dev.Index()
	if err != nil {
		return false, err
	}
	err = r.Table.NS.dumpTable(familyOf(r.Dst.Addr()), id, &where{r.Dst.Bits(), index}, func(got *dumped) {
		found = found || got.dst == r.Dst && got.leavesBy(index) && got.via == r.Via &&
			(got.src == r.Src || !r.Src.IsValid()) && (got.metric == r.Metric || r.Metric == 0) &&
			(int(got.options.mtu) == r.MTU || r.like != nil)
	})
	return found, err
}

// Revert deletes the route if Apply added it. It is no error if it is already gone.
func (r *Route) Revert() error {
	if !r.added {
		return nil
	}
	errs := []error{r.delete()}
	for _, over := range r.Over {
		errs = append(errs, (&NoRoute{over}).Revert())
	}
	return errors.Join(errs...)
}

func (r *Route) delete() error {
	parts, err := r.message(r.Table.id)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	if header, ok := parts[0].(*nl.RtMsg); ok && r.like != nil && r.like.shared {
		header.Protocol = unix.RTPROT_UNSPEC // whatever it is: of several next hops the kernel lists that of the first
	}
	err = r.Table.NS.request(unix.RTM_DELROUTE, 0, parts...)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// NoRoute is the absence of a route.
type NoRoute struct{ *Route }

// String is the line of ip-route(8).
func (n *NoRoute) String() string { return n.Table.NS.line("%s", n.line("del")) }

// Apply deletes the route. It is no error if it is already gone.
func (n *NoRoute) Apply() error { return n.delete() }

// Verify tells whether the route is gone.
func (n *NoRoute) Verify() error {
	there, err := n.find()
	return gone(there, err, "route is still there: %s", n.line(""))
}

// Revert adds the route again, beside whatever has taken its place. It is no error if the interface has
// gone, and the route with it.
func (n *NoRoute) Revert() error {
	_, err := n.Dev.Attrs()
	if err == nil {
		err = n.write(n.Table.id, 0)
	}
	if errors.Is(err, ErrNoLink) || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// SpareRoute is a route that is added where there is room for it: where none goes to the same destination with
// the same metric, and where the kernel can reach its next hop.
type SpareRoute struct{ *Route }

// String is the line of ip-route(8).
func (s *SpareRoute) String() string { return s.Table.NS.line("%s || true", s.line("add")) }

// Apply adds the route if it can. It is no error if it cannot.
func (s *SpareRoute) Apply() error {
	err := s.write(s.Table.id, unix.NLM_F_EXCL)
	for _, no := range []error{fs.ErrExist, ErrNoLink, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.ENETDOWN, unix.ENODEV} {
		if errors.Is(err, no) {
			return nil
		}
	}
	return err
}

// Verify has nothing to tell.
func (*SpareRoute) Verify() error { return nil }

// In copies the route into another table.
func (r *Route) In(t *Table) *Route {
	c := *r
	c.Table, c.added = t, false
	return &c
}

// InTable reports whether the route is in the table with that id.
func (r *Route) InTable(id int) bool { return r.Table.id == id }

// InMain reports whether the route is in the main table, the one that `ip route` shows.
func (r *Route) InMain() bool { return r.InTable(MainTable) }

// Copied reports whether the route, as it has been listed, is a copy by In of one that somebody else made: it
// is not one of ours, which are Static.
func (r *Route) Copied() bool { return r.like != nil && r.like.msg.Protocol != unix.RTPROT_STATIC }

// IsDefault reports whether the route is a default route.
func (r *Route) IsDefault() bool { return r.Dst.Bits() == 0 }

// HasGateway reports whether the route goes by a next hop.
func (r *Route) HasGateway() bool {
	return r.Via.IsValid() || r.like != nil && len(r.like.hops) > 0
}

// PathMTU is the MTU that a route which has been listed says, in bytes; 0 if it says none.
func (r *Route) PathMTU() int {
	if r.like == nil {
		return r.MTU
	}
	return int(r.like.options.mtu)
}

// Connected reports whether the kernel has made the route, for an address of the interface.
func (r *Route) Connected() bool { return r.like != nil && r.like.msg.Protocol == unix.RTPROT_KERNEL }

// Learned reports whether the route came from a router advertisement: the kernel adds it again with
// the next one, whoever deletes it.
func (r *Route) Learned() bool { return r.like != nil && r.like.msg.Protocol == unix.RTPROT_RA }

// Routes lists the unicast routes of all tables but the kernel's local one that leave by dev, IPv4 first.
// The kernel picks those of the interface, and with tables those of each of these alone. Link-local and multicast prefixes of IPv6 are
// left out, since the kernel makes them for every interface by itself.
func (n *Namespace) Routes(dev *Link, tables ...int) (routes []*Route, err error) {
	index, err := dev.Index()
	if err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		tables = []int{unix.RT_TABLE_UNSPEC}
	}
	for _, f := range []family{v4, v6} {
		for _, table := range tables {
			if routes, err = n.routes(f, dev, index, table, routes); err != nil {
				return nil, err
			}
		}
	}
	return routes, nil
}

// routes appends those of one family, and of one table unless that is RT_TABLE_UNSPEC.
func (n *Namespace) routes(f family, dev *Link, index, table int, routes []*Route) ([]*Route, error) {
	parts := []nl.NetlinkRequestData{rtmsg(f, table), attr32(unix.RTA_OIF, uint32(index))}
	if table != unix.RT_TABLE_UNSPEC {
		parts = append(parts, attr32(unix.RTA_TABLE, uint32(table)))
	}
	before := len(routes)
	err := n.dump(unix.RTM_GETROUTE, f, func() { routes = routes[:before] }, func(m []byte) error {
		d, err := parseRoute(m)
		if err == nil && f == v6 {
			d = d.share(index)
		}
		if err == nil && d.plain() && d.leavesBy(index) && (table == unix.RT_TABLE_UNSPEC || table == d.table) {
			routes = append(routes, &Route{
				Table: n.Table(d.table), Dst: d.dst, Via: d.via, Dev: dev, Src: d.src, Metric: d.metric, like: d,
			})
		}
		return err
	}, parts...)
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("interface %s: %w", dev.Name, ErrNoLink)
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT): // without IPv6, or without the table
		return routes[:before], nil
	case err != nil:
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// A Source is the source address that the kernel chooses towards a destination, made explicit on the
// host route to it where the kernel would choose another (say, a VIP on lo).
type Source struct {
	Route *Route // to one address; already applied
	Addr  netip.Addr
}

// String is the line of ip-route(8).
func (s *Source) String() string { return s.Route.Table.NS.line("%s", s.explicit().line("change")) }

func (s *Source) explicit() *Route {
	r := *s.Route
	r.Src = s.Addr
	return &r
}

// Apply asks the kernel, and changes the route only if the answer is not the wanted address.
func (s *Source) Apply() error {
	src, err := s.chosen()
	if err != nil || src == s.Addr {
		return err
	}
	return s.explicit().Apply()
}

// Verify asks the kernel for the source address that it chooses.
func (s *Source) Verify() error {
	src, err := s.chosen()
	if err == nil && src != s.Addr {
		err = fmt.Errorf("the source address towards %s is %s, not %s", s.Route.Dst.Addr(), src, s.Addr)
	}
	return err
}

func (s *Source) chosen() (netip.Addr, error) {
	dst := s.Route.Dst.Addr()
	msg := rtmsg(familyOf(dst), 0)
	msg.Dst_len = uint8(dst.BitLen())
	m, err := s.Route.Table.NS.get(unix.RTM_GETROUTE, msg, attr(unix.RTA_DST, dst.AsSlice()))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ip route get %s: %w", dst, err)
	}
	got, err := parseRoute(m)
	if err != nil {
		return netip.Addr{}, err
	}
	return got.src, nil
}

// Revert does nothing: the address goes with the route.
func (*Source) Revert() error { return nil }
