package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// An attachment is everything that the plan is computed from: the configuration, the result so far and what the
// kernel shows of the node and the pod.
type attachment struct {
	plugin.Attachment
	config *conflist.Underlay

	node, pod  *routing.Namespace
	wire       *underlay.Wire // the pod's new interface
	overlay    *routing.Link  // the pod's interface of the overlay
	overlayMAC net.HardwareAddr
	peer       *routing.Link // its other end, on the node; nil without host_route
	peerMAC    net.HardwareAddr
	others     []string // attached before, in order
	firewall   firewall.Firewall

	families []*family           // those that the new interface and the node have
	moved    []*moved            // interfaces whose routes move
	hostConf []*routing.InetConf // with set_host: the node's interfaces whose rp_filter is another
}

// A family is what the plan needs in IPv4 or in IPv6: the new interface's, and the overlay's, by which the node is.
type family struct {
	underlay.Family
	overlay underlay.Family
	source  netip.Addr     // of the node, towards the new interface
	ruled   bool           // the node has the rule from somebody else: the kernel would take a second one
	gets    *routing.Route // the new interface's default route, where main is to get it
}

// A moved is an interface whose routes move to a table of their own.
type moved struct {
	link     *routing.Link
	table    *routing.Table
	families []*movedFamily
}

type movedFamily struct {
	underlay.Family
	forsake bool // its default routes leave the main table
}

func (a *attachment) family(v6 bool) *family {
	i := slices.IndexFunc(a.families, func(f *family) bool { return f.V6 == v6 })
	if i < 0 {
		return nil
	}
	return a.families[i]
}

func (a *attachment) rpFilter() string { return fmt.Sprintf("rp_filter=%d", a.config.RPFilter.Value) }

// look reads what the plan is computed from and changes nothing. All bad input ends here.
func look(r *plugin.Request) (*attachment, error) {
	config, err := decode(r)
	if err != nil {
		return nil, err
	}
	a := &attachment{Attachment: r.Attachment, config: config, node: r.Node, pod: r.Pod, overlay: r.Pod.Link(config.OverlayInterface)}
	if a.wire, err = underlay.LookAtWire(r, config); err != nil || underlay.OnlyMAC(config) {
		return a, err
	}
	for _, look := range []func(*plugin.Request) error{a.lookAtOverlay, a.lookAtNode, a.lookAtRoutes} {
		if err := look(r); err != nil {
			return nil, err
		}
	}
	if a.firewall, err = firewall.Open(string(config.Firewall)); err != nil {
		return nil, plugin.Errorf(plugin.CodeFirewall, "firewall: %w", err)
	}
	return a, nil
}

// decode reads the configuration. One that comes with an error holds defaults where it was wrong, or is nil.
func decode(r *plugin.Request) (*conflist.Underlay, error) {
	config, err := conflist.DecodeRouter(r.Config)
	if config != nil {
		r.LogTo(config.LogOptions)
	}
	return config, err
}

// lookAtOverlay finds the overlay's interface in the pod and its other end on the node, and who is attached already.
func (a *attachment) lookAtOverlay(*plugin.Request) error {
	bad := &conflist.KeyError{Key: "overlay_interface", Value: fmt.Sprintf("%q", a.overlay.Name), Accepted: "the pod's interface that the overlay has made"}
	if a.overlay.Name == a.IfName {
		bad.Problem = "it is the interface of CNI_IFNAME itself"
		return bad
	}
	end, err := a.overlay.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		bad.Problem = "the pod has no such interface"
		return bad
	}
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	a.overlayMAC = end.MAC
	links, err := a.pod.Links(attached)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, l := range links {
		if l.Name != a.IfName {
			a.others = append(a.others, l.Name)
		}
	}
	if !a.config.HostRoute {
		return nil
	}
	host, err := a.node.LinkAt(end.Peer)
	switch {
	case end.Kind == "veth" && err == nil && host.Kind == "veth" && host.Peer == end.Index:
		a.peer, a.peerMAC = a.node.Link(host.Name), host.MAC
	case err == nil || end.Kind != "veth" || errors.Is(err, routing.ErrNoLink):
		bad.Problem, bad.Accepted = "it is no veth with its other end on the node", "one that is, or host_route false"
		return bad
	default:
		return fmt.Errorf("look at the node: %w", err)
	}
	return nil
}

// lookAtNode reads the node's addresses, and sorts those of both sides by family. A family that one of them does not
// have is left out.
func (a *attachment) lookAtNode(r *plugin.Request) error {
	all, err := underlay.NodeAddresses(a.node)
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	overlay, err := a.pod.UsableAddresses(a.overlay)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, v6 := range []bool{false, true} {
		f := &family{Family: underlay.Family{V6: v6, Pods: of(v6, a.wire.Addrs)}}
		f.overlay = underlay.Family{V6: v6, Pods: of(v6, overlay), Static: true}
		if len(f.Pods) == 0 {
			continue
		}
		if err := a.lookAtNodes(f, all); err != nil {
			return fmt.Errorf("look at the node: %w", err)
		}
		if len(f.Nodes) > 0 {
			a.families = append(a.families, f)
		}
	}
	if len(a.families) == 0 {
		return plugin.Errorf(plugin.CodeConfig, "prevResult.ips: %s in the pod and the node have no usable address of the same family; accepted: at least one in IPv4 or in IPv6", a.IfName)
	}
	rules, err := a.node.Rules()
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	for _, rule := range rules {
		if f := a.family(rule.V6); f != nil && !rule.Kernel() {
			rule.Protocol = unix.RTPROT_KERNEL
			f.ruled = f.ruled || rule == a.rule(rule.V6)
		}
	}
	if r.Verb == "ADD" || r.Verb == "PLAN" {
		if err := a.mineAlone(rules); err != nil {
			return err
		}
	}
	if a.config.RPFilter.SetHost {
		a.hostConf, err = a.node.OtherInetConfs(routing.Values(a.rpFilter())[0])
	}
	return err
}

