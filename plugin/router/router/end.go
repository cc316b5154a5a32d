package router

import (
	"fmt"
	"net/netip"
	"slices"

	"underlay-cni/conflist"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// An end is that of an attachment in a pod that is still there.
type end struct {
	*plugin.Request
	name    string // of the attachment in the pod
	IfName  string // its interface, as it is called by now
	overlay string // the interface of the overlay, as the configuration names it
	links   []*routing.LinkAttrs
	others  []string // still attached
	rules   []*routing.Rule
	addrs   map[netip.Addr]string // the interface of each of the pod's addresses
	gone    []string              // names of attachments that end before this one
}

// leavePod takes away what the attachment has in a pod that is still there. The interface before gets back its place in
// the main table. With the last attachment all of ours goes. Those of some names have gone by then. A DEL works with any
// configuration.
func leavePod(r *plugin.Request, p *plugin.Plan, name string, gone ...string) error {
	config, _ := underlay.Decode(r, conflist.DecodeRouter)
	if r.Pod == nil {
		return nil
	}
	e := &end{Request: r, name: name, IfName: r.IfName, addrs: map[netip.Addr]string{}, gone: gone}
	if config != nil {
		e.overlay = config.OverlayInterface
	}
	err := e.look()
	if err == nil {
		err = e.leave(p)
	}
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	return nil
}

func (e *end) look() (err error) {
	if e.links, err = e.Pod.Links(nil); err != nil {
		return err
	}
	if at := slices.IndexFunc(e.links, e.is); at >= 0 {
		e.IfName = e.links[at].Name
	}
	names, gone := make(map[int]string), make(map[string]bool)
	for _, l := range e.links {
		names[l.Index] = l.Name
		gone[l.Name] = slices.ContainsFunc(l.AltNames, func(name string) bool { return slices.Contains(e.gone, name) })
		if attached(l) && l.Name != e.IfName && !gone[l.Name] {
			e.others = append(e.others, l.Name)
		}
	}
	all, err := e.Pod.Addresses(nil)
	for _, addr := range routing.Usable(all) {
		e.addrs[addr.Prefix.Addr()] = names[addr.Link]
	}
	if err == nil {
		e.rules, err = e.Pod.Froms(underlay.PrefFrom)
	}
	e.rules = slices.DeleteFunc(e.rules, func(rule *routing.Rule) bool { return gone[e.addrs[rule.From.Addr()]] })
	return err
}

// is tells the interface of the attachment.
func (e *end) is(l *routing.LinkAttrs) bool { return slices.Contains(l.AltNames, e.name) }

// ours reports whether there is anything of ours to take: the interface says that it is attached, or it has gone, and
// the rule for answers is there.
func (e *end) ours() (bool, error) {
	if at := slices.IndexFunc(e.links, func(l *routing.LinkAttrs) bool { return l.Name == e.IfName }); at >= 0 {
		return e.is(e.links[at]), nil
	}
	for _, v6 := range []bool{false, true} {
		if found, err := e.Pod.HasIif(v6, underlay.PrefReply, "lo"); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func (e *end) leave(p *plugin.Plan) error {
	if ours, err := e.ours(); !ours || err != nil {
		return err
	}
	heir := e.heir()
	var tables []int
	for _, rule := range e.rules {
		by := e.addrs[rule.From.Addr()]
		if len(e.others) > 0 && by != "" && by != e.IfName && by != heir {
			continue
		}
		id, err := rule.Table.ID()
		if err != nil {
			return err
		}
		tables = append(tables, id)
	}
	for _, l := range e.links {
		if err := e.leaveRoutes(p, l, l.Name == heir, tables); err != nil {
			return err
		}
	}
	routes := p.Changes()
	for _, rule := range e.rules {
		if id, err := rule.Table.ID(); err == nil && slices.Contains(tables, id) {
			p.AddAfter(&routing.NoRule{Rule: rule}, routes...) // a DEL finds the table by it
		}
	}
	for _, v6 := range []bool{false, true} {
		if len(e.others) == 0 {
			p.Add(&routing.NoRule{Rule: underlay.ReplyRule(e.Pod, v6)})
		}
	}
	p.AddAfter(&routing.NoAltName{AltName: &routing.AltName{Link: e.Pod.Link(e.IfName), Name: e.name}}, p.Changes()...)
	return nil
}

// heir is the interface that has moved for this one, and comes back: the last by name of those that have. It is empty
// if this one has moved, too, for a later one, or has not taken main from another that is attached: its ADD may have been
// killed before that.
func (e *end) heir() (heir string) {
	for _, other := range e.others {
		if !slices.ContainsFunc(e.rules, func(rule *routing.Rule) bool { return e.addrs[rule.From.Addr()] == other }) {
			return ""
		}
	}
	for _, rule := range e.rules {
		by := e.addrs[rule.From.Addr()]
		if by == e.IfName {
			return ""
		}
		if by != "" && (heir == "" || underlay.Before(heir, by)) {
			heir = by
		}
	}
	return heir
}

// leaveRoutes takes away the routes by one interface in some tables, after the default routes of the heir are in main again;
// and with the last attachment all of ours by the overlay's interface.
func (e *end) leaveRoutes(p *plugin.Plan, l *routing.LinkAttrs, heir bool, tables []int) error {
	routes, err := e.Pod.Routes(e.Pod.Link(l.Name))
	if err != nil {
		return err
	}
	had := len(p.Changes())
	for _, v6 := range []bool{false, true} {
		if !heir {
			break
		}
		// Without another default route than that of the interface that leaves, which goes with it.
		if err := e.inherit(p, l, v6, tables, routes); err != nil {
			return err
		}
	}
	inherited := p.Changes()[had:]
	for _, r := range routes {
		if slices.ContainsFunc(tables, r.InTable) {
			p.AddAfter(&routing.NoRoute{Route: r}, inherited...) // the only copy of a default route, until it is in main again
		}
	}
	if len(e.others) == 0 {
		leaveOverlay(p, routes, l.Name == e.overlay)
	}
	return nil
}

// leaveOverlay takes away the ways to the node by an interface, if it is the overlay's: that one has the routes for answers,
// which therefore go last. After an ADD that was killed it may have none yet; then the configuration names it.
func leaveOverlay(p *plugin.Plan, routes []*routing.Route, named bool) {
	var answers []*routing.Route
	for _, r := range routes {
		if r.InTable(underlay.TableReply) {
			answers = append(answers, r)
		}
	}
	if len(answers) == 0 && !named {
		return
	}
	for _, r := range routes {
		if !r.InMain() || r.Copied() {
			continue
		}
		to := netip.Addr{}
		if r.Dst.IsSingleIP() {
			to = r.Dst.Addr()
		}
		leaveRoute(p, r, to)
	}
	for _, r := range answers {
		leaveRoute(p, r, r.Via)
	}
}

// leaveRoute takes away a route, and before it the neighbour that it leads to, if that is valid.
func leaveRoute(p *plugin.Plan, r *routing.Route, to netip.Addr) {
	if !to.IsValid() {
		p.Add(&routing.NoRoute{Route: r})
		return
	}
	neigh := &routing.NoNeigh{Neigh: &routing.Neigh{Addr: to, Dev: r.Dev}}
	p.Add(neigh)
	p.AddAfter(&routing.NoRoute{Route: r}, neigh)
}

func (e *end) inherit(p *plugin.Plan, l *routing.LinkAttrs, v6 bool, tables []int, routes []*routing.Route) error {
	leaving, _ := e.Pod.Link(e.IfName).Index() // 0, no interface's, if it has gone
	if has, err := e.Pod.HasDefault(v6, leaving); has || err != nil {
		return err
	}
	for _, r := range routes {
		if !r.IsDefault() || !r.Copied() || r.Dst.Addr().Is6() != v6 || !slices.ContainsFunc(tables, r.InTable) {
			continue
		}
		p.Add(r.In(e.Pod.Table(routing.MainTable)))
		if r.Learned() {
			p.Add(routing.Inet6Conf(e.Pod.Link(l.Name), "accept_ra_defrtr=1"))
		}
	}
	return nil
}
