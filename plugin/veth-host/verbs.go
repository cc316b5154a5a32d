package main

import (
	"errors"
	"fmt"
	"strings"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// add plans the attachment and completes the result.
func add(r *plugin.Request) (*plugin.Plan, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	r.AppendInterfaces(a.interfaces(r.Netns)...)
	for _, f := range a.families {
		r.SetDefault(f.node())
	}
	p := a.plan()
	p.Then(func() error { return a.pod.Announce(a.eth, a.podAddrs) })
	return p, nil
}

// check plans the attachment as add did.
func check(r *plugin.Request) (*plugin.Plan, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	if err := a.podTable.Find(prefPod); err != nil {
		return nil, err
	}
	return a.plan(), nil
}

// del plans the removal of what the ADD left on the node, from the attachment alone, and in the pod while
// that is there. What is quick comes before the link, whose deletion takes the kernel's routing lock.
//
// The pod's firewall rules stay: they name nothing but the pod's own interfaces, the next ADD in the same pod
// finds them, and deleting them would take another RCU grace period of a pod that is going as a rule.
func del(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = decode(r) // for the log: a DEL works with any configuration
	p := new(plugin.Plan)
	var err error
	if r.Pod != nil {
		err = leave(p, r.Pod, r.Pod.Link(r.IfName))
	}
	remove(p, r.Node, r.HostEnd(), r.Owner())
	return p, err
}

// remove plans the end of one host end: the rules by its name, then the pair, which takes the routes, the
// table and the neighbours along.
func remove(p *plugin.Plan, node *routing.Namespace, hostEnd string, owner routing.Owner) {
	p.Add(
		&routing.NoIif{NS: node, Pref: prefPod, Iif: hostEnd},
		&routing.NoLink{Link: node.Link(hostEnd), Owner: owner},
	)
}

// leave plans the end of what is in the pod beside the veth pair: the interface gets its default routes
// back, and the rules and the underlay table go.
func leave(p *plugin.Plan, pod *routing.Namespace, eth *routing.Link) error {
	routes, err := pod.Routes(eth)
	if err != nil && !errors.Is(err, routing.ErrNoLink) { // without the interface its routes are gone
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, r := range routes {
		if r.InTable(tableUnderlay) && r.IsDefault() {
			p.Add(r.In(pod.Table(routing.MainTable)))
		}
	}
	for _, r := range routes {
		if r.InTable(tableUnderlay) {
			p.Add(&routing.NoRoute{Route: r})
		}
	}
	for _, v6 := range []bool{false, true} {
		for _, rule := range []struct{ pref, table int }{
			{prefMark, tableUnderlay},
			{prefNode, tableNode},
			{prefPod, tableUnderlay},
			{prefWireMain, routing.MainTable},
			{prefWireNode, routing.MainTable},
			{prefWire, tableUnderlay},
		} {
			p.Add(&routing.NoRule{Rule: &routing.Rule{NS: pod, V6: v6, Pref: rule.pref, Table: pod.Table(rule.table)}})
		}
	}
	return nil
}

// gc plans the removal of what belongs to the network and to no valid attachment. Without a list only
// what is provably dead goes: a host end without a peer, a rule whose interface is gone.
func gc(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = decode(r) // for the log
	valid, listed, err := r.ValidAttachments()
	if err != nil {
		return nil, err
	}
	keep := make(map[string]bool)
	for _, a := range valid {
		keep[a.HostEnd()] = true
	}
	links, err := r.Node.InGroup(plugin.Group(r.Network))
	if err != nil {
		return nil, err
	}
	p := new(plugin.Plan)
	for _, l := range links {
		// The alias is missing where an ADD was killed right after it had made the pair.
		ours := strings.HasPrefix(l.Name, plugin.HostEndPrefix) && (l.Alias == "" || strings.HasPrefix(l.Alias, r.Network+"/"))
		dead := l.Peer == 0
		if ours && (dead || listed && !keep[l.Name]) {
			remove(p, r.Node, l.Name, routing.Owner{Alias: l.Alias, Group: l.Group})
		}
	}
	detached, err := r.Node.DetachedIifs(prefPod)
	if err != nil {
		return nil, err
	}
	for _, name := range detached {
		if strings.HasPrefix(name, plugin.HostEndPrefix) {
			p.Add(&routing.NoIif{NS: r.Node, Pref: prefPod, Iif: name})
		}
	}
	return p, nil
}

// status tells whether an ADD could succeed: hostInterface is there, up and has an address, and a firewall
// backend works.
func status(r *plugin.Request) error {
	config, err := decode(r)
	if err != nil {
		return err
	}
	notReady := func(why string) error {
		return plugin.Errorf(plugin.CodeNotReady, "hostInterface: %s: %s", config.HostInterface, why)
	}
	link := r.Node.Link(config.HostInterface)
	attrs, err := link.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return notReady("the node has no such interface")
	}
	if err != nil {
		return err
	}
	if !attrs.Up {
		return notReady("the interface is down")
	}
	addrs, err := r.Node.UsableAddresses(link)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return notReady("the interface has no address")
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
