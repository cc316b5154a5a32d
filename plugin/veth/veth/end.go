package veth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// An end is that of an attachment: what it is computed from.
type end struct {
	*plugin.Request
	user    user
	others  []user // who use the pair too
	host    *routing.LinkAttrs
	hostEnd *routing.Link

	stays bool // the attachment's interface, with the routes that it has in main

	podEnd *routing.Link
	mine   []netip.Addr // addresses of the attachment's interface
	theirs []address    // of the pod's other interfaces, but for the pair's end
}

type address struct {
	netip.Addr
	by string // the interface
}

// leavePod takes away what the attachment has in a pod that is still there, and the node's ways to its addresses.
func (e *end) leavePod(p *plugin.Plan) error {
	if e.Pod == nil {
		return nil
	}
	e.podEnd = e.Pod.Link(podEnd)
	end, err := e.podEnd.Attrs()
	switch {
	case errors.Is(err, routing.ErrNoLink):
	case err != nil:
		return fmt.Errorf("look at the pod: %w", err)
	default:
		if pair, err := routing.Pair(e.host, e.Node, end, e.Pod); err != nil {
			return fmt.Errorf("look at the pod: %w", err)
		} else if !pair {
			return nil // the pod of another pair by now
		}
	}
	err = e.lookAtAddresses()
	if err == nil {
		err = e.leave(p)
	}
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	return nil
}

func (e *end) lookAtAddresses() error {
	links, err := e.Pod.Links(nil)
	if err != nil {
		return err
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Index] = l.Name
	}
	all, err := e.Pod.Addresses(nil)
	if err != nil {
		return err
	}
	for _, a := range routing.Usable(all) {
		switch name := names[a.Link]; name {
		case podEnd:
		case e.IfName:
			e.mine = append(e.mine, a.Prefix.Addr())
		default:
			e.theirs = append(e.theirs, address{a.Prefix.Addr(), name})
		}
	}
	return nil
}

func (e *end) leave(p *plugin.Plan) error {
	if len(e.others) > 0 {
		if err := e.leaveMain(p); err != nil {
			return err
		}
	}
	tables, err := e.leaveRules(p)
	if err != nil || len(e.others) == 0 {
		return err // the pair takes its routes along
	}
	if err := e.leaveNode(p); err != nil {
		return err
	}
	routes, err := e.Pod.Routes(e.podEnd)
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, v6 := range []bool{false, true} {
		if err := e.leaveRoutes(p, v6, tables, routes); err != nil {
			return err
		}
	}
	return nil
}

