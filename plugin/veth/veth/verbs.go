package veth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// add plans the attachment and completes the result.
func add(r *plugin.Request) (*plugin.Plan, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	if a.mac != nil {
		r.SetMAC(a.mac.MAC)
	}
	if a.onlyMAC() || len(a.families) == 0 {
		return a.plan(), nil
	}
	r.AppendInterfaces(a.interfaces(r.Netns)...)
	for _, f := range a.families {
		if f.forsake {
			r.DropDefault(f.V6)
		}
	}
	return a.plan(), nil
}

// check plans the attachment as add did.
func check(r *plugin.Request) (*plugin.Plan, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	return a.plan(), nil
}

// del plans the end of the attachment, from its three names alone, and in the pod while that is there. What the
// pod's other attachments use stays, and the pair with it.
func del(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = decode(r) // for the log: a DEL works with any configuration
	p := new(plugin.Plan)
	attrs, err := find(r.Node, r.Attachment)
	if err != nil || attrs == nil {
		return p, err
	}
	hostEnd, me := r.Node.Link(attrs.Name), userOf(r.Attachment)
	last := len(others(attrs, me)) == 0
	err = leavePod(p, r, hostEnd, attrs.Index, last)
	if last {
		p.Add(&routing.NoLink{Link: hostEnd, Owner: routing.Owner{Alias: attrs.Alias, Group: attrs.Group, MAC: attrs.MAC}})
		return p, err
	}
	p.Add(&routing.NoAltName{AltName: &routing.AltName{Link: hostEnd, Name: me.altname()}})
	return p, err
}

// leavePod takes away what an attachment has in a pod that is still there, and the node's ways to its addresses.
func leavePod(p *plugin.Plan, r *plugin.Request, hostEnd *routing.Link, hostIndex int, last bool) error {
	if r.Pod == nil {
		return nil
	}
	eth, podEnd := r.Pod.Link(r.IfName), r.Pod.Link(podEnd)
	if end, err := podEnd.Attrs(); err == nil && end.Peer != hostIndex {
		return nil // the pod of another pair by now
	}
	live, err := r.Pod.Addresses(nil)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	index, err := eth.Index()
	if err != nil && !errors.Is(err, routing.ErrNoLink) {
		return fmt.Errorf("look at the pod: %w", err)
	}
	var mine, theirs []netip.Addr
	for _, a := range live {
		switch end, err := podEnd.Index(); {
		case a.Link == index:
			mine = append(mine, a.Prefix.Addr())
		case err != nil || a.Link != end:
			theirs = append(theirs, a.Prefix.Addr())
		}
	}
	tables, err := leaveRules(p, r.Pod, theirs, last)
	if err != nil || last {
		return err
	}
	return leaveRoutes(p, hostEnd, podEnd, mine, theirs, tables)
}

// leaveRules takes away the rules from addresses that are not another interface's, and tells the tables that they look
// up; with the last attachment those for answers go too.
func leaveRules(p *plugin.Plan, pod *routing.Namespace, theirs []netip.Addr, last bool) (tables []int, err error) {
	rules, err := pod.Froms(underlay.PrefFrom)
	if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	for _, rule := range rules {
		if !last && slices.Contains(theirs, rule.From.Addr()) {
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
		if last {
			p.Add(&routing.NoRule{Rule: &routing.Rule{
				NS: pod, V6: v6, Pref: underlay.PrefReply, Mark: underlay.MarkReply, Mask: underlay.MarkReply, Iif: "lo", Table: pod.Table(underlay.TableReply),
			}})
		}
	}
	return tables, nil
}

// leaveRoutes takes away the ways to and from an interface's addresses by a pair that stays: on the node those to it, in
// the pod those that have one of its addresses as their source, and those of its tables. mine are the interface's
// addresses, theirs those of others.
func leaveRoutes(p *plugin.Plan, hostEnd, podEnd *routing.Link, mine, theirs []netip.Addr, tables []int) error {
	for _, addr := range mine {
		p.Add(
			&routing.NoRoute{Route: &routing.Route{Table: hostEnd.NS.Table(routing.MainTable), Dst: underlay.Single(addr), Dev: hostEnd}},
			&routing.NoNeigh{Neigh: &routing.Neigh{Addr: addr, Dev: hostEnd}},
		)
	}
	routes, err := podEnd.NS.Routes(podEnd)
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, route := range routes {
		id, err := route.Table.ID()
		if err != nil {
			return err
		}
		v6 := route.Dst.Addr().Is6()
		unused := !slices.ContainsFunc(theirs, func(a netip.Addr) bool { return a.Is6() == v6 && !a.IsLoopback() && !a.IsLinkLocalUnicast() })
		if slices.Contains(tables, id) || unused || slices.Contains(mine, route.Src) {
			p.Add(&routing.NoRoute{Route: route})
		}
	}
	return nil
}

// gc plans the removal of what belongs to the network and to no valid attachment. Without a list only what is
// provably dead goes: a host end without a peer.
func gc(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = decode(r) // for the log
	valid, listed, err := r.ValidAttachments()
	if err != nil {
		return nil, err
	}
	keep := make(map[user]bool)
	for _, a := range valid {
		keep[userOf(a)] = true
	}
	links, err := r.Node.Links()
	if err != nil {
		return nil, err
	}
	p, network := new(plugin.Plan), userOf(r.Attachment).network
	for _, l := range links {
		gone := func(u user) bool { return u.network == network && (l.Peer == 0 || listed && !keep[u]) }
		all := users(l)
		left := slices.DeleteFunc(slices.Clone(all), gone)
		// The names are missing where an ADD was killed right after it had made the pair.
		killed := len(all) == 0 && l.Group == group(r.Network) && strings.HasPrefix(l.Name, plugin.HostEndPrefix) && (l.Peer == 0 || listed)
		host := r.Node.Link(l.Name)
		switch {
		case l.Kind != "veth":
		case killed || len(left) == 0 && len(all) > 0:
			p.Add(&routing.NoLink{Link: host, Owner: routing.Owner{Alias: l.Alias, Group: l.Group, MAC: l.MAC}})
		default:
			for _, u := range all {
				if gone(u) {
					p.Add(&routing.NoAltName{AltName: &routing.AltName{Link: host, Name: u.altname()}})
				}
			}
		}
	}
	return p, nil
}

// status tells whether an ADD could succeed: the node has an address that pods can reach it by, and a firewall backend
// works.
func status(r *plugin.Request) error {
	config, err := decode(r)
	if err != nil {
		return err
	}
	addrs, err := underlay.NodeAddresses(r.Node)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return plugin.Errorf(plugin.CodeNotReady, "the node has no address that a pod could reach it by")
	}
	fw, err := firewall.Open(string(config.Firewall))
	if err == nil {
		err = fw.Probe(r.Node)
	}
	if err != nil {
		return plugin.Errorf(plugin.CodeNotReady, "firewall: %w", err)
	}
	return nil
}
