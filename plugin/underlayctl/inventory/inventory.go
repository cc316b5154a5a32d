// Package inventory finds out what the plugins have on a node: from the kernel, which is their only database, from the
// conflists of the node, and from what the runtimes keep about the pods that they have attached.
package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Places are where an inventory is taken.
type Places struct {
	ConfDir   string   // conflists
	CacheDirs []string // of runtimes: directories with one "results" in them, as libcni keeps it
	Netns     []string // names of network namespaces beside those that are found
	Kinds     []*Kind  // the plugins whose networks count
}

// types are the names of the plugins.
func (p Places) types() (names []string) {
	for _, k := range p.Kinds {
		names = append(names, k.Name)
	}
	return names
}

// A Kind is a plugin, and how a host end shows that it is one of its. The names of all host ends look the same.
type Kind struct {
	Name string
	// Group is the interface group of a network's host ends, which no two plugins have in common; nil for a plugin that
	// makes none.
	Group func(network string) uint32
	// HostEnd is the name of the host end that an attachment makes, or a further name of the one that it uses.
	HostEnd func(plugin.Attachment) string
	// Uses are the attachments that share a host end, by its further names; nil for a plugin that makes one for each.
	Uses func(l *routing.LinkAttrs, known []plugin.Attachment) []plugin.Use
	// InPod are those that an interface of a pod says it has; nil for a plugin whose attachments all have a host end. With
	// one, the host ends are other plugins', of whatever name.
	InPod func(l *routing.LinkAttrs, known []plugin.Attachment) []plugin.Use
}

// An Inventory is what there is at the moment of Take.
type Inventory struct {
	Node *routing.Namespace
	// Networks are those of the node's conflists that have one of the plugins, by name.
	Networks map[string]*Network
	// Attachments are those with a host end, and those that a runtime believes in; sorted.
	Attachments []*Attachment
	// Strays are host ends that do not say which attachment they belong to: an ADD was killed after it made them, or is
	// just being made.
	Strays []*Attachment
	// HasCache tells whether any runtime keeps results, though it may have none.
	HasCache bool

	namespaces *namespaces
	kinds      []*Kind
	containers []string // that runtimes know, whatever their networks
	known      []plugin.Attachment
}

// An Attachment is a pod's interface and what is known about it.
type Attachment struct {
	plugin.Attachment
	Kind   *Kind              // the plugin
	Use    string             // the further name of the host end that stands for it, were there one; "": it has the host end for itself
	Link   *routing.LinkAttrs // the host end; nil: there is none
	Cached *Cached            // what a runtime keeps; nil: none does
	Netns  string             // path of the pod's network namespace; "": nobody has a name for it
	Lives  bool               // a process is in that namespace
	InPod  bool               // an interface of the pod says that it is attached
}

// There tells whether the kernel has anything of the attachment.
func (a *Attachment) There() bool { return a.Link != nil || a.InPod }

// String is network/containerID/ifname, as the alias of the host end. What is not known is a question mark.
func (a *Attachment) String() string {
	or := func(s string) string { return cmp.Or(s, "?") }
	return or(a.Network) + "/" + or(a.ContainerID) + "/" + or(a.IfName)
}

// HostEndName is the name of the host end, whether it is there or not.
func (a *Attachment) HostEndName() string {
	if a.Link != nil {
		return a.Link.Name
	}
	return a.Kind.HostEnd(a.Attachment)
}

// HostEndLink is the name of the host end that is there; "" if there is none.
func (a *Attachment) HostEndLink() string {
	if a.Link == nil {
		return ""
	}
	return a.Link.Name
}

// Take looks at the node. Conflists and results that cannot be read are passed over, and named in the error, which does
// not make the inventory useless.
func Take(node *routing.Namespace, p Places) (*Inventory, error) {
	inv, types := &Inventory{Node: node, kinds: p.Kinds}, p.types()
	var errs []error
	var err error
	inv.Networks, err = readNetworks(p.ConfDir, types)
	errs = append(errs, err)
	var cached []*Cached
	for _, dir := range p.CacheDirs {
		c, containers, err := readCache(dir, types)
		cached, inv.containers, errs = append(cached, c...), append(inv.containers, containers...), append(errs, err)
		if _, err := os.Stat(filepath.Join(dir, "results")); err == nil {
			inv.HasCache = true
		}
	}
	if inv.namespaces, err = nameNamespaces(node, p.Netns, cached); err != nil {
		return inv, errors.Join(append(errs, err)...)
	}
	err = inv.takeLinks(cached)
	inv.addCached(cached)
	inv.takePods()
	slices.SortFunc(inv.Attachments, func(a, b *Attachment) int { return cmp.Compare(a.String(), b.String()) })
	return inv, errors.Join(append(errs, err)...)
}

// addCached brings together what the kernel has and what runtimes believe in.
func (inv *Inventory) addCached(cached []*Cached) {
	for _, c := range cached {
		i := slices.IndexFunc(inv.Attachments, func(a *Attachment) bool { return a.Attachment == c.Attachment && c.Network.has(a.Kind) })
		if i < 0 {
			a := &Attachment{Attachment: c.Attachment, Kind: inv.KindOf(c.Network)}
			if ns := inv.namespaces.at(c.Netns); ns != nil {
				a.Netns, a.Lives = c.Netns, ns.inhabited
			}
			inv.Attachments, i = append(inv.Attachments, a), len(inv.Attachments)
		}
		inv.Attachments[i].Cached = c
	}
}

