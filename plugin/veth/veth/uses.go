package veth

import (
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Group is the interface group of a network's host ends.
func Group(network string) uint32 { return group(network) }

// HostEnd is the name of the host end that an attachment makes if its pod has none.
func HostEnd(a plugin.Attachment) string { return pairOf(a).hostEnd }

// Uses are the attachments that a link of the node says it has as a host end of this plugin; none if it is not one. The link
// tells the names of networks and containers only as numbers: they are looked for among those of known attachments.
func Uses(l *routing.LinkAttrs, known []plugin.Attachment) (uses []plugin.Use) {
	if l.Kind != "veth" {
		return nil
	}
	for _, u := range users(l) {
		use := plugin.Use{Attachment: plugin.Attachment{IfName: u.ifName}, Name: u.altname()}
		for _, k := range known {
			of := userOf(k)
			if k.ContainerID != "" && of.container == u.container {
				use.ContainerID = k.ContainerID
			}
			if k.Network != "" && of.network == u.network {
				use.Network = k.Network
			}
		}
		uses = append(uses, use)
	}
	return uses
}

// DelUse plans what DEL does for an attachment that only the further name of its host end need tell of. The uses in gone end
// before it; a host end that does not have the name, or is gone, is none of it any more.
func DelUse(r *plugin.Request, name string, gone []plugin.Use) (*plugin.Plan, error) {
	p := new(plugin.Plan)
	host, err := hostOf(r.Node, name)
	if err != nil || host == nil {
		return p, err
	}
	var of user
	var others []user
	for _, u := range users(host) {
		switch {
		case u.altname() == name:
			of = u
		case !slices.ContainsFunc(gone, func(other plugin.Use) bool { return other.Name == u.altname() }):
			others = append(others, u)
		}
	}
	return p, leave(p, &end{Request: r, user: of, others: others, host: host, stays: true})
}
