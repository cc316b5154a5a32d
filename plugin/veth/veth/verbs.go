package veth

import (
	"net/netip"
	"slices"
	"strings"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// attach plans the attachment, for ADD and as CHECK compares it, and completes the result.
func attach(r *plugin.Request) (*plugin.Plan, error) {
	a, err := look(r)
	if err != nil {
		return nil, err
	}
	if a.wire.MAC != nil {
		r.SetMAC(a.wire.MAC.MAC)
	}
	if underlay.OnlyMAC(a.config) || len(a.families) == 0 {
		return a.plan(), nil
	}
	r.AppendInterfaces(a.interfaces(r.Netns)...)
	for _, f := range a.families {
		if f.Leaves {
			r.DropDefault(f.V6)
		}
	}
	return a.plan(), nil
}

// del plans the end of the attachment, from its three names alone, and in the pod while that is there. What the
// pod's other attachments use stays, and the pair with it.
func del(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = underlay.Decode(r, conflist.DecodeVeth) // for the log: a DEL works with any configuration
	p := new(plugin.Plan)
	attrs, err := find(r.Node, r.Attachment)
	if err != nil || attrs == nil {
		return p, err
	}
	u := userOf(r.Attachment)
	return p, leave(p, &end{Request: r, user: u, others: others(attrs, u), host: attrs})
}

// leave plans the end of one of the users of a host end.
func leave(p *plugin.Plan, e *end) error {
	e.hostEnd = e.Node.Link(e.host.Name)
	err := e.leavePod(p)
	if len(e.others) == 0 {
		p.Add(&routing.NoLink{Link: e.hostEnd, Owner: routing.Owner{Alias: e.host.Alias, Group: e.host.Group, MAC: e.host.MAC}})
		return err
	}
	p.AddAfter(&routing.NoAltName{AltName: &routing.AltName{Link: e.hostEnd, Name: e.user.altname()}}, p.Changes()...) // a DEL finds all by it
	return err
}

// gc plans the removal of what belongs to the network and to no valid attachment. Without a list only what is
// provably dead goes: a host end without a peer.
func gc(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = underlay.Decode(r, conflist.DecodeVeth) // for the log
	valid, listed, err := r.ValidAttachments()
	if err != nil {
		return nil, err
	}
	keep := make(map[user]bool)
	for _, a := range valid {
		keep[userOf(a)] = true
	}
	links, err := r.Node.Links(nil)
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
	config, err := underlay.Decode(r, conflist.DecodeVeth)
	if err != nil {
		return err
	}
	return underlay.Status(r.Node, config, func(fw firewall.Firewall, nodes []netip.Addr) error {
		return fw.ProbeServices(r.Node, services(r.Network, config, nodes))
	})
}
