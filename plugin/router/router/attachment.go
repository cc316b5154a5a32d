package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"

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
	peerOff    bool          // IPv6 is switched off there
	comesIn    *routing.Link // by which what it sends comes in: the other end, or the bridge that this is a port of; nil: unknown
	bridged    bool          // it is the bridge
	others     []string      // attached before, in order
	stale      []string      // further names that an earlier attachment has left on the new interface: a VF outlives its pod
	firewall   firewall.Firewall

	families []*family // those that the new interface has
	moved    []*moved  // interfaces whose routes move
	rpFilter underlay.RPFilter
	byResult bool // see Request.ByResult
}

// A family is what the plan needs in IPv4 or in IPv6: the new interface's, and the overlay's, by which the node is.
type family struct {
	underlay.Family
	overlay underlay.Family
	source  netip.Addr     // of the node, towards the new interface
	behind  []netip.Prefix // what earlier attachments have hijacked in main
	ruled   bool           // the node has the rule from somebody else: the kernel would take a second one
	gets    *routing.Route // the new interface's default route, where main is to get it
}

// has tells whether the new interface and the node have the family.
func (a *attachment) has(v6 bool) bool {
	return slices.ContainsFunc(a.served(), func(f *family) bool { return f.V6 == v6 })
}

// served are the families in which the node has ways to the new interface, and back.
func (a *attachment) served() []*family { return underlay.Served(a.families) }

// look reads what the plan is computed from and changes nothing. All bad input ends here.
func look(r *plugin.Request) (*attachment, error) {
	config, err := underlay.Decode(r, conflist.DecodeRouter)
	if err != nil {
		return nil, err
	}
	a := &attachment{Attachment: r.Attachment, config: config, node: r.Node, pod: r.Pod, byResult: r.ByResult(), overlay: r.Pod.Link(config.OverlayInterface)}
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
	links, err := a.pod.Links(nil)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, l := range links {
		if l.Name == a.IfName {
			a.stale = slices.DeleteFunc(podNames(l), func(name string) bool { return name == podName(hostName(a.Attachment)) })
			continue
		}
		is, err := backed(a.node, a.pod, links, l)
		if err != nil {
			return fmt.Errorf("look at the node: %w", err)
		}
		if is {
			a.others = append(a.others, l.Name)
		}
	}
	host, err := otherEnd(a.node, a.pod, end)
	if err == nil && host != nil {
		err = a.lookAtPeer(host)
	}
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	if a.config.HostRoute && host == nil {
		bad.Problem, bad.Accepted = "it is no veth with its other end on the node", "one that is, or host_route false"
		return bad
	}
	return nil
}

// lookAtPeer looks at the other end of the overlay's interface.
func (a *attachment) lookAtPeer(host *routing.LinkAttrs) error {
	a.comesIn = a.node.Link(host.Name)
	if a.config.HostRoute {
		a.peer, a.peerMAC, a.peerOff = a.comesIn, host.MAC, !host.HasIPv6()
	}
	if host.Master == 0 {
		return nil
	}
	master, err := a.node.LinkAt(host.Master)
	if err == nil && master.Kind == "bridge" {
		a.comesIn, a.bridged = a.node.Link(master.Name), true
	}
	return err
}

// otherEnd is that of a pod's veth on the node, nil if it has none there.
func otherEnd(node, pod *routing.Namespace, l *routing.LinkAttrs) (*routing.LinkAttrs, error) {
	if l.Kind != "veth" || l.Peer == 0 {
		return nil, nil
	}
	host, err := node.LinkAt(l.Peer)
	if errors.Is(err, routing.ErrNoLink) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if pair, err := routing.Pair(host, node, l, pod); !pair || err != nil {
		return nil, err
	}
	return host, nil
}

// lookAtNode reads the node's addresses, and sorts those of both sides by family. One that the node does not have stays, for
// the routes of the pod's interfaces.
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
		f := &family{Family: underlay.Of(v6, a.wire)}
		f.overlay = underlay.Family{V6: v6, Pods: underlay.OfFamily(v6, overlay), There: len(a.others) > 0, Static: true}
		if len(f.Pods) == 0 {
			continue
		}
		if a.peer != nil {
			if err := r.Free(a.peer, f.Given); err != nil {
				return err
			}
		}
		if err := a.lookAtNodes(f, all); err != nil {
			return fmt.Errorf("look at the node: %w", err)
		}
		f.TellMissing(r)
		a.families = append(a.families, f)
	}
	if len(a.families) == 0 {
		return underlay.ErrNoAddress(a.IfName)
	}
	if len(all) == 0 && len(a.served()) == 0 {
		return underlay.ErrNoNode()
	}
	rules, err := a.node.Rules()
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	if err := a.lookAtRules(rules, r.Verb); err != nil {
		return err
	}
	a.rpFilter, err = underlay.LookAtRPFilter(a.node, a.config.RPFilter)
	return err
}

