package vethhost

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

// del plans the end of the attachment, from its three names alone, and in the pod while that is there. A host end
// of the name that is not ours is none: then there is nothing of ours to delete.
func del(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = decode(r) // for the log: a DEL works with any configuration
	hostEnd, p := r.Node.Link(r.HostEnd()), new(plugin.Plan)
	attrs, err := hostEnd.Attrs()
	switch {
	case errors.Is(err, routing.ErrNoLink):
	case err != nil:
		return p, err
	case !r.Owner().Owns(attrs):
		return p, nil
	}
	pod, routes, err := inPod(r, hostEnd)
	leave(p, hostEnd, r.Owner(), pod, routes)
	return p, err
}

// inPod is the pod, and the routes of its underlay table, unless there is none any more or it has an attachment
// of veth-host that is not this one.
func inPod(r *plugin.Request, hostEnd *routing.Link) (*routing.Namespace, []*routing.Route, error) {
	if r.Pod == nil {
		return nil, nil, nil
	}
	other, err := otherAttachment(r.Pod, hostEnd)
	if err != nil || other != "" {
		return nil, nil, err
	}
	routes, err := r.Pod.Routes(r.Pod.Link(r.IfName), tableUnderlay)
	if err != nil && !errors.Is(err, routing.ErrNoLink) { // without the interface its routes are gone
		return nil, nil, fmt.Errorf("look at the pod: %w", err)
	}
	return r.Pod, routes, nil
}

// otherAttachment names the pod's end of another attachment of veth-host in the pod: one that a rule of ours
// names and whose peer is not this host end. It is empty if there is none.
func otherAttachment(pod *routing.Namespace, hostEnd *routing.Link) (string, error) {
	names, err := pod.Iifs(prefPod)
	if err != nil {
		return "", fmt.Errorf("look at the pod: %w", err)
	}
	for _, name := range names {
		end, err := pod.Link(name).Attrs()
		if errors.Is(err, routing.ErrNoLink) {
			continue // a rule that has outlived its interface
		}
		if err != nil {
			return "", fmt.Errorf("look at the pod: %w", err)
		}
		index, err := hostEnd.Index()
		if err != nil && !errors.Is(err, routing.ErrNoLink) {
			return "", err
		}
		if index != end.Peer {
			return name, nil
		}
	}
	return "", nil
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
			leave(p, r.Node.Link(l.Name), routing.Owner{Alias: l.Alias, Group: l.Group, MAC: l.MAC}, nil, nil)
		}
	}
	names, err := r.Node.Iifs(prefPod)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, plugin.HostEndPrefix) {
			continue
		}
		if _, err := r.Node.Link(name).Index(); errors.Is(err, routing.ErrNoLink) {
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
	a := &attachment{network: r.Network, config: config, owner: r.Owner(), hostName: attrs.Name}
	for _, addr := range addrs {
		a.nodeAddrs = append(a.nodeAddrs, addr.Prefix.Addr())
	}
	fw, err := firewall.Open(string(config.Firewall))
	if err == nil {
		err = fw.Probe(r.Node, a.nodeRules())
	}
	if err != nil {
		return plugin.Errorf(plugin.CodeNotReady, "firewall: %w", err)
	}
	return nil
}
