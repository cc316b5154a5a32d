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
	config *conflist.Underlay // nil if it cannot be read
	name   string             // of the attachment in the pod
	IfName string             // its interface, as it is called by now
	links  []*routing.LinkAttrs
	others []string // still attached
	rules  []*routing.Rule
	addrs  map[netip.Addr]string       // the interface of each of the pod's addresses
	routes map[string][]*routing.Route // by the interface
	gone   []string                    // names of attachments that end before this one
	over   map[string]bool             // the interfaces of those
	paired bool                        // the ways for answers are those of the plugin veth, whose pair they leave by
}

// leavePod takes away what the attachment has in a pod that is still there. In each family the last of the others inherits
// main. With the last attachment all of ours goes. Those of some names have gone by then. A DEL works with any
// configuration.
func leavePod(r *plugin.Request, p *plugin.Plan, name string, gone ...string) error {
	config, _ := underlay.Decode(r, conflist.DecodeRouter)
	if r.Pod == nil {
		return nil
	}
	e := &end{
		Request: r, config: config, name: name, IfName: r.IfName,
		addrs: map[netip.Addr]string{}, routes: map[string][]*routing.Route{}, gone: gone, over: map[string]bool{},
	}
	err := e.look()
	if err == nil {
		err = e.leave(p)
	}
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	if overlay := named(e.links, hostNameOf(name)); overlay != nil { // without host_route
		p.AddAfter(&routing.NoAltName{AltName: &routing.AltName{Link: r.Pod.Link(overlay.Name), Name: hostNameOf(name)}}, p.Changes()...)
	}
	return nil
}

func (e *end) look() (err error) {
	if e.links, err = e.Pod.Links(nil); err != nil {
		return err
	}
	if l := named(e.links, e.name); l != nil {
		e.IfName = l.Name
	}
	names := make(map[int]string)
	for _, l := range e.links {
		names[l.Index] = l.Name
		if e.routes[l.Name], err = e.Pod.Routes(e.Pod.Link(l.Name)); err != nil {
			return err
		}
		e.over[l.Name] = slices.ContainsFunc(l.AltNames, func(name string) bool { return slices.Contains(e.gone, name) })
	}
	if err := e.lookAtOthers(); err != nil {
		return err
	}
	all, err := e.Pod.Addresses(nil)
	for _, addr := range routing.Usable(all) {
		e.addrs[addr.Prefix.Addr()] = names[addr.Link]
	}
	if err == nil {
		e.rules, err = e.Pod.Froms(underlay.PrefFrom)
	}
	e.rules = slices.DeleteFunc(e.rules, func(rule *routing.Rule) bool { return e.over[e.addrs[rule.From.Addr()]] })
	if err == nil {
		e.paired, err = e.answersByPair()
	}
	return err
}

// lookAtOthers tells who is still attached. Where the overlay's interface has gone, nobody knows whose names are stale.
func (e *end) lookAtOthers() error {
	overlaid := slices.ContainsFunc(e.links, func(l *routing.LinkAttrs) bool { return e.isOverlay(l.Name) })
	for _, l := range e.links {
		if !attached(l) || l.Name == e.IfName || e.over[l.Name] {
			continue
		}
		if is, err := backed(e.Node, e.Pod, e.links, l); err != nil {
			return err
		} else if is || !overlaid {
			e.others = append(e.others, l.Name)
		}
	}
	return nil
}

// isOverlay tells the overlay's interface: that one has the routes for answers. After an ADD that was killed it may have none yet;
// then the configuration names it.
func (e *end) isOverlay(name string) bool {
	return slices.ContainsFunc(e.routes[name], answers) || e.config != nil && name == e.config.OverlayInterface
}

// answersByPair tells whose the ways for answers are: veth has the same rule, and the same table, by its pair. Where the table is
// empty, the rule is veth's if there is a pair.
func (e *end) answersByPair() (bool, error) {
	var by []*routing.LinkAttrs
	for _, l := range e.links {
		if slices.ContainsFunc(e.routes[l.Name], answers) {
			by = append(by, l)
		}
	}
	if by == nil {
		by = e.links
	}
	for _, l := range by {
		if host, err := otherEnd(e.Node, e.Pod, l); err != nil || host != nil && slices.ContainsFunc(host.AltNames, underlay.IsUse) {
			return err == nil, err
		}
	}
	return false, nil
}

// answers tells a route for answers.
func answers(r *routing.Route) bool { return r.InTable(underlay.TableReply) }