// lookAtRules tells which of the node's rules for the routes to pods are somebody else's, and refuses a table of others: with the
// rule that no pod has brought yet, all packets of the node would take their default route. Once the rule of a family is
// there, nobody is asked any more.
func (a *attachment) lookAtRules(rules []routing.ListedRule, verb string) error {
	there := func(r routing.ListedRule) bool { return r.Pref == prefHost && looksUp(r, a.config.HostRuleTable) }
	brings := map[bool]bool{} // the rule, by family
	for _, f := range a.served() {
		brings[f.V6] = !slices.ContainsFunc(rules, func(r routing.ListedRule) bool { return there(r) && r.V6 == f.V6 })
		f.ruled = slices.ContainsFunc(rules, func(r routing.ListedRule) bool { return there(r) && r.V6 == f.V6 && !r.Kernel() })
	}
	if a.peer == nil || verb == "CHECK" || !brings[false] && !brings[true] {
		return nil
	}
	routes, err := a.node.RoutesIn(a.config.HostRuleTable)
	if err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	for _, r := range routes {
		if brings[r.Dst.Addr().Is6()] && !r.Dst.IsSingleIP() {
			return &conflist.KeyError{
				Key: "host_rule_table", Value: fmt.Sprint(a.config.HostRuleTable), Problem: "it has a route of others: " + r.String(),
				Accepted: "a table that is nobody's",
			}
		}
	}
	return nil
}

// looksUp tells a rule that has every packet look up a table.
func looksUp(r routing.ListedRule, table int) bool {
	r.Pref, r.Protocol = 0, 0
	return r == routing.ListedRule{V6: r.V6, Table: table, Action: nl.FR_ACT_TO_TBL}
}

// lookAtNodes gives the family the node's addresses. The pod's next hop comes first, and is the same for all of its
// interfaces: the address that the node sends from towards the overlay's. The address that it sends from towards the
// new interface is among them, too.
func (a *attachment) lookAtNodes(f *family, all []netip.Addr) error {
	if len(f.Given) == 0 {
		return nil
	}
	source, err := underlay.SourceTo(a.node, f.Source())
	if err != nil {
		return err
	}
	if pod := f.overlay.Source(); pod.IsValid() {
		if f.V6 && a.comesIn != nil { // an address for each pod, which the kernel does not use at first: the next hop would be another
			if err := plugin.AwaitSource(a.comesIn); err != nil {
				return err
			}
		}
		f.Nodes, err = underlay.NodesFor(a.node, all, pod)
	} else {
		f.Nodes = slices.DeleteFunc(slices.Clone(all), func(addr netip.Addr) bool { return addr.Is6() != f.V6 })
	}
	if err != nil || len(f.Nodes) == 0 {
		return err
	}
	if f.source = f.Node(); source.IsValid() {
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
	byWire = r.Expected(byWire)
	for _, f := range a.families {
		a.lookAtOverlayRoutes(f, byOverlay, byWire)
		if r.Verb == "CHECK" { // asks for what its own configuration says: the rest is others', who may have moved nothing
			f.behind = nil
		}
	}
	if err := a.lookAtMain(r, byOverlay, byWire); err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	return nil
}

// lookAtOverlayRoutes finds what leaves by the overlay in main; and of the overlay's own routes the MTU, which may be less than
// the interface's, and the next hop, where the node itself is none. Ours are the static ones: the node's, and hijacks.
func (a *attachment) lookAtOverlayRoutes(f *family, byOverlay, byWire []*routing.Route) {
	o := &f.overlay
	for _, route := range byOverlay {
		if route.Dst.Addr().Is6() != f.V6 || route.InTable(underlay.TableReply) {
			continue
		}
		byHop := route.IsDefault() && !a.config.HostRoute || route.InMain() && route.Dst == routing.Single(f.Node())
		if byHop && !o.Gateway.IsValid() {
			o.Gateway = route.Via
		}
		if route.IsDefault() {
			o.MTU = max(o.MTU, route.PathMTU())
		} else if route.InMain() && route.HasGateway() && !route.Copied() {
			f.behind = append(f.behind, route.Dst)
		}
	}
	o.SetHijack(a.hijack(o, byOverlay), byWire)
}

// hijack is what is to leave by the overlay beside what an interface routes: but for what those who made the overlay's
// route by it already. Their routes stay as they are, and so do an interface's to the node.
func (a *attachment) hijack(f *underlay.Family, own []*routing.Route) []netip.Prefix {
	prefixes := slices.Clone(a.config.Hijack())
	for _, route := range own {
		if !route.InMain() || !route.Copied() {
			continue
		}
		if route.Dst.IsSingleIP() {
			f.Known = append(f.Known, route.Dst.Addr())
		}
		if route.Dev == a.overlay {
			prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return p == route.Dst })
		}
	}
	return prefixes
}

func (a *attachment) replies() firewall.Replies {
	r := replies(a.overlay.Name, a.has(false), a.has(true))
	r.There = len(a.others) > 0
	return r
}

func replies(overlay string, v4, v6 bool) firewall.Replies {
	return firewall.Replies{Owner: "router", By: overlay, Mark: underlay.MarkReply, IPv4: v4, IPv6: v6}
}
