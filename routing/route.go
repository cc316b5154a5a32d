package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Route is one unicast route.
type Route struct {
	Table  *Table
	Dst    netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Via    netip.Addr   // the next hop; not valid: the destination is on the link
	Dev    *Link
	Src    netip.Addr // preferred source; not valid: the kernel chooses
	Metric int        // 0: the kernel's default, 0 for IPv4 and 1024 for IPv6

	// like holds what an existing route has beyond these fields (next hops, metrics, protocol) where
	// this one is a copy of it.
	like *netlink.Route

	added bool
}

// String is the line of ip-route(8).
func (r *Route) String() string { return r.line("replace") }

func (r *Route) line(verb string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "ip %sroute %s %s", familyOf(r.Dst.Addr()).flag(), verb, dstString(r.Dst))
	switch {
	case r.like != nil && len(r.like.MultiPath) > 0:
		for _, hop := range r.like.MultiPath {
			fmt.Fprintf(&s, " nexthop via %s dev %s", hop.Gw, r.Dev.Name)
		}
	case r.Via.IsValid():
		fmt.Fprintf(&s, " via %s dev %s", r.Via, r.Dev.Name)
	default:
		fmt.Fprintf(&s, " dev %s", r.Dev.Name)
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
	if r.Table.id != MainTable {
		fmt.Fprintf(&s, " table %s", r.Table)
	}
	return r.Table.NS.line("%s", s.String())
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

// netlink translates the route, in the table with that id.
func (r *Route) netlink(table int) (*netlink.Route, error) {
	index, err := r.Dev.Index()
	if err != nil {
		return nil, err
	}
	out := netlink.Route{}
	if r.like != nil {
		out = *r.like
		out.Flags = 0 // RTNH_F_LINKDOWN and the like are the kernel's to set
	}
	out.Table, out.LinkIndex, out.Priority = table, index, r.Metric
	out.Dst = &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), r.Dst.Addr().BitLen())}
	if len(out.MultiPath) > 0 {
		out.LinkIndex = 0
	}
	if r.Src.IsValid() {
		out.Src = r.Src.AsSlice()
	}
	switch {
	case r.Via.IsValid():
		out.Gw = r.Via.AsSlice()
	case r.like == nil && r.Dst.Addr().Is4():
		out.Scope = unix.RT_SCOPE_LINK
	}
	return &out, nil
}

