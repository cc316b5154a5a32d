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
	addrs   map[netip.Addr]string       // the interface of each of the pod's addresses
	routes  map[string][]*routing.Route // by the interface
	gone    []string                    // names of attachments that end before this one
	over    map[string]bool             // the interfaces of those
}

// leavePod takes away what the attachment has in a pod that is still there. In each family the last of the others inherits
// main. With the last attachment all of ours goes. Those of some names have gone by then. A DEL works with any
// configuration.
func leavePod(r *plugin.Request, p *plugin.Plan, name string, gone ...string) error {
	config, _ := underlay.Decode(r, conflist.DecodeRouter)
	if r.Pod == nil {
		return nil
	}
	e := &end{Request: r, name: name, IfName: r.IfName, addrs: map[netip.Addr]string{}, routes: map[string][]*routing.Route{}, gone: gone, over: map[string]bool{}}
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
	names := make(map[int]string)
	for _, l := range e.links {
		names[l.Index] = l.Name
		if e.routes[l.Name], err = e.Pod.Routes(e.Pod.Link(l.Name)); err != nil {
			return err
		}
		e.over[l.Name] = slices.ContainsFunc(l.AltNames, func(name string) bool { return slices.Contains(e.gone, name) })
		if attached(l) && l.Name != e.IfName && !e.over[l.Name] {
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
	e.rules = slices.DeleteFunc(e.rules, func(rule *routing.Rule) bool { return e.over[e.addrs[rule.From.Addr()]] })
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
	heirs := map[bool]string{}
	for _, v6 := range []bool{false, true} {
		heir, err := e.heir(v6)
		if err != nil {
			return err
		}
		heirs[v6] = heir
	}
	ending := slices.DeleteFunc(slices.Clone(e.rules), func(rule *routing.Rule) bool { return !e.ends(rule, heirs[rule.V6]) })
	for _, l := range e.links {
		e.leaveRoutes(p, l, heirs, ending)
	}
	routes := p.Changes()
	for _, rule := range ending {
		p.AddAfter(&routing.NoRule{Rule: rule}, routes...) // a DEL finds the table by it
	}
	for _, v6 := range []bool{false, true} {
		if len(e.others) == 0 {
			p.Add(&routing.NoRule{Rule: underlay.ReplyRule(e.Pod, v6)})
		}
	}
	p.AddAfter(&routing.NoAltName{AltName: &routing.AltName{Link: e.Pod.Link(e.IfName), Name: e.name}}, p.Changes()...)
	return nil
}

// heir is who inherits main in one family: the last by name of those whose default routes are in a table of their own. Nobody
// does while main has a default route of another interface than the one that leaves: its ADD may have been killed before
// it took main, it may have had none to bring, or have moved itself.
func (e *end) heir(v6 bool) (heir string, err error) {
	var leaving []int
	for _, l := range e.links {
		if l.Name == e.IfName || e.over[l.Name] {
			leaving = append(leaving, l.Index)
		}
	}
	byName := func(a, b string) bool { return underlay.Before(b, a) }
	return e.estate().Heir(v6, leaving, func(by string) bool { return by != e.IfName }, byName)
}

func (e *end) estate() *underlay.Estate {
	return &underlay.Estate{Pod: e.Pod, Froms: e.rules, By: e.addrs, Routes: e.routes}
}

// ends tells whether what a rule says of its interface and its family is over: it is the leaving one's, or that of an interface
// that has gone; or no attached one comes after it any more, and its default route is in main, or will be.
func (e *end) ends(rule *routing.Rule, heir string) bool {
	by := e.addrs[rule.From.Addr()]
	if len(e.others) == 0 || by == "" || by == e.IfName {
		return true
	}
	for addr, other := range e.addrs {
		if addr.Is6() == rule.V6 && slices.Contains(e.others, other) && underlay.Before(by, other) {
			return false
		}
	}
	inMain := slices.ContainsFunc(e.routes[by], func(r *routing.Route) bool { return r.InMain() && r.IsDefault() && r.Dst.Addr().Is6() == rule.V6 })
	return by == heir || inMain || len(e.estate().Defaults(by, rule)) == 0
}

// leaveRoutes takes away the routes by one interface that some rules look up, after the default routes of a heir are in main
// again; and with the last attachment all of ours by the overlay's interface.
func (e *end) leaveRoutes(p *plugin.Plan, l *routing.LinkAttrs, heirs map[bool]string, ending []*routing.Rule) {
	had := len(p.Changes())
	for _, v6 := range []bool{false, true} {
		if heirs[v6] == l.Name {
			e.estate().Inherit(p, l.Name, v6)
		}
	}
	inherited := p.Changes()[had:]
	for _, r := range e.routes[l.Name] {
		if slices.ContainsFunc(ending, func(rule *routing.Rule) bool { return rule.LooksUp(r) }) {
			p.AddAfter(&routing.NoRoute{Route: r}, inherited...) // the only copy of a default route, until it is in main again
		}
	}
	if len(e.others) == 0 {
		leaveOverlay(p, e.routes[l.Name], l.Name == e.overlay)
	}
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
		if !r.InMain() || r.Copied() || r.IsDefault() {
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