// leaveNode takes away the node's ways to the attachment's addresses by a pair that stays: to all that the node has a route to by
// it, whatever the attachment's interface has by now, and to what that has, of which an ADD or a DEL that was killed may have left
// a neighbour alone. Those to the addresses of the pod's other interfaces stay.
func (e *end) leaveNode(p *plugin.Plan) error {
	routes, err := e.Node.Routes(e.hostEnd, routing.MainTable)
	if err != nil {
		return err
	}
	addrs := slices.Clone(e.mine)
	for _, r := range routes {
		if addr := r.Dst.Addr(); r.Dst.IsSingleIP() && !r.HasGateway() && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	for _, addr := range addrs {
		if slices.ContainsFunc(e.theirs, func(a address) bool { return a.Addr == addr && e.uses(a.by) }) {
			continue
		}
		p.Add(
			&routing.NoRoute{Route: &routing.Route{Table: e.Node.Table(routing.MainTable), Dst: routing.Single(addr), Dev: e.hostEnd}},
			&routing.NoNeigh{Neigh: &routing.Neigh{Addr: addr, Dev: e.hostEnd}},
		)
	}
	return nil
}

// leaveMain gives main's default routes, in each family in which they are those of the attachment's interface, or of one that has
// gone, to the first of the other users that has such in a table of its own. It keeps that table and the rules for it.
func (e *end) leaveMain(p *plugin.Plan) error {
	link := e.Pod.Link(e.IfName)
	index, err := link.Index()
	gone := errors.Is(err, routing.ErrNoLink) // it may have had them
	if err != nil && !gone {
		return err
	}
	var own []*routing.Route
	if !gone {
		if e.stays {
			return nil
		}
		if own, err = e.Pod.Routes(link); err != nil {
			return err
		}
	}
	estate, err := e.estate()
	if err != nil {
		return err
	}
	for _, v6 := range []bool{false, true} {
		if !gone && len(underlay.MainDefaults(own, v6)) == 0 {
			continue
		}
		heir, err := estate.Heir(v6, []int{index}, e.uses, underlay.Before)
		if err != nil {
			return err
		}
		estate.Inherit(p, heir, v6)
	}
	return nil
}

// estate is what the other users have.
func (e *end) estate() (*underlay.Estate, error) {
	estate := &underlay.Estate{Pod: e.Pod, By: map[netip.Addr]string{}, Routes: map[string][]*routing.Route{}}
	for _, a := range e.theirs {
		estate.By[a.Addr] = a.by
		if _, listed := estate.Routes[a.by]; listed || !e.uses(a.by) {
			continue
		}
		routes, err := e.Pod.Routes(e.Pod.Link(a.by))
		if err != nil {
			return nil, err
		}
		estate.Routes[a.by] = routes
	}
	froms, err := e.Pod.Froms(underlay.PrefFrom)
	estate.Froms = froms
	return estate, err
}

// uses tells whether an interface is another user's.
func (e *end) uses(ifName string) bool {
	return slices.ContainsFunc(e.others, func(u user) bool { return u.ifName == ifName })
}

// leaveRules takes away the rules from addresses that are no other interface's, and tells the tables that they look
// up; with the last attachment those for answers go too.
func (e *end) leaveRules(p *plugin.Plan) (tables []int, err error) {
	rules, err := e.Pod.Froms(underlay.PrefFrom)
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		theirs := slices.ContainsFunc(e.theirs, func(a address) bool { return a.Addr == rule.From.Addr() })
		if theirs && len(e.others) > 0 {
			continue
		}
		id, err := rule.Table.ID()
		if err != nil {
			return nil, err
		}
		tables = append(tables, id)
		p.Add(&routing.NoRule{Rule: rule})
	}
	for _, v6 := range []bool{false, true} {
		if len(e.others) == 0 {
			p.Add(&routing.NoRule{Rule: underlay.ReplyRule(e.Pod, v6)})
		}
	}
	return tables, nil
}

// leaveRoutes takes away the routes of one family by a pair that stays: those of the attachment's own tables, and those
// of the main table that have one of its addresses as their source, unless another interface can take them over.
func (e *end) leaveRoutes(p *plugin.Plan, v6 bool, tables []int, routes []*routing.Route) error {
	heir, hop, err := e.heir(v6)
	if err != nil {
		return err
	}
	inherited := false
	for _, route := range routes {
		id, err := route.Table.ID()
		if err != nil {
			return err
		}
		switch {
		case route.Dst.Addr().Is6() != v6:
		case id == routing.MainTable && slices.Contains(e.mine, route.Src) && heir.IsValid():
			inherited = true
			r := &routing.Route{Table: route.Table, Dst: route.Dst, Dev: e.podEnd, Src: heir, Metric: route.Metric}
			if route.HasGateway() {
				r.Via = hop
			}
			p.Add(r)
		case slices.Contains(tables, id), slices.Contains(e.mine, route.Src), !heir.IsValid() && id == underlay.TableReply:
			p.Add(&routing.NoRoute{Route: route})
		}
	}
	if inherited {
		p.Add(&routing.Route{Table: e.Pod.Table(underlay.TableReply), Dst: routing.All(v6), Via: hop, Dev: e.podEnd})
	}
	return nil
}

// heir is the address of the first of the other users that has the family, with the node's address that is its next
// hop; not valid if there is none.
func (e *end) heir(v6 bool) (heir, hop netip.Addr, err error) {
	by := ""
	for _, a := range e.theirs {
		if e.uses(a.by) && a.Is6() == v6 && (by == "" || underlay.Before(a.by, by)) {
			heir, by = a.Addr, a.by
		}
	}
	if !heir.IsValid() {
		return heir, hop, nil
	}
	hop, err = e.Node.SourceTo(heir)
	if !hop.IsValid() {
		heir = netip.Addr{}
	}
	return heir, hop, err
}
