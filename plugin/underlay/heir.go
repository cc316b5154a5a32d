package underlay

import (
	"net/netip"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// An Estate is what tells, at the end of an attachment, who inherits the default route of main.
type Estate struct {
	Pod    *routing.Namespace
	Froms  []*routing.Rule             // from the addresses of interfaces whose routes have moved
	By     map[netip.Addr]string       // the interface of each of the pod's addresses
	Routes map[string][]*routing.Route // by the interface
}

// Heir is who inherits main in one family: of those who may, and whose default routes are in a table of their own, the one that comes
// first. It is nobody while main has a default route of another interface than those that leave, by their indexes.
func (e *Estate) Heir(v6 bool, leaving []int, may func(name string) bool, first func(a, b string) bool) (heir string, err error) {
	if has, err := e.Pod.HasDefault(v6, leaving...); has || err != nil {
		return "", err
	}
	for _, rule := range e.Froms {
		by := e.By[rule.From.Addr()]
		if rule.V6 == v6 && may(by) && len(e.Defaults(by, rule)) > 0 && (heir == "" || first(by, heir)) {
			heir = by
		}
	}
	return heir, nil
}

// Defaults are the default routes that an interface has in the table of a rule.
func (e *Estate) Defaults(by string, rule *routing.Rule) (routes []*routing.Route) {
	for _, r := range e.Routes[by] {
		if r.IsDefault() && rule.LooksUp(r) {
			routes = append(routes, r)
		}
	}
	return routes
}

// MainDefaults are those of some routes that are default routes of main, in one family.
func MainDefaults(routes []*routing.Route, v6 bool) (defaults []*routing.Route) {
	for _, r := range routes {
		if r.InMain() && r.IsDefault() && r.Dst.Addr().Is6() == v6 {
			defaults = append(defaults, r)
		}
	}
	return defaults
}

// Inherit puts the default routes of an interface back into main.
func (e *Estate) Inherit(p *plugin.Plan, heir string, v6 bool) {
	for _, rule := range e.Froms {
		if rule.V6 != v6 || e.By[rule.From.Addr()] != heir {
			continue
		}
		for _, r := range e.Defaults(heir, rule) {
			p.Add(r.In(e.Pod.Table(routing.MainTable)))
			if r.Learned() {
				p.Add(routing.Inet6Conf(e.Pod.Link(heir), "accept_ra_defrtr=1"))
			}
		}
		return // those of its further addresses look up the same table
	}
}