// Apply adds the route, or puts it in the place of one to the same destination with the same metric,
// over whatever interface that goes: a stale route of an earlier pod is replaced. The first route of
// an interface's own table is added exclusively, so that a table which somebody else takes at the same
// moment is left to them.
func (r *Route) Apply() error {
	id, err := r.Table.ID()
	if err != nil {
		return err
	}
	route, err := r.netlink(id)
	if err != nil {
		return err
	}
	rt := r.Table.NS.rt
	if r.Table.dev == nil || r.Table.owned {
		r.added = true
		return rt.RouteReplace(route)
	}
	for {
		err := rt.RouteAdd(route)
		if err == nil {
			r.added, r.Table.owned = true, true
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// There already: ours, from an ADD that is being repeated, or somebody's who was faster.
		id := route.Table
		if route.Table, err = r.Table.next(id, route.LinkIndex); err != nil {
			return err
		}
		if route.Table == id {
			r.Table.owned = true
			return rt.RouteReplace(route)
		}
	}
}

// Verify tells whether the table holds the route. A preferred source that the kernel shows is no
// difference where this route leaves the choice to it.
func (r *Route) Verify() error {
	id, err := r.Table.ID()
	if err != nil {
		return err
	}
	index, err := r.Dev.Index()
	if err != nil {
		return err
	}
	want := route{
		table: id, oif: index, bits: r.Dst.Bits(), priority: r.Metric,
		via: string(r.Via.AsSlice()), src: string(r.Src.AsSlice()),
	}
	if r.Dst.Bits() > 0 {
		want.dst = string(r.Dst.Addr().AsSlice())
	}
	found := false
	err = r.Table.NS.dumpTable(familyOf(r.Dst.Addr()), id, func(got route) {
		if want.src == "" {
			got.src = ""
		}
		if want.priority == 0 {
			got.priority = 0
		}
		multipath := r.like != nil && len(r.like.MultiPath) > 0 && got.dst == want.dst && got.bits == want.bits
		found = found || got == want || multipath
	})
	if err == nil && !found {
		err = fmt.Errorf("route is missing: %s", strings.TrimPrefix(r.line(""), "ip "))
	}
	return err
}

// Revert deletes the route if Apply added it. It is no error if it is already gone.
func (r *Route) Revert() error {
	if !r.added {
		return nil
	}
	return r.delete()
}

func (r *Route) delete() error {
	route, err := r.netlink(r.Table.id)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	err = r.Table.NS.rt.RouteDel(route)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// NoRoute is the absence of a route.
type NoRoute struct{ *Route }

// String is the line of ip-route(8).
func (n *NoRoute) String() string { return n.line("del") }

// Apply deletes the route. It is no error if it is already gone.
func (n *NoRoute) Apply() error { return n.delete() }

// Verify tells whether the route is gone.
func (n *NoRoute) Verify() error {
	if n.Route.Verify() == nil {
		return fmt.Errorf("route is still there: %s", strings.TrimPrefix(n.line(""), "ip "))
	}
	return nil
}

// Revert adds the route again, beside whatever has taken its place.
func (n *NoRoute) Revert() error {
	route, err := n.netlink(n.Table.id)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	err = n.Table.NS.rt.RouteAddEcmp(route)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// InTable reports whether the route is in the table with that id.
func (r *Route) InTable(id int) bool { return r.Table.id == id }

// InMain reports whether the route is in the main table, the one that `ip route` shows.
func (r *Route) InMain() bool { return r.InTable(MainTable) }

// In copies the route into another table.
func (r *Route) In(t *Table) *Route {
	c := *r
	c.Table, c.added = t, false
	return &c
}

// IsDefault reports whether the route is a default route.
func (r *Route) IsDefault() bool { return r.Dst.Bits() == 0 }

// Learned reports whether the route came from a router advertisement: the kernel adds it again with
// the next one, whoever deletes it.
func (r *Route) Learned() bool {
	return r.like != nil && r.like.Protocol == unix.RTPROT_RA
}

// HasGateway reports whether the route goes by a next hop.
func (r *Route) HasGateway() bool {
	return r.Via.IsValid() || r.like != nil && len(r.like.MultiPath) > 0
}

// Routes lists the unicast routes of all tables but the kernel's local one that leave by dev, IPv4 first.
// It reads the whole namespace: it is meant for a pod's.
func (n *Namespace) Routes(dev *Link) ([]*Route, error) {
	index, err := dev.Index()
	if err != nil {
		return nil, err
	}
	var routes []*Route
	for _, f := range []family{v4, v6} {
		var all []netlink.Route
		err := retry(func() (err error) {
			all, err = n.rt.RouteListFiltered(int(f), &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			return err
		})
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for i := range all {
			if r := fromNetlink(n, dev, &all[i]); r != nil && leavesBy(&all[i], index) {
				routes = append(routes, r)
			}
		}
	}
	return routes, nil
}

func leavesBy(r *netlink.Route, index int) bool {
	for _, hop := range r.MultiPath {
		if hop.LinkIndex != index {
			return false
		}
	}
	return len(r.MultiPath) > 0 || r.LinkIndex == index
}

// fromNetlink is nil for what is not a plain route: link-local and multicast prefixes, which the
// kernel makes for every interface by itself, and types other than unicast.
func fromNetlink(n *Namespace, dev *Link, r *netlink.Route) *Route {
	addr, ok := addrOf(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if !ok || r.Type != unix.RTN_UNICAST || r.Table == unix.RT_TABLE_LOCAL || addr.IsLinkLocalUnicast() && addr.Is6() || addr.IsMulticast() {
		return nil
	}
	out := &Route{Table: n.Table(r.Table), Dst: netip.PrefixFrom(addr, bits), Dev: dev, Metric: r.Priority, like: r}
	if len(r.MultiPath) == 0 {
		out.Via, _ = addrOf(r.Gw)
	}
	out.Src, _ = addrOf(r.Src)
	return out
}

// addrOf also takes the library's 16-byte form of an IPv4 address.
func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// A Source is the source address that the kernel chooses towards a destination, made explicit on the
// host route to it where the kernel would choose another (say, a VIP on lo).
type Source struct {
	Route *Route // to one address; already applied
	Addr  netip.Addr
}

// String is the line of ip-route(8).
func (s *Source) String() string { return s.explicit().line("change") }

func (s *Source) explicit() *Route {
	r := *s.Route
	r.Src = s.Addr
	return &r
}

// Apply asks the kernel, and changes the route only if the answer is not the wanted address.
func (s *Source) Apply() error {
	if s.Verify() == nil {
		return nil
	}
	return s.explicit().Apply()
}

// Verify asks the kernel for the source address that it chooses.
func (s *Source) Verify() error {
	got, err := s.Route.Table.NS.rt.RouteGet(s.Route.Dst.Addr().AsSlice())
	if err != nil {
		return fmt.Errorf("ip route get %s: %w", s.Route.Dst.Addr(), err)
	}
	if len(got) == 0 || !got[0].Src.Equal(s.Addr.AsSlice()) {
		return fmt.Errorf("the source address towards %s is not %s", s.Route.Dst.Addr(), s.Addr)
	}
	return nil
}

// Revert does nothing: the address goes with the route.
func (*Source) Revert() error { return nil }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// retry repeats a list that was interrupted by a change, up to five times.
func retry(list func() error) error {
	var err error
	for range 5 {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}
