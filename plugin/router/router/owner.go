package router

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// What says whose the node's routes are. The rule and the table are shared, and a route has no room for a name: a metric
// of its own would keep it from replacing a stale one, realms are IPv4's only, and the protocol has eight bits. But
// all of an attachment's routes and neighbours leave by the overlay's interface on the node, the peer of the pod's; and
// when that goes, so do they. So the peer's further names tell: one for the attachment, found without the pod, and one
// for each of its routes. Without host_route the node has nothing, and the overlay's interface in the pod has the first one.
const (
	ofAttachment = "router."     // router.16bc4837.5d0f2e6d.net1
	inPod        = "router.pod." // router.pod.16bc4837.5d0f2e6d.net1
	ofRoute      = plugin.OfRoute
)

// group is how a network is named in a further name.
func group(network string) string {
	return fmt.Sprintf("%08x.", plugin.Group("router\x00"+network))
}

// key names an attachment: its network, and all of it.
func key(a plugin.Attachment) string {
	return group(a.Network) + strings.TrimPrefix(a.HostEnd(), plugin.HostEndPrefix) + "."
}

// hostName is the further name of the peer on the node that stands for an attachment.
func hostName(a plugin.Attachment) string { return ofAttachment + key(a) + a.IfName }

// podName is the further name of the pod's interface that stands for an attachment, by that of the peer. Whoever renames the
// interface, as KubeVirt does, leaves it its further names. A VF brings them back to the node when its pod dies: so no other
// interface has the same one, not even the peer. Kernels before "net: fix removing a namespace with conflicting altnames" (6.8)
// would stop there with a BUG.
func podName(hostName string) string { return inPod + strings.TrimPrefix(hostName, ofAttachment) }

// hostNameOf is the reverse.
func hostNameOf(podName string) string { return ofAttachment + strings.TrimPrefix(podName, inPod) }

// podNames are those of an interface. It has several if an earlier pod has left it one.
func podNames(l *routing.LinkAttrs) []string {
	return slices.DeleteFunc(slices.Clone(l.AltNames), func(name string) bool { return !strings.HasPrefix(name, inPod) })
}

// attached reports whether an interface of the pod says that it is attached, under whatever name.
func attached(l *routing.LinkAttrs) bool { return len(podNames(l)) > 0 }

// backed reports whether an interface that says it is attached is so in this pod: a VF may have its name from an earlier one. The
// overlay's interface has the attachment's other name, at its end on the node or, without host_route, in the pod.
func backed(node, pod *routing.Namespace, links []*routing.LinkAttrs, l *routing.LinkAttrs) (bool, error) {
	for _, name := range podNames(l) {
		if named(links, hostNameOf(name)) != nil {
			return true, nil
		}
		peer, err := node.LinkNamed(hostNameOf(name))
		if errors.Is(err, routing.ErrNoLink) {
			continue
		}
		if err != nil {
			return false, err
		}
		for _, l := range links {
			if pair, err := routing.Pair(peer, node, l, pod); pair || err != nil {
				return pair, err
			}
		}
	}
	return false, nil
}

// named is the one of some interfaces that has a further name, nil if none has.
func named(links []*routing.LinkAttrs, altname string) *routing.LinkAttrs {
	at := slices.IndexFunc(links, func(l *routing.LinkAttrs) bool { return slices.Contains(l.AltNames, altname) })
	if at < 0 {
		return nil
	}
	return links[at]
}

// routeName is the further name for a route to an address.
func routeName(a plugin.Attachment, table int, addr netip.Addr) string {
	return fmt.Sprint(ofRoute, key(a), table, ".", plugin.InAltName(addr))
}

// A claim is a route of an attachment, as its further name tells.
type claim struct {
	name  string
	table int
	addr  netip.Addr
}

// claims are the routes whose names begin with a key.
func claims(l *routing.LinkAttrs, key string) (all []claim) {
	for _, name := range l.AltNames {
		rest, ours := strings.CutPrefix(name, ofRoute+key)
		table, text, _ := strings.Cut(rest, ".")
		id, err := strconv.Atoi(table)
		addr, bad := netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
		if ours && err == nil && bad == nil {
			all = append(all, claim{name, id, addr})
		}
	}
	return all
}

// end takes away what a claim stands for, and then the claim.
func (c claim) end(peer *routing.Link) []plugin.Change {
	return []plugin.Change{
		&routing.NoRoute{Route: hostRoute(peer.NS, c.table, c.addr, peer)},
		&routing.NoNeigh{Neigh: &routing.Neigh{Addr: c.addr, Dev: peer}},
		&routing.NoAltName{AltName: &routing.AltName{Link: peer, Name: c.name}},
	}
}

// leaveNode takes away what an attachment has on the node, by the peer that has its names; each name goes when what a DEL
// finds by it has gone.
func leaveNode(p *plugin.Plan, node *routing.Namespace, l *routing.LinkAttrs, name string) {
	peer := node.Link(l.Name)
	parts := strings.SplitAfterN(strings.TrimPrefix(name, ofAttachment), ".", 3)
	var names []plugin.Change
	for _, c := range claims(l, parts[0]+parts[1]) {
		changes := c.end(peer)
		before, itsName := changes[:len(changes)-1], changes[len(changes)-1]
		p.Add(before...)
		p.AddAfter(itsName, before...)
		names = append(names, itsName)
	}
	p.AddAfter(&routing.NoAltName{AltName: &routing.AltName{Link: peer, Name: name}}, names...)
}

// ofNetwork are the further names of a link that stand for a network's attachments.
func ofNetwork(l *routing.LinkAttrs, network string) []string {
	return slices.DeleteFunc(slices.Clone(l.AltNames), func(name string) bool {
		return !strings.HasPrefix(name, ofAttachment+group(network)) || strings.Count(name, ".") < 3
	})
}

// leaveVF takes the name of an attachment off an interface that has come back to the node from a pod that has died.
func leaveVF(p *plugin.Plan, node *routing.Namespace, name string) error {
	vf, err := node.LinkNamed(name)
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err == nil {
		p.Add(&routing.NoAltName{AltName: &routing.AltName{Link: node.Link(vf.Name), Name: name}})
	}
	return err
}
