package veth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// An attachment is everything that the plan is computed from: the configuration, the result so far and what the
// kernel shows of the node and the pod.
type attachment struct {
	network string
	config  *conflist.Underlay
	user    user

	node, pod       *routing.Namespace
	hostEnd, podEnd *routing.Link // the veth pair
	hostMAC, podMAC net.HardwareAddr
	mtu             int
	owner           routing.Owner // of the host end
	first           bool          // this attachment makes the pair
	before          []string      // the pod's other interfaces that use it
	firewall        firewall.Firewall

	nodeAddrs []netip.Addr   // best first
	wire      *underlay.Wire // the pod's interface, its addresses and hardware address
	families  []*family      // those that the wire has
	own       *routing.Table // of a later interface
	rpFilter  underlay.RPFilter
}

// A family is what the plan needs in IPv4 or in IPv6.
type family struct {
	underlay.Family
	main  bool   // the main table's routes by veth0 are this interface's
	heirs []heir // who give main back
}

// A heir is another interface that has moved, and whose default routes are in main all the same: it has inherited them.
type heir struct {
	link *routing.Link
	underlay.Family
}

// has tells whether both sides have the family.
func (a *attachment) has(v6 bool) bool {
	return slices.ContainsFunc(a.served(), func(f *family) bool { return f.V6 == v6 })
}

// served are the families in which the node has ways to the interface, and back.
func (a *attachment) served() []*family { return underlay.Served(a.families) }

// look reads what the plan is computed from and changes nothing. All bad input ends here.
func look(r *plugin.Request) (*attachment, error) {
	config, err := underlay.Decode(r, conflist.DecodeVeth)
	if err != nil {
		return nil, err
	}
	if r.IfName == podEnd {
		return nil, &conflist.KeyError{Key: "CNI_IFNAME", Value: r.IfName, Problem: "it is the name of the pair's end in the pod", Accepted: "another name"}
	}
	p := pairOf(r.Attachment)
	a := &attachment{
		network: r.Network, config: config, user: userOf(r.Attachment), node: r.Node, pod: r.Pod, podEnd: r.Pod.Link(podEnd),
		hostEnd: r.Node.Link(p.hostEnd), hostMAC: p.hostMAC, podMAC: p.podMAC, owner: p.owner(), first: true,
	}
	if a.wire, err = underlay.LookAtWire(r, config); err != nil || underlay.OnlyMAC(config) {
		return a, err
	}
	for _, look := range []func(*plugin.Request) error{a.lookAtPair, a.lookAtNode, a.lookAtRoutes} {
		if err := look(r); err != nil {
			return nil, err
		}
	}
	if a.firewall, err = firewall.Open(string(config.Firewall)); err != nil {
		return nil, plugin.Errorf(plugin.CodeFirewall, "firewall: %w", err)
	}
	return a, nil
}

// lookAtPair finds the pair that the pod has from an earlier attachment, or makes sure that the name of its end is
// free.
func (a *attachment) lookAtPair(r *plugin.Request) error {
	eth, err := a.wire.Link.Attrs()
	if err != nil {
		return err
	}
	a.mtu = eth.MTU
	end, err := a.podEnd.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	foreign := plugin.Errorf(plugin.CodeVeth, "%s: the pod has an interface of that name (index %d, address %s) that is not ours; accepted: a pod without one",
		podEnd, end.Index, end.MAC)
	if end.Kind != "veth" {
		return foreign
	}
	host, err := a.node.LinkAt(end.Peer)
	made := pair{hostEnd: a.hostEnd.Name, hostMAC: a.owner.MAC, group: a.owner.Group, alias: a.owner.Alias}
	switch {
	case errors.Is(err, routing.ErrNoLink):
		return foreign
	case err != nil:
		return err
	}
	if pair, err := routing.Pair(host, a.node, end, a.pod); err != nil {
		return err
	} else if !pair || !made.ours(host) {
		return foreign
	}
	for _, u := range others(host, a.user) {
		a.before = append(a.before, u.ifName)
	}
	a.first = host.Alias == a.owner.Alias || !isOwner(host.Alias) && !slices.ContainsFunc(a.before, func(other string) bool {
		return underlay.Before(other, a.wire.Link.Name)
	})
	// A pair of another MTU would be made anew, and that of other users goes with it. CHECK does not mind that a later
	// plugin has given the pod's interface another.
	if len(a.before) > 0 || r.Verb == "CHECK" && host.MTU == end.MTU {
		a.mtu = host.MTU
	}
	if !a.first {
		a.owner = routing.Owner{Alias: host.Alias, Group: host.Group, MAC: host.MAC}
		a.hostEnd, a.hostMAC, a.podMAC, a.mtu = a.node.Link(host.Name), host.MAC, podMAC(r.Attachment, host, end), host.MTU
	}
	return nil
}