// link is the pod's interface of that name, nil if there is none.
func (e *end) link(name string) *routing.LinkAttrs {
	for _, l := range e.links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// is tells the interface of the attachment.
func (e *end) is(l *routing.LinkAttrs) bool { return slices.Contains(l.AltNames, e.name) }

// ours reports whether there is anything of ours to take: the interface says that it is attached, or it has gone, and
// the rule for answers is there and is not veth's.
func (e *end) ours() (bool, error) {
	if l := e.link(e.IfName); l != nil {
		return e.is(l), nil
	}
	rules, err := e.Pod.Rules()
	return !e.paired && slices.ContainsFunc(rules, underlay.IsReply), err
}

// last reports whether all of ours by the overlay's interface ends with the attachment. veth's stays.
func (e *end) last() bool { return len(e.others) == 0 && !e.paired }

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
		if err := e.leaveRoutes(p, l, heirs, ending); err != nil {
			return err
		}
	}
	routes := p.Changes()
	for _, rule := range ending {
		p.AddAfter(&routing.NoRule{Rule: rule}, routes...) // a DEL finds the table by it
	}
	for _, v6 := range []bool{false, true} {
		if e.last() {
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
// that has gone; or no attached one comes after it any more, and its default route is in main, or will be. The overlay's stays for
// those before it, too: nobody knows their migrate_route, and with 1 they need it.
func (e *end) ends(rule *routing.Rule, heir string) bool {
	by := e.addrs[rule.From.Addr()]
	if e.last() || by == "" || by == e.IfName {
		return true
	}
	for addr, other := range e.addrs {
		if addr.Is6() == rule.V6 && slices.Contains(e.others, other) && (underlay.Before(by, other) || e.isOverlay(by)) {
			return false
		}
	}
	return by == heir || len(underlay.MainDefaults(e.routes[by], rule.V6)) > 0 || len(e.estate().Defaults(by, rule)) == 0
}

// leaveRoutes takes away the routes by one interface that some rules look up, after the default routes of a heir are in main
// again; and with the last attachment all of ours by the overlay's interface.
func (e *end) leaveRoutes(p *plugin.Plan, l *routing.LinkAttrs, heirs map[bool]string, ending []*routing.Rule) error {
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
	if len(e.others) > 0 || !e.isOverlay(l.Name) {
		return nil
	}
	return e.leaveOverlay(p, e.routes[l.Name])
}

// leaveOverlay takes away the ways to the node by the overlay's interface. The routes for answers, which tell it, go last.
func (e *end) leaveOverlay(p *plugin.Plan, routes []*routing.Route) error {
	for _, r := range routes {
		if r.InMain() && !r.Copied() && !r.IsDefault() {
			to := netip.Addr{}
			if r.Dst.IsSingleIP() {
				to = r.Dst.Addr()
			}
			if err := e.leaveRoute(p, r, to); err != nil {
				return err
			}
		}
	}
	for _, r := range routes {
		if answers(r) && !e.paired {
			if err := e.leaveRoute(p, r, r.Via); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveRoute takes away a route, and before it the neighbour that it leads to, if that is ours: the overlay may have one for its
// own next hop, and the pod has nothing to ask for it by.
func (e *end) leaveRoute(p *plugin.Plan, r *routing.Route, to netip.Addr) error {
	neigh := &routing.NoNeigh{Neigh: &routing.Neigh{Addr: to, Dev: r.Dev}}
	ours, err := e.wrote(neigh.Neigh, r.Dst == routing.Single(to) && !r.HasGateway())
	if err != nil || !ours {
		p.Add(&routing.NoRoute{Route: r})
		return err
	}
	p.Add(neigh)
	p.AddAfter(&routing.NoRoute{Route: r}, neigh)
	return nil
}

// wrote tells whether a neighbour by the overlay's interface is one of those that ADD writes with host_route: permanent, with the
// hardware address of the other end, and of the node, as a route of ours to it alone says or the node itself.
func (e *end) wrote(n *routing.Neigh, routed bool) (bool, error) {
	if !n.Addr.IsValid() || e.paired || e.config != nil && !e.config.HostRoute {
		return false, nil
	}
	host, err := otherEnd(e.Node, e.Pod, e.link(n.Dev.Name))
	if err != nil || host == nil {
		return false, err
	}
	n.MAC = host.MAC
	if written := n.Verify() == nil; routed || !written {
		return written, nil
	}
	return e.isNode(n.Addr, n.Dev)
}

// isNode tells whether an address is one of those that ADD takes for the node's: for others to reach it by, or what it sends from
// towards the overlay's interface.
func (e *end) isNode(addr netip.Addr, overlay *routing.Link) (bool, error) {
	all, err := underlay.NodeAddresses(e.Node)
	if err != nil || slices.Contains(all, addr) {
		return err == nil, err
	}
	for pod, by := range e.addrs {
		if by == overlay.Name && pod.Is6() == addr.Is6() {
			if source, err := underlay.SourceTo(e.Node, pod); err != nil || source == addr {
				return err == nil, err
			}
		}
	}
	return false, nil
}
