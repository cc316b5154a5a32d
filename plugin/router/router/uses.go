package router

import (
	"errors"
	"strings"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// HostEnd is a name of the overlay's interface on the node while an attachment uses it: a further one, by which it can be
// found as by its own.
func HostEnd(a plugin.Attachment) string { return hostName(a) }

// InPod tells whether an interface of a pod says that it is attached.
func InPod(l *routing.LinkAttrs) bool { return attached(l) }

// Uses are the attachments that a link of the node says it serves; none if it is no overlay's. The link tells the names of
// networks and containers only as numbers: they are looked for among those of known attachments.
func Uses(l *routing.LinkAttrs, known []plugin.Attachment) (uses []plugin.Use) {
	for _, name := range l.AltNames {
		of, ifName, ok := keyOf(name)
		if !ok {
			continue
		}
		use := plugin.Use{Attachment: plugin.Attachment{IfName: ifName}, Name: name}
		for _, k := range known {
			if k.Network != "" && strings.HasPrefix(of, group(k.Network)) {
				use.Network = k.Network
			}
		}
		for _, k := range known {
			a := plugin.Attachment{Network: use.Network, ContainerID: k.ContainerID, IfName: ifName}
			if use.Network != "" && k.ContainerID != "" && key(a) == of {
				use.ContainerID = k.ContainerID
			}
		}
		uses = append(uses, use)
	}
	return uses
}

// keyOf takes a further name that stands for an attachment apart: its key, and its interface.
func keyOf(name string) (of, ifName string, ok bool) {
	rest, ours := strings.CutPrefix(name, ofAttachment)
	parts := strings.SplitAfterN(rest, ".", 3)
	if !ours || len(parts) != 3 || len(parts[0]) != len("01234567.") || len(parts[1]) != len("01234567.") {
		return "", "", false
	}
	return parts[0] + parts[1], parts[2], true
}

// DelUse plans what DEL does for an attachment that only a further name on the node need tell of; "" if the node has nothing
// for it. Those of the same pod that end before it are gone by then.
func DelUse(r *plugin.Request, name string, gone []plugin.Use) (*plugin.Plan, error) {
	p := new(plugin.Plan)
	var before []string
	for _, other := range gone {
		before = append(before, other.IfName)
	}
	err := leavePod(r, p, before...)
	if name == "" {
		return p, err
	}
	peer, lost := r.Node.LinkNamed(name)
	switch {
	case errors.Is(lost, routing.ErrNoLink): // and its routes with it
	case lost != nil:
		err = errors.Join(err, lost)
	default:
		leaveNode(p, r.Node, peer, name)
	}
	return p, err
}