// rule is the node's rule for the routes to pods, as it is listed.
func (a *attachment) rule(v6 bool) routing.ListedRule {
	return routing.ListedRule{V6: v6, Pref: prefHost, Protocol: unix.RTPROT_KERNEL, Table: a.config.HostRuleTable, Action: nl.FR_ACT_TO_TBL}
}

func of(v6 bool, all []routing.Address) (addrs []netip.Addr) {
	for _, addr := range all {
		if addr.Prefix.Addr().Is6() == v6 {
			addrs = append(addrs, addr.Prefix.Addr())
		}
	}
	return addrs
}

// lookAtNodes gives the family the node's addresses. The pod's next hop comes first, and is the same for all of its
// interfaces: the address that the node sends from towards the overlay's. The address that it sends from towards the
// new interface is among them, too.
func (a *attachment) lookAtNodes(f *family, all []netip.Addr) error {
	source, err := a.node.SourceTo(f.Source())
	if err != nil {
		return err
	}
	if pod := f.overlay.Source(); pod.IsValid() {
		f.Nodes, err = underlay.NodesFor(a.node, all, pod)
	} else {
		f.Nodes = slices.DeleteFunc(slices.Clone(all), func(addr netip.Addr) bool { return addr.Is6() != f.V6 })
	}
	if err != nil || len(f.Nodes) == 0 {
		return err
	}
	if f.source = f.Node(); source.IsValid() && source.IsGlobalUnicast() && !source.IsLinkLocalUnicast() {
		f.source = source
	}
	if !slices.Contains(f.Nodes, f.source) {
		f.Nodes = append(f.Nodes, f.source)
	}
	f.overlay.Nodes = f.Nodes
	return nil
}

// lookAtRoutes tells what leaves by the overlay, and which routes move.
func (a *attachment) lookAtRoutes(r *plugin.Request) error {
	byOverlay, err := a.pod.Routes(a.overlay)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	byWire, err := a.pod.Routes(a.wire.Link)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, f := range a.families {
		a.lookAtOverlayRoutes(f, byOverlay, byWire)
	}
	moves, err := a.movers()
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, link := range moves {
		if err := a.move(r, link); err != nil {
			return fmt.Errorf("look at the pod: %w", err)
		}
	}
	if !slices.Contains(moves, a.wire.Link) && len(moves) > 0 {
		return a.takeMain(r, byWire)
	}
	return nil
}

// lookAtOverlayRoutes finds what leaves by the overlay in main, and the overlay's own next hop.
func (a *attachment) lookAtOverlayRoutes(f *family, byOverlay, byWire []*routing.Route) {
	o := &f.overlay
	for _, route := range byOverlay {
		hop := route.IsDefault() && route.Copied() && !route.InTable(underlay.TableReply) && route.Dst.Addr().Is6() == f.V6
		if hop && !a.config.HostRoute && !o.Gateway.IsValid() {
			o.Gateway = route.Via
		}
	}
	a.hijack(o, byOverlay, byWire)
}

// hijack gives a family what is to leave by the overlay, but for what those who made the interface route already: their
// routes stay as they are. So does what is on the link of one of some interfaces.
func (a *attachment) hijack(f *underlay.Family, own, wire []*routing.Route) {
	prefixes := slices.Clone(a.config.Hijack())
	for _, route := range own {
		if !route.InMain() || !route.Copied() {
			continue
		}
		if route.Dst.IsSingleIP() {
			f.Known = append(f.Known, route.Dst.Addr())
		}
		prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return p == route.Dst })
	}
	f.SetHijack(prefixes, wire)
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
		of := &movedFamily{Family: underlay.Family{V6: f.V6, Nodes: f.Nodes, Pods: of(f.V6, usable), Gateway: f.overlay.Gateway, Static: true}}
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
		a.hijack(&f.Family, routes, nil)
		var gateway netip.Addr
		if link == a.wire.Link {
			gateway = r.Gateway(f.V6)
		}
		if err := f.Sort(routes, m.table, link, gateway); err != nil {
			return err
		}
		if f.forsake, err = a.pod.HasDefault(f.V6, index); err != nil {
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
		f.gets = &routing.Route{Table: main, Dst: f.All(), Via: gateway, Dev: a.wire.Link}
		for _, m := range a.moved {
			for _, of := range m.families {
				if of.V6 == f.V6 {
					f.gets.Over, of.forsake = of.Main, true
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

func (a *attachment) replies() firewall.Replies {
	return firewall.Replies{
		Owner: "router", By: a.overlay.Name, Mark: underlay.MarkReply, IPv4: a.family(false) != nil, IPv6: a.family(true) != nil,
		There: len(a.others) > 0,
	}
}
