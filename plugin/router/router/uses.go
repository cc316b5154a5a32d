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

// InPod are the attachments that an interface of a pod says it has, by the names that they have on the node.
func InPod(l *routing.LinkAttrs, known []plugin.Attachment) []plugin.Use {
	names := podNames(l)
	for i, name := range names {
		names[i] = hostNameOf(name)
	}
	return usesOf(names, known)
}

// Uses are the attachments that a link of the node says it serves; none if it is no overlay's.
func Uses(l *routing.LinkAttrs, known []plugin.Attachment) []plugin.Use {
	return usesOf(l.AltNames, known)
}

// usesOf are those that further names stand for, which tell the names of networks and containers only as numbers: they are
// looked for among those of known attachments.
func usesOf(names []string, known []plugin.Attachment) (uses []plugin.Use) {
	for _, name := range names {
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

// DelUse plans what DEL does for an attachment that only its further name on the node need tell of, whether that is there or
// not. Those of the same pod that end before it are gone by then.
func DelUse(r *plugin.Request, name string, gone []plugin.Use) (*plugin.Plan, error) {
	p := new(plugin.Plan)
	var before []string
	for _, other := range gone {
		before = append(before, podName(other.Name))
	}
	err := errors.Join(leavePod(r, p, podName(name), before...), leaveVF(p, r.Node, podName(name)))
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