// In tells whether the pod of an attachment has the network namespace at that path.
func (inv *Inventory) In(a *Attachment, path string) bool {
	want, got := inv.namespaces.at(path), inv.namespaces.at(a.Netns)
	return want != nil && got != nil && want.inode == got.inode
}

// SamePod tells whether two attachments are of one pod, as far as the kernel shows it: they share a host end or a network
// namespace.
func (inv *Inventory) SamePod(a, other *Attachment) bool {
	return a.Link != nil && other.Link != nil && a.Link.Name == other.Link.Name || a.Netns != "" && inv.In(other, a.Netns)
}

// Network is the configuration of a network: that of the node's conflists, or the one that a runtime has used for the
// attachment, as Multus does with its own. It is nil if there is neither.
func (inv *Inventory) Network(a *Attachment) *Network {
	if n := inv.Networks[a.Network]; n != nil && n.has(a.Kind) {
		return n
	}
	if a.Cached != nil {
		return a.Cached.Network
	}
	return nil
}

// NetworkNames are those of all networks that are known from anywhere, sorted.
func (inv *Inventory) NetworkNames() []string {
	var names []string
	for name := range inv.Networks {
		names = append(names, name)
	}
	for _, a := range slices.Concat(inv.Attachments, inv.Strays) {
		if a.Network != "" {
			names = append(names, a.Network)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// BeingAdded reports whether a CNI plugin runs for the attachment at this moment.
func (inv *Inventory) BeingAdded(a *Attachment) bool {
	return slices.ContainsFunc(runningPlugins(), func(running runningPlugin) bool {
		running.Network = a.Network
		end := a.Kind.HostEnd(running.Attachment)
		// Without the network's name, what a link tells of an attachment cannot be compared with its name: it may be any in its pod.
		unknown := a.Kind.InPod != nil && a.Network == "" && running.IfName == a.IfName && !inv.inAnotherPod(a, running.netns)
		return unknown || end == a.HostEndName() || running.Attachment == a.Attachment || end == a.Use || strings.HasPrefix(a.Use, end+".")
	})
}

// inAnotherPod tells whether the network namespace at a path is known not to be that of an attachment's pod.
func (inv *Inventory) inAnotherPod(a *Attachment, path string) bool {
	got := inv.namespaces.at(path)
	if got == nil {
		return false // a DEL may be told none
	}
	if want := inv.namespaces.at(a.Netns); want != nil {
		return got.inode != want.inode
	}
	if a.Link == nil || a.Link.NSID < 0 {
		return false
	}
	id, err := number(inv.Node, path)
	return err == nil && id != a.Link.NSID
}

// Result is what the plugins before ours have done for the attachment: as the runtime keeps it, or as the kernel shows it.
func Result(a *Attachment, network *Network, node, pod *routing.Namespace) (*types100.Result, error) {
	if a.Cached != nil {
		if r, err := a.Cached.result(network); err == nil && hasInterface(r, a.IfName) {
			return r, nil
		}
	}
	return kernelResult(node, a.Link, pod, a.IfName)
}

func hasInterface(r *types100.Result, name string) bool {
	return slices.ContainsFunc(r.Interfaces, func(i *types100.Interface) bool { return i.Name == name && i.Sandbox != "" })
}

// kernelResult says what an interface plugin would have said: the interface, its addresses and its gateways. Of an attachment that
// has a host end, the addresses are those that the node has a route or a neighbour for by it: the pod may have given itself more.
func kernelResult(node *routing.Namespace, host *routing.LinkAttrs, pod *routing.Namespace, name string) (*types100.Result, error) {
	link := pod.Link(name)
	attrs, err := link.Attrs()
	if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	addrs, err := pod.UsableAddresses(link)
	if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	if host != nil {
		if addrs, err = known(node.Link(host.Name), addrs); err != nil {
			return nil, fmt.Errorf("look at the node: %w", err)
		}
	}
	routes, err := pod.Routes(link)
	if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{{Name: name, Mac: attrs.MAC.String(), Mtu: attrs.MTU, Sandbox: pod.Path}},
	}
	for _, addr := range addrs {
		ip := &types100.IPConfig{Interface: new(0), Address: ipNet(addr.Prefix)}
		for _, route := range routes {
			if route.IsDefault() && route.Via.IsValid() && route.Via.Is6() == addr.Prefix.Addr().Is6() {
				ip.Gateway = route.Via.AsSlice()
			}
		}
		r.IPs = append(r.IPs, ip)
	}
	return r, nil
}

// known are those of some addresses that the node has a route or a neighbour for, by a host end.
func known(host *routing.Link, addrs []routing.Address) (has []routing.Address, err error) {
	routes, err := host.NS.Routes(host)
	if errors.Is(err, routing.ErrNoLink) {
		return addrs, nil // it has gone since
	}
	for _, addr := range addrs {
		ip := addr.Prefix.Addr()
		is := slices.ContainsFunc(routes, func(r *routing.Route) bool { return r.Dst == routing.Single(ip) })
		if !is && err == nil {
			var mac net.HardwareAddr
			mac, err = (&routing.Neigh{Addr: ip, Dev: host}).Found()
			is = mac != nil
		}
		if is {
			has = append(has, addr)
		}
	}
	return has, err
}
