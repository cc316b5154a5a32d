package router

import (
	"net/netip"
	"slices"

	"underlay-cni/conflist"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// Each family is decided by itself:
//
//   - who moves: of those that come before the new one by name, with migrate_route 1 of all others, the overlay's, and who would
//     lose main; each takes its default routes along to a table of its own, where a DEL finds them;
//   - who has main: the new interface, if it brings a default route and each interface that had one in main moves;
//   - or the new one yields, and moves itself: where it brings a default route and main is that of one that comes after it, or
//     where it has moved for another already;
//   - who inherits main, at a DEL, is in end.go.

// A moved is an interface whose routes move to a table of their own, in some families.
type moved struct {
	*party
	table    *routing.Table
	families []*underlay.Family
}

// A party is an interface that main may belong to: the overlay's, an attached one, or the new one.
type party struct {
	link   *routing.Link
	index  int
	addrs  []routing.Address // usable
	routes []*routing.Route
	ruled  map[bool]bool // it has moved already, in IPv6 or not
}

// inMain tells whether a default route of main is the interface's.
func (p *party) inMain(v6 bool) bool {
	return len(underlay.MainDefaults(p.routes, v6)) > 0
}

// hasDefault tells whether it has a default route, in main or in a table of its own.
func (p *party) hasDefault(v6 bool) bool {
	return slices.ContainsFunc(p.routes, func(r *routing.Route) bool {
		return r.IsDefault() && !r.InTable(underlay.TableReply) && r.Dst.Addr().Is6() == v6
	})
}

func (a *attachment) party(link *routing.Link, routes []*routing.Route, rules []*routing.Rule) (p *party, err error) {
	p = &party{link: link, routes: routes, ruled: map[bool]bool{}}
	if p.index, err = link.Index(); err != nil {
		return nil, err
	}
	if p.addrs, err = a.pod.UsableAddresses(link); err != nil {
		return nil, err
	}
	hasRule := func(addr routing.Address) bool {
		return slices.ContainsFunc(rules, func(rule *routing.Rule) bool { return addr.Prefix.Addr() == rule.From.Addr() })
	}
	for _, addr := range p.addrs {
		if v6 := addr.Prefix.Addr().Is6(); hasRule(addr) {
			p.ruled[v6] = true
		}
	}
	if a.byResult {
		p.addrs = slices.DeleteFunc(p.addrs, func(addr routing.Address) bool {
			if link == a.wire.Link {
				return !slices.Contains(a.wire.Given, addr)
			}
			return p.ruled[addr.Prefix.Addr().Is6()] && !hasRule(addr)
		})
	}
	return p, nil
}

// lookAtMain decides who moves and who has main, in each family.
func (a *attachment) lookAtMain(r *plugin.Request, byOverlay, byWire []*routing.Route) error {
	if a.config.MigrateRoute == conflist.MigrateNever {
		return nil
	}
	rules, err := a.pod.Froms(underlay.PrefFrom)
	if err != nil {
		return err
	}
	wire, err := a.party(a.wire.Link, byWire, rules)
	if err != nil {
		return err
	}
	overlay, err := a.party(a.overlay, byOverlay, rules)
	if err != nil {
		return err
	}
	others := []*party{overlay}
	for _, name := range a.others {
		link := a.pod.Link(name)
		routes, err := a.pod.Routes(link)
		if err != nil {
			return err
		}
		other, err := a.party(link, routes, rules)
		if err != nil {
			return err
		}
		others = append(others, other)
	}
	for _, f := range a.families {
		if err := f.Sort(wire.routes, a.pod.Table(routing.MainTable), wire.link, r.Default(f.V6)); err != nil {
			return err
		}
		yields, err := a.yields(f, wire, others)
		if err != nil {
			return err
		}
		if err := a.deafen(r, f, wire, others); err != nil {
			return err
		}
		if yields {
			err = a.yield(r, f, wire, others)
		} else {
			err = a.takeMain(f, wire, others)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deafen keeps those who have no default route from taking an advertised one: the new interface, where another has one, and the
// others, where the new one brings the first. There is nothing of the kind in IPv4.
func (a *attachment) deafen(r *plugin.Request, f *family, wire *party, others []*party) error {
	if !f.V6 {
		return nil
	}
	has, err := a.pod.HasDefault(f.V6, wire.index)
	switch {
	case err != nil:
		return err
	case has && !f.HasDefault():
		f.Deafen(r, wire.link)
	case !has && f.HasDefault():
		for _, other := range others {
			if len(underlay.OfFamily(f.V6, other.addrs)) > 0 && !other.hasDefault(f.V6) && (other.link != a.overlay || a.moves(other)) {
				f.Deafen(r, other.link)
			}
		}
	}
	return nil
}

// moves tells whether the routes of another interface move for the new one's, if they have to.
func (a *attachment) moves(other *party) bool {
	return a.config.MigrateRoute == conflist.MigrateAlways || underlay.Before(other.link.Name, a.wire.Link.Name)
}

// yields tells whether main stays that of another, and the new interface moves itself.
func (a *attachment) yields(f *family, wire *party, others []*party) (bool, error) {
	if wire.ruled[f.V6] {
		return a.pod.HasDefault(f.V6, wire.index)
	}
	return f.HasDefault() && a.config.MigrateRoute == conflist.MigrateByName && slices.ContainsFunc(others, func(other *party) bool {
		return underlay.Before(wire.link.Name, other.link.Name) && other.inMain(f.V6)
	}), nil
}

// yield moves the new interface. Of the others, only those do that had to without it: the overlay's, and who has moved already.
func (a *attachment) yield(r *plugin.Request, f *family, wire *party, others []*party) error {
	for _, other := range others {
		first := other.link == a.overlay && underlay.Before(other.link.Name, wire.link.Name)
		if !first && !other.ruled[f.V6] {
			continue
		}
		if _, err := a.move(f, other, netip.Addr{}); err != nil {
			return err
		}
	}
	own, err := a.move(f, wire, r.Default(f.V6))
	if own != nil {
		own.Leaves = true
	}
	return err
}

// takeMain makes the new interface's default route that of main, after those who would lose main have moved. One that brings
// none leaves main as it is; so does one that would take main from an interface that does not move.
func (a *attachment) takeMain(f *family, wire *party, others []*party) error {
	others = slices.DeleteFunc(slices.Clone(others), func(other *party) bool {
		return !a.moves(other) || len(underlay.OfFamily(f.V6, other.addrs)) == 0
	})
	at := slices.IndexFunc(f.Routes, (*routing.Route).IsDefault)
	takes := at >= 0
	if takes && len(f.Main) == 0 {
		moving := []int{wire.index}
		for _, other := range others {
			moving = append(moving, other.index)
		}
		stays, err := a.pod.HasDefault(f.V6, moving...)
		if err != nil {
			return err
		}
		if takes = !stays; takes {
			f.gets = f.Routes[at]
		}
	}
	var all []*underlay.Family
	for _, other := range others {
		loses := takes && other.inMain(f.V6)
		if other.link != a.overlay && !other.ruled[f.V6] && !loses {
			continue
		}
		of, err := a.move(f, other, netip.Addr{})
		if err != nil {
			return err
		}
		of.Leaves = takes
		all = append(all, of)
	}
	if f.gets != nil {
		f.replaces(all)
	}
	return nil
}

// replaces tells the new default route in whose place it comes. The one with the same metric need not be deleted then; of several
// the kernel takes the place of one, and nobody knows of which.
func (f *family) replaces(all []*underlay.Family) {
	metric := map[bool]int{false: 0, true: 1024}[f.V6]
	var same []*routing.Route
	for _, of := range all {
		for _, r := range of.Main {
			f.gets.Over = append(f.gets.Over, r)
			if r.Metric == metric {
				same = append(same, r)
			}
		}
	}
	for _, of := range all {
		of.Main = slices.DeleteFunc(of.Main, func(r *routing.Route) bool { return len(same) == 1 && r == same[0] })
	}
}

// move gives an interface its table in one family; nothing if it has no address of that. The gateway is that of its default
// route, where the kernel has none.
func (a *attachment) move(f *family, p *party, gateway netip.Addr) (*underlay.Family, error) {
	of := &underlay.Family{V6: f.V6, Nodes: f.Nodes, Pods: underlay.OfFamily(f.V6, p.addrs), Gateway: f.overlay.Gateway, MTU: f.overlay.MTU, Static: true}
	of.There = p.ruled[f.V6] // which stays what it is, if this ADD fails
	if len(of.Pods) == 0 {
		return nil, nil
	}
	m, err := a.movedOf(p)
	if err != nil {
		return nil, err
	}
	routes := slices.DeleteFunc(slices.Clone(p.routes), func(route *routing.Route) bool { return !route.Copied() && !route.IsDefault() })
	of.SetHijack(append(a.hijack(of, routes), f.behind...), nil)
	m.families = append(m.families, of)
	return of, of.Sort(routes, m.table, p.link, gateway)
}

// movedOf is what an interface has in this plan: one table for both families.
func (a *attachment) movedOf(p *party) (*moved, error) {
	var taken []int
	for _, m := range a.moved {
		if m.party == p {
			return m, nil
		}
		id, err := m.table.ID()
		if err != nil {
			return nil, err
		}
		taken = append(taken, id)
	}
	addrs := append(underlay.OfFamily(false, p.addrs), underlay.OfFamily(true, p.addrs)...)
	table, err := underlay.OwnTable(a.pod, a.config.RouteTableStart, p.link, a.overlay, addrs, taken...)
	if err != nil {
		return nil, err
	}
	m := &moved{party: p, table: table}
	a.moved = append(a.moved, m)
	return m, nil
}
