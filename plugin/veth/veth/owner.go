package veth

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/routing"
)

// podEnd is the name of the pair's end in the pod.
const podEnd = "veth0"

// A pair is the veth pair of a pod, as an attachment makes it if the pod has none, out of the container's id alone.
type pair struct {
	hostEnd         string
	hostMAC, podMAC net.HardwareAddr
	alias           string
	group           uint32 // stands for the network, in the firewall
}

func pairOf(a plugin.Attachment) pair {
	p := plugin.Attachment{Network: "veth", ContainerID: a.ContainerID} // of no interface: veth-host's always have one
	host, pod := p.MACs()
	return pair{hostEnd: p.HostEnd(), hostMAC: host, podMAC: pod, alias: a.Owner().Alias, group: group(a.Network)}
}

// group is the interface group of a network's host ends; veth-host may have a network of the same name.
func group(network string) uint32 { return plugin.Group("veth\x00" + network) }

func (p pair) owner() routing.Owner {
	return routing.Owner{Alias: p.alias, Group: p.group, MAC: p.hostMAC}
}

// podMAC is the hardware address that the pair's end in the pod was given, whatever it has now: out of the id of the container that
// made the pair, this attachment's or the one in the alias. Where neither tells, since the runtime calls the pod's later
// attachments by another id and an operator has written an alias of his own, it is the one that the end has: of a pod that lies
// about it, nobody else's packets are lost.
func podMAC(a plugin.Attachment, host, end *routing.LinkAttrs) net.HardwareAddr {
	ids := []string{a.ContainerID}
	if parts := strings.Split(host.Alias, "/"); len(parts) == 3 {
		ids = append(ids, parts[1])
	}
	for _, id := range ids {
		if p := pairOf(plugin.Attachment{ContainerID: id}); p.hostEnd == host.Name && bytes.Equal(p.hostMAC, host.MAC) {
			return p.podMAC
		}
	}
	return end.MAC
}

// isOwner reports whether an alias is one that an attachment has written, whole or cut to the kernel's length. Where it is
// not, it is an operator's own, and does not say who made the pair: the first by its name, then.
func isOwner(alias string) bool { return strings.Count(alias, "/") == 2 || len(alias) == 255 }

// A user is one attachment that uses a pair. Each has a further name of the host end, by which its DEL finds the pair
// without the pod, even where the runtime gives a pod's later attachment another container id; and the pair goes with
// the last of these names.
type user struct {
	container string // the host end that the container's id makes
	network   string // the network's group, in hexadecimal
	ifName    string
}

func userOf(a plugin.Attachment) user {
	return user{pairOf(a).hostEnd, fmt.Sprintf("%08x", group(a.Network)), a.IfName}
}

func (u user) altname() string { return u.container + "." + u.network + "." + u.ifName }

// users are the attachments that the further names of a host end tell.
func users(l *routing.LinkAttrs) (all []user) {
	for _, name := range l.AltNames {
		if underlay.IsUse(name) {
			parts := strings.SplitN(name, ".", 3)
			all = append(all, user{parts[0], parts[1], parts[2]})
		}
	}
	return all
}

// others are the users but for one.
func others(l *routing.LinkAttrs, but user) []user {
	return slices.DeleteFunc(users(l), func(u user) bool { return u == but })
}

// ours tells whether a link of the node is a host end of this plugin: it has users, or it was made for this
// container by an ADD that was killed before it could say so.
func (p pair) ours(l *routing.LinkAttrs) bool {
	return l.Kind == "veth" && (len(users(l)) > 0 || l.Name == p.hostEnd && p.owner().Owns(l))
}

// find finds the host end of the pair that an attachment uses: by the attachment's own name of it, or by the name
// that the container's id makes. It is nil if there is none, or if it is not ours.
func find(node *routing.Namespace, a plugin.Attachment) (*routing.LinkAttrs, error) {
	p := pairOf(a)
	l, err := hostOf(node, userOf(a).altname())
	if l == nil && err == nil {
		l, err = noneIfGone(node.Link(p.hostEnd).Attrs())
	}
	if err != nil || l == nil || !p.ours(l) {
		return nil, err
	}
	return l, nil
}

// hostOf is the link that has a further name, nil if there is none.
func hostOf(node *routing.Namespace, altname string) (*routing.LinkAttrs, error) {
	return noneIfGone(node.LinkNamed(altname))
}

func noneIfGone(l *routing.LinkAttrs, err error) (*routing.LinkAttrs, error) {
	if errors.Is(err, routing.ErrNoLink) {
		return nil, nil
	}
	return l, err
}
