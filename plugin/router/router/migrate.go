package router

import (
	"net/netip"
	"slices"

	"underlay-cni/conflist"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// A moved is an interface whose routes move to a table of their own.
type moved struct {
	link     *routing.Link
	table    *routing.Table
	families []*underlay.Family
}

// movers are the interfaces whose routes migrate_route has moved: the one that comes before the new one by name; and the
// new one itself, where one that is attached already comes after it, or took its place.
func (a *attachment) movers() (links []*routing.Link, err error) {
	mode, before := a.config.MigrateRoute, ""
	all := append([]string{a.overlay.Name}, a.others...)
	for _, other := range all {
		if underlay.Before(other, a.IfName) && (before == "" || underlay.Before(before, other)) {
			before = other
		}
	}
	if before == "" && mode == conflist.MigrateAlways {
		before = a.overlay.Name
	}
	if before == "" || mode == conflist.MigrateNever {
		return nil, nil
	}
	links = append(links, a.pod.Link(before))
	rules, err := a.pod.Froms(underlay.PrefFrom)
	if err != nil {
		return nil, err
	}
	own := slices.ContainsFunc(rules, func(rule *routing.Rule) bool {
		return slices.ContainsFunc(a.families, func(f *family) bool { return slices.Contains(f.Pods, rule.From.Addr()) })
	})
	later := slices.ContainsFunc(a.others, func(other string) bool { return underlay.Before(a.IfName, other) })
	if own || mode == conflist.MigrateByName && later {
		links = append(links, a.wire.Link)
	}
	return links, nil
}

// move gives an interface its table, in the families that the new one has, too.
func (a *attachment) move(r *plugin.Request, link *routing.Link) error {
	usable, err := a.pod.UsableAddresses(link)
	if err != nil {
		return err
	}
	routes, err := a.pod.Routes(link)
	if err != nil {
		return err
	}
	routes = slices.DeleteFunc(routes, func(route *routing.Route) bool { return !route.Copied() })
	index, err := link.Index()
	if err != nil {
		return err
	}
	m := &moved{link: link}
	var addrs []netip.Addr
	for _, f := range a.families {
		of := &underlay.Family{V6: f.V6, Nodes: f.Nodes, Pods: underlay.OfFamily(f.V6, usable), Gateway: f.overlay.Gateway, MTU: f.overlay.MTU, Static: true}
		if len(of.Pods) > 0 {
			addrs = append(addrs, of.Pods...)
			m.families = append(m.families, of)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	if m.table, err = underlay.OwnTable(a.pod, a.config.RouteTableStart, link, a.overlay, addrs); err != nil {
		return err
	}
	for _, f := range m.families {
		a.hijack(f, routes, nil)
		var gateway netip.Addr
		if link == a.wire.Link {
			gateway = r.Gateway(f.V6)
		}
		if err := f.Sort(routes, m.table, link, gateway); err != nil {
			return err
		}
		if f.Leaves, err = a.pod.HasDefault(f.V6, index); err != nil {
			return err
		}
	}
	a.moved = append(a.moved, m)
	return nil
}

// takeMain makes the new interface's default route that of main. One that brings none leaves the family as it is.
func (a *attachment) takeMain(r *plugin.Request, byWire []*routing.Route) error {
	main := a.pod.Table(routing.MainTable)
	for _, f := range a.families {
		if err := f.Sort(byWire, main, a.wire.Link, r.Gateway(f.V6)); err != nil {
			return err
		}
		gateway := r.Gateway(f.V6)
		if len(f.Main) > 0 || !gateway.IsValid() {
			continue
		}
		f.gets = &routing.Route{Table: main, Dst: routing.All(f.V6), Via: gateway, Dev: a.wire.Link}
		for _, m := range a.moved {
			for _, of := range m.families {
				if of.V6 == f.V6 {
					f.gets.Over, of.Leaves = of.Main, true
					of.Main = notReplaced(of.Main, f.V6)
				}
			}
		}
	}
	return nil
}

// notReplaced leaves out the one default route whose place the new one takes: that with the same metric. Of several, which
// only IPv6 can have, the kernel takes the place of one.
func notReplaced(defaults []*routing.Route, v6 bool) []*routing.Route {
	metric := map[bool]int{false: 0, true: 1024}[v6]
	rest := slices.DeleteFunc(slices.Clone(defaults), func(r *routing.Route) bool { return r.Metric == metric })
	if len(defaults)-len(rest) == 1 {
		return rest
	}
	return defaults
}