// lookAtNode reads the node's addresses, and sorts those of both sides by family. One that the node does not have stays, for
// the routes of the wire.
func (a *attachment) lookAtNode(r *plugin.Request) (err error) {
	if a.nodeAddrs, err = underlay.NodeAddresses(a.node); err != nil {
		return fmt.Errorf("look at the node: %w", err)
	}
	for _, v6 := range []bool{false, true} {
		f := &family{Family: underlay.Of(v6, a.wire)}
		if len(f.Pods) == 0 {
			continue
		}
		if err := r.Free(a.hostEnd, f.Given); err != nil {
			return err
		}
		if len(f.Given) > 0 {
			if f.Nodes, err = underlay.NodesFor(a.node, a.nodeAddrs, f.Source()); err != nil {
				return fmt.Errorf("look at the node: %w", err)
			}
		}
		f.TellMissing(r)
		a.families = append(a.families, f)
	}
	switch {
	case !a.first:
	case len(a.families) == 0:
		return underlay.ErrNoAddress(a.wire.Link.Name)
	case len(a.nodeAddrs) == 0 && len(a.served()) == 0:
		return underlay.ErrNoNode()
	}
	if a.first && a.has(true) && a.mtu < minIPv6MTU {
		return plugin.Errorf(plugin.CodeConfig, "prevResult.interfaces: %s has an IPv6 address and an MTU of %d; accepted: %d or more", a.wire.Link.Name, a.mtu, minIPv6MTU)
	}
	a.rpFilter, err = underlay.LookAtRPFilter(a.node, a.config.RPFilter)
	return err
}

// minIPv6MTU is what IPv6 needs of every link (RFC 8200).
const minIPv6MTU = 1280

// lookAtRoutes tells which routes the pod's tables get, and which leave the main one.
func (a *attachment) lookAtRoutes(r *plugin.Request) error {
	routes, err := a.pod.Routes(a.wire.Link)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	routes = r.Expected(routes)
	if !a.first {
		if a.own, err = underlay.OwnTable(a.pod, a.config.RouteTableStart, a.wire.Link, a.podEnd, a.all()); err != nil {
			return fmt.Errorf("look at the pod: %w", err)
		}
	}
	index, err := a.wire.Link.Index()
	if err != nil {
		return err
	}
	for _, f := range a.families {
		f.SetHijack(a.config.Hijack(), routes)
		if f.main, err = a.ownsMain(f); err != nil {
			return err
		}
		if !a.moves() && r.Verb != "CHECK" { // that of the heir tells
			if f.heirs, err = a.heirs(f.V6, routes); err != nil {
				return fmt.Errorf("look at the pod: %w", err)
			}
		}
		if a.first {
			continue
		}
		if err := f.Sort(routes, a.own, a.wire.Link, r.Gateway(f.V6)); err != nil {
			return err
		}
		// Without another default route the interface's own is all that the pod has in the family.
		other, err := a.pod.HasDefault(f.V6, index)
		if err != nil {
			return fmt.Errorf("look at the pod: %w", err)
		}
		// It may have inherited main since its ADD, whatever migrate_route says: CHECK cannot tell.
		f.Leaves = a.moves() && (other || a.config.MigrateRoute == conflist.MigrateAlways && r.Verb != "CHECK")
		switch {
		case f.Leaves && !f.HasDefault():
			f.Deafen(r, a.wire.Link)
		case f.V6 && !f.Leaves && !other && f.HasDefault():
			moved, err := a.moved(true)
			if err != nil {
				return fmt.Errorf("look at the pod: %w", err)
			}
			f.Deafen(r, moved...)
		}
	}
	return nil
}

