package router

import (
	"net/netip"
	"slices"

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
	r.AppendInterfaces() // none, but the addresses say which they are of
	for _, m := range a.moved {
		for _, f := range m.families {
			if m.link == a.wire.Link && f.Leaves {
				r.DropDefault(f.V6)
			}
		}
	}
	return a.plan(), nil
}

// del plans the end of the attachment: on the node from its three names alone, and in the pod while that is there.
func del(r *plugin.Request) (*plugin.Plan, error) {
	return DelUse(r, hostName(r.Attachment), nil)
}

// gc plans the removal of what belongs to the network and to no valid attachment. Without a list there is nothing to do:
// what is provably dead went with the overlay's interface.
func gc(r *plugin.Request) (*plugin.Plan, error) {
	_, _ = underlay.Decode(r, conflist.DecodeRouter) // for the log
	p := new(plugin.Plan)
	valid, listed, err := r.ValidAttachments()
	if err != nil || !listed {
		return p, err
	}
	var keep []string
	for _, a := range valid {
		keep = append(keep, hostName(a))
	}
	links, err := r.Node.Links(func(l *routing.LinkAttrs) bool { return len(l.AltNames) > 0 })
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		for _, name := range ofNetwork(l, r.Network) {
			if !slices.Contains(keep, name) {
				leaveNode(p, r.Node, l, name)
			}
		}
		for _, use := range InPod(l, []plugin.Attachment{{Network: r.Network}}) {
			if use.Network == r.Network && !slices.Contains(keep, use.Name) {
				p.Add(&routing.NoAltName{AltName: &routing.AltName{Link: r.Node.Link(l.Name), Name: podName(use.Name)}})
			}
		}
	}
	return p, nil
}

// status tells whether an ADD could succeed: the node has an address that pods can reach it by, and a firewall backend
// works.
func status(r *plugin.Request) error {
	config, err := underlay.Decode(r, conflist.DecodeRouter)
	if err != nil {
		return err
	}
	return underlay.Status(r.Node, config, func(fw firewall.Firewall, nodes []netip.Addr) error {
		return fw.ProbeReplies(replies(config.OverlayInterface, slices.ContainsFunc(nodes, netip.Addr.Is4), slices.ContainsFunc(nodes, netip.Addr.Is6)))
	})
}
