package underlay

import (
	"errors"
	"net/netip"
	"path"
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// containerSide are the names of the node's interfaces that are not for others to reach it by: those of pods and of
// what connects them. Each pattern is for the whole name.
var containerSide = []string{
	"veth*", "tap*", "cali*", "lxc*", "cni*", "docker*", "br-*", "kube-ipvs*", "flannel*", "tunl*", "vxlan.calico",
}

// NodeAddresses are the addresses that a pod reaches its node by, those first that serve best as a source: every global
// address of every interface that is up and is not on the side of containers. Of the loopback interface, and of others
// that have them for everybody, the node-local ones of 169.254.0.0/16 are among them (node-local DNS). The kernel is
// asked once for each family, and for the names of the interfaces that have such an address.
func NodeAddresses(node *routing.Namespace) ([]netip.Addr, error) {
	all, err := node.Addresses(nil)
	if err != nil {
		return nil, err
	}
	var reach, local []routing.Address
	for _, a := range all {
		ip := a.Prefix.Addr()
		switch {
		case a.Usable():
			reach = append(reach, a)
		case ip.Is4() && ip.IsLinkLocalUnicast() && (a.Scope == scopeGlobal || a.Link == loopback):
			local = append(local, a)
		}
	}
	usable := append(routing.Usable(reach), local...)
	facing, err := facing(node, usable)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range usable {
		if ip := a.Prefix.Addr(); facing[a.Link] && !slices.Contains(addrs, ip) {
			addrs = append(addrs, ip)
		}
	}
	return addrs, nil
}

const (
	scopeGlobal = 0 // RT_SCOPE_UNIVERSE
	loopback    = 1 // the index of lo in every network namespace
)

// many is how many interfaces are cheaper to list than to ask for one by one.
const many = 32

// facing tells which interfaces of some addresses are up and for others to reach the node by, by index.
func facing(node *routing.Namespace, addrs []routing.Address) (map[int]bool, error) {
	indexes := make(map[int]bool)
	for _, a := range addrs {
		indexes[a.Link] = false
	}
	var links []*routing.LinkAttrs
	if len(indexes) > many {
		var err error
		if links, err = node.Links(nil); err != nil {
			return nil, err
		}
	} else {
		for index := range indexes {
			l, err := node.LinkAt(index)
			if errors.Is(err, routing.ErrNoLink) {
				continue // gone since, and its addresses with it
			}
			if err != nil {
				return nil, err
			}
			links = append(links, l)
		}
	}
	for _, l := range links {
		if _, asked := indexes[l.Index]; asked {
			indexes[l.Index] = l.Up && !slices.ContainsFunc(containerSide, func(pattern string) bool {
				matches, _ := path.Match(pattern, l.Name)
				return matches
			})
		}
	}
	return indexes, nil
}

// NodesFor are the node's addresses of one family, the one first that the node sends from towards the pod: that one
// is there even where it belongs to an interface that NodeAddresses leaves out. A node without a way to the pod has no
// such address, and one without any has none of the family.
func NodesFor(node *routing.Namespace, all []netip.Addr, pod netip.Addr) ([]netip.Addr, error) {
	var nodes []netip.Addr
	source, err := SourceTo(node, pod)
	if err != nil {
		return nil, err
	}
	if source.IsValid() {
		nodes = append(nodes, source)
	}
	for _, a := range all {
		if a.Is6() == pod.Is6() && a != source {
			nodes = append(nodes, a)
		}
	}
	return nodes, nil
}

// SourceTo is the address that the node sends from towards the pod; not valid if there is none that the pod could answer.
func SourceTo(node *routing.Namespace, pod netip.Addr) (netip.Addr, error) {
	source, err := node.SourceTo(pod)
	if err != nil || !source.IsGlobalUnicast() {
		return netip.Addr{}, err
	}
	return source, nil
}

// OfFamily are the addresses of one family.
func OfFamily(v6 bool, all []routing.Address) (addrs []netip.Addr) {
	for _, a := range all {
		if addr := a.Prefix.Addr(); addr.Is6() == v6 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// ErrNoAddress is what a configuration cannot mend: there is nothing to attach.
func ErrNoAddress(ifName string) error {
	return plugin.Errorf(plugin.CodeConfig, "prevResult.ips: %s in the pod has no usable address; accepted: at least one in IPv4 or in IPv6", ifName)
}

// ErrNoNode is a node that has no address in any family: no pod could reach it.
func ErrNoNode() error {
	return plugin.Errorf(plugin.CodeConfig, "the node has no address that a pod could reach it by; accepted: at least one in IPv4 or in IPv6, of an interface that is up")
}