// heirs are those of one family, where the interface itself has a default route in main: it is back, or comes before them.
func (a *attachment) heirs(v6 bool, own []*routing.Route) (all []heir, err error) {
	if len(underlay.MainDefaults(own, v6)) == 0 {
		return nil, nil
	}
	moved, err := a.moved(v6)
	if err != nil {
		return nil, err
	}
	for _, link := range moved {
		routes, err := a.pod.Routes(link)
		if err != nil {
			return nil, err
		}
		if routes = underlay.MainDefaults(routes, v6); len(routes) > 0 {
			all = append(all, heir{link, underlay.Family{V6: v6, Routes: routes, Main: routes, Leaves: true}})
		}
	}
	return all, nil
}

// moved are the interfaces that have moved before, in one family.
func (a *attachment) moved(v6 bool) (links []*routing.Link, err error) {
	rules, err := a.pod.Froms(underlay.PrefFrom)
	if err != nil {
		return nil, err
	}
	for _, name := range a.before {
		link := a.pod.Link(name)
		addrs, err := a.pod.UsableAddresses(link)
		if errors.Is(err, routing.ErrNoLink) {
			continue
		}
		if err != nil {
			return nil, err
		}
		own := underlay.OfFamily(v6, addrs)
		if slices.ContainsFunc(rules, func(rule *routing.Rule) bool { return slices.Contains(own, rule.From.Addr()) }) {
			links = append(links, link)
		}
	}
	return links, nil
}

// all are the addresses of the pod's interface in the families that the plan has.
func (a *attachment) all() (addrs []netip.Addr) {
	for _, f := range a.families {
		addrs = append(addrs, f.Pods...)
	}
	return addrs
}

// moves reports whether the routes of a later interface move to its own table: by name, where it is not the first of them.
func (a *attachment) moves() bool {
	switch a.config.MigrateRoute {
	case conflist.MigrateNever:
		return false
	case conflist.MigrateAlways:
		return !a.first
	default:
		return !a.first && slices.ContainsFunc(a.before, func(other string) bool { return underlay.Before(other, a.wire.Link.Name) })
	}
}

// ownsMain tells whether the main table's routes by veth0 are to be this interface's: those of the first interface that
// has the family, and has not gone since.
func (a *attachment) ownsMain(f *family) (bool, error) {
	if a.first {
		return true, nil
	}
	routes, err := a.pod.Routes(a.podEnd)
	if err != nil {
		return false, fmt.Errorf("look at the pod: %w", err)
	}
	return !slices.ContainsFunc(routes, func(r *routing.Route) bool {
		return r.InMain() && r.Dst.Addr().Is6() == f.V6 && r.Src.IsValid() && !slices.Contains(f.Pods, r.Src)
	}), nil
}

// services describes the network's firewall rules on the node, whatever families this pod has.
func services(network string, config *conflist.Underlay, nodes []netip.Addr) firewall.Services {
	s := firewall.Services{Owner: "veth", Network: network, Group: group(network), CIDRs: config.Service, SpoofCheck: config.SpoofCheck}
	for _, addr := range slices.Backward(nodes) { // the first of each family stays
		if addr.Is4() {
			s.Addr4 = addr
		} else {
			s.Addr6 = addr
		}
	}
	return s
}

func (a *attachment) replies() firewall.Replies {
	return firewall.Replies{
		Owner: "veth", By: podEnd, Mark: underlay.MarkReply, IPv4: a.has(false), IPv6: a.has(true),
		There: !a.first,
	}
}

// interfaces are both ends as the result lists them, host end first.
func (a *attachment) interfaces(netns string) []*types100.Interface {
	return []*types100.Interface{
		{Name: a.hostEnd.Name, Mac: a.hostMAC.String(), Mtu: a.mtu},
		{Name: a.podEnd.Name, Mac: a.podMAC.String(), Mtu: a.mtu, Sandbox: netns},
	}
}
