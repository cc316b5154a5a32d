package inventory

import (
	"slices"
	"strings"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// takeLinks finds the host ends, by the form of their name and by what else they show: further names that stand for
// attachments, or a group that stands for a network of one of the plugins.
func (inv *Inventory) takeLinks(cached []*Cached) error {
	links, err := inv.Node.Links(func(l *routing.LinkAttrs) bool {
		return l.Kind == "veth" && (plugin.IsHostEnd(l.Name) || len(l.AltNames) > 0)
	})
	if err != nil {
		return err
	}
	inv.known = inv.allKnown(cached, links)
	groups := inv.groups()
	for _, l := range links {
		if inv.takeUses(l) || l.Group == 0 || !plugin.IsHostEnd(l.Name) {
			continue
		}
		is, ours := groups[l.Group]
		switch a, ok := named(l); {
		case !ours:
		case ok && is.Kind.Group(a.Network) == l.Group:
			inv.Attachments = append(inv.Attachments, inv.attachment(Attachment{Attachment: a, Kind: is.Kind}, l))
		default:
			inv.Strays = append(inv.Strays, inv.attachment(is, l))
		}
	}
	return nil
}

// takeUses takes the attachments that share a host end. Some of them may have made it.
func (inv *Inventory) takeUses(l *routing.LinkAttrs) (made bool) {
	for _, k := range inv.kinds {
		if k.Uses == nil || k.InPod == nil && !plugin.IsHostEnd(l.Name) {
			continue
		}
		for _, use := range k.Uses(l, inv.known) {
			made = made || k.InPod == nil
			inv.take(inv.attachment(Attachment{Attachment: use.Attachment, Kind: k, Use: use.Name}, l))
		}
	}
	return made
}

// take keeps an attachment that a further name stands for.
func (inv *Inventory) take(a *Attachment) {
	if a.Network == "" || a.ContainerID == "" {
		inv.Strays = append(inv.Strays, a)
	} else {
		inv.Attachments = append(inv.Attachments, a)
	}
}

// takePods asks the pods whose interface says that it is attached. Where the node has nothing for an attachment, its pod may
// be all that tells of it.
func (inv *Inventory) takePods() {
	for _, ns := range inv.namespaces.byID { // those that are connected with this node: others are another node's
		pod, err := inv.Node.Open(ns.path)
		if err != nil {
			continue // it has gone
		}
		if !pod.Same(inv.Node) {
			for _, k := range inv.kinds {
				inv.takePod(k, ns, pod)
			}
		}
		pod.Close()
	}
}

func (inv *Inventory) takePod(k *Kind, ns *namespace, pod *routing.Namespace) {
	if k.InPod == nil {
		return
	}
	links, err := pod.Links(func(l *routing.LinkAttrs) bool { return len(l.AltNames) > 0 })
	if err != nil {
		return // it has gone
	}
	for _, l := range links {
		for _, use := range k.InPod(l, inv.known) {
			known := false
			for _, a := range slices.Concat(inv.Attachments, inv.Strays) {
				if a.Kind == k && (a.Use == use.Name || k.HostEnd(a.Attachment) == use.Name) && inv.In(a, ns.path) {
					known, a.InPod, a.Use = true, true, use.Name
				}
			}
			if !known {
				inv.take(&Attachment{Attachment: use.Attachment, Kind: k, Use: use.Name, Netns: ns.path, Lives: ns.inhabited, InPod: true})
			}
		}
	}
}

// PodOf is the path of the network namespace that the other end of a link is in; "" if nobody has a name for it.
func (inv *Inventory) PodOf(l *routing.LinkAttrs) string {
	if ns := inv.namespaces.byID[l.NSID]; ns != nil && l.NSID >= 0 {
		return ns.path
	}
	return ""
}

// allKnown are the attachments, the networks and the containers that conflists, runtimes and aliases name.
func (inv *Inventory) allKnown(cached []*Cached, links []*routing.LinkAttrs) (all []plugin.Attachment) {
	for name := range inv.Networks {
		all = append(all, plugin.Attachment{Network: name})
	}
	for _, id := range inv.containers {
		all = append(all, plugin.Attachment{ContainerID: id})
	}
	for _, l := range links {
		if a, ok := named(l); ok {
			all = append(all, a)
		}
	}
	for _, c := range cached { // last: a runtime knows best
		all = append(all, c.Attachment)
	}
	return all
}

// groups are the networks and the plugins that a group may stand for.
func (inv *Inventory) groups() map[uint32]Attachment {
	groups := map[uint32]Attachment{}
	for _, a := range inv.known {
		for _, k := range inv.kinds {
			if k.Group != nil && a.Network != "" {
				groups[k.Group(a.Network)] = Attachment{Attachment: plugin.Attachment{Network: a.Network}, Kind: k}
			}
		}
	}
	return groups
}

// named is the attachment that the alias of a link names.
func named(l *routing.LinkAttrs) (a plugin.Attachment, ok bool) {
	parts := strings.Split(l.Alias, "/")
	if len(parts) != 3 {
		return a, false
	}
	return plugin.Attachment{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// attachment completes what is known of one by what its host end shows.
func (inv *Inventory) attachment(a Attachment, l *routing.LinkAttrs) *Attachment {
	a.Link = l
	if ns := inv.namespaces.byID[l.NSID]; ns != nil && l.NSID >= 0 {
		a.Netns, a.Lives = ns.path, ns.inhabited
	}
	return &a
}
