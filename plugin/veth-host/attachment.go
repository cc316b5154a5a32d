package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// An attachment is everything that the plan is computed from: the configuration, the result so far and
// what the kernel shows of the node and the pod.
type attachment struct {
	node, pod       *routing.Namespace
	eth             *routing.Link // the pod's interface on the wire
	hostEnd, podEnd *routing.Link // the veth pair
	hostMAC, podMAC net.HardwareAddr
	owner           routing.Owner
	network         string
	mtu             int
	podTable        *routing.Table // on the node: where packets of this pod that are for a Service go

	config                    *conflist.VethHost
	nodeAddrs                 []netip.Addr // of hostInterface
	nodePortMark, serviceMark uint32
	masquerade                bool
	firewall                  firewall.Firewall
	families                  []*family
	podAddrs                  []routing.Address // of the pod's interface, as far as they are usable
	forceForwarding           bool              // the kernel has net.ipv6.conf.*.force_forwarding
}

// A family is what the plan needs in IPv4 or in IPv6. Only those that both the pod and hostInterface have
// an address of are planned.
type family struct {
	v6        bool
	nodeAddrs []netip.Addr   // of hostInterface; the first is the pod's next hop
	podAddrs  []netip.Prefix // of the pod's interface
	services  []netip.Prefix // serviceCidr
	source    netip.Addr     // of routes in the pod; not valid where the kernel's choice is right
	gateway   bool           // the pod has an underlay gateway

	routes   []*routing.Route // of the pod's interface, as the underlay table is to hold them
	replaced []*routing.Route // those of them that leave the main table
}

func (f *family) node() netip.Addr { return f.nodeAddrs[0] }
func (f *family) pod() netip.Addr  { return f.podAddrs[0].Addr() }

// all is the destination of the default route.
func (f *family) all() netip.Prefix {
	if f.v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func (f *family) metric() int {
	if f.v6 {
		return defaultMetric6
	}
	return 0
}

// returned are the destinations of Service packets that the node returns to the pod: all of them where
// the pod has a gateway, else those on the pod's own link.
func (f *family) returned() (dsts []netip.Prefix) {
	if f.gateway {
		return []netip.Prefix{f.all()}
	}
	for _, r := range f.routes {
		if !r.Via.IsValid() && !r.IsDefault() {
			dsts = append(dsts, r.Dst)
		}
	}
	return dsts
}

func (a *attachment) family(v6 bool) *family {
	i := slices.IndexFunc(a.families, func(f *family) bool { return f.v6 == v6 })
	if i < 0 {
		return nil
	}
	return a.families[i]
}

// look reads what the plan is computed from and changes nothing. All bad input ends here.
func look(r *plugin.Request) (*attachment, error) {
	config, err := decode(r)
	if err != nil {
		return nil, err
	}
	a := &attachment{
		node: r.Node, pod: r.Pod, network: r.Network, owner: r.Owner(), config: config,
		nodePortMark: uint32(config.NodePortMark), serviceMark: uint32(config.ServiceMark), masquerade: config.IPMasq,
		hostEnd: r.Node.Link(r.HostEnd()), podEnd: r.Pod.Link(config.ContainerInterface),
	}
	a.hostMAC, a.podMAC = r.MACs()
	a.podTable = r.Node.DeviceTable(config.RouteTableStart, a.hostEnd)
	if config.ContainerInterface == r.IfName {
		return nil, &conflist.KeyError{
			Key: "containerInterface", Value: config.ContainerInterface, Problem: "it is CNI_IFNAME, the pod's own interface",
			Accepted: "another name, normally veth0",
		}
	}
	if a.eth, err = r.PodLink(); err != nil {
		return nil, err
	}
	if err := a.notForeign(); err != nil {
		return nil, err
	}
	if err := a.lookAtHost(); err != nil {
		return nil, err
	}
	if err := a.lookAtPod(r); err != nil {
		return nil, err
	}
	if a.firewall, err = firewall.Open(string(config.Firewall)); err != nil {
		return nil, err
	}
	return a, nil
}

// decode reads the configuration. One that comes with an error holds defaults where it was wrong, or is nil.
func decode(r *plugin.Request) (*conflist.VethHost, error) {
	config, err := conflist.DecodeVethHost(r.Config)
	if config != nil {
		r.LogTo(config.LogOptions)
	}
	if err == nil && config.Firewall == conflist.IPTables && len(config.ServiceCIDR) == 0 {
		err = &conflist.KeyError{
			Key: "serviceCidr", Problem: "missing; iptables tells what is for a Service by its address",
			Accepted: "the Service range of each family, or firewall auto or nftables",
		}
	}
	return config, err
}

// notForeign makes sure that containerInterface is free in the pod, or ours from an earlier ADD.
func (a *attachment) notForeign() error {
	end, err := a.podEnd.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	if host, err := a.hostEnd.Attrs(); err == nil && host.Index == end.Peer {
		return nil
	}
	return plugin.Errorf(plugin.CodeVeth, "containerInterface: %s: the pod has an interface of that name (index %d, address %s) that is not ours; accepted: a free name",
		a.podEnd.Name, end.Index, end.MAC)
}

// lookAtHost reads hostInterface: its MTU and its addresses.
func (a *attachment) lookAtHost() error {
	link := a.node.Link(a.config.HostInterface)
	attrs, err := link.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return badHost(a.config, "the node has no such interface")
	}
	if err != nil {
		return fmt.Errorf("look at hostInterface: %w", err)
	}
	a.mtu = a.config.MTU
	if a.mtu == 0 {
		a.mtu = min(1500, attrs.MTU)
	}
	addrs, err := a.node.UsableAddresses(link)
	if err != nil {
		return fmt.Errorf("look at hostInterface: %w", err)
	}
	if len(addrs) == 0 {
		return badHost(a.config, "the interface has no address")
	}
	for _, addr := range addrs {
		a.nodeAddrs = append(a.nodeAddrs, addr.Prefix.Addr())
	}
	return nil
}

func badHost(c *conflist.VethHost, why string) error {
	return &conflist.KeyError{
		Key: "hostInterface", Value: c.HostInterface, Problem: why,
		Accepted: "an interface of the node with a global address, normally the parent of the pod's interface",
	}
}

// lookAtPod reads the addresses and routes of the pod's interface, and sorts all of it by family.
func (a *attachment) lookAtPod(r *plugin.Request) error {
	addrs, err := a.pod.Addresses(nil)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	routes, err := a.pod.Routes(a.eth)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	for _, v6 := range []bool{false, true} {
		f, err := a.newFamily(v6, routing.Usable(addrs))
		if err != nil {
			return err
		}
		if len(f.podAddrs) > 0 && len(f.nodeAddrs) > 0 {
			a.sortRoutes(f, routes, r.Gateway(v6))
			a.families = append(a.families, f)
		}
	}
	if len(a.families) == 0 {
		return plugin.Errorf(plugin.CodeConfig, "prevResult.ips: %s in the pod and hostInterface %s have no usable address of the same family; accepted: at least one in IPv4 or in IPv6",
			a.eth.Name, a.config.HostInterface)
	}
	if a.family(true) != nil {
		a.forceForwarding = a.pod.HasSysctl("net/ipv6/conf/" + a.eth.Name + "/force_forwarding")
	}
	return nil
}

// newFamily sorts the addresses: those of the node, and among the pod's those of its interface.
func (a *attachment) newFamily(v6 bool, addrs []routing.Address) (*family, error) {
	index, err := a.eth.Index()
	if err != nil {
		return nil, err
	}
	f := &family{v6: v6, nodeAddrs: a.nodeAddrsOf(v6), services: a.config.ServiceCIDR.V4()}
	if v6 {
		f.services = a.config.ServiceCIDR.V6()
	}
	others := false
	for _, addr := range addrs {
		switch {
		case addr.Prefix.Addr().Is6() != v6:
		case addr.Link == index:
			f.podAddrs = append(f.podAddrs, addr.Prefix)
			a.podAddrs = append(a.podAddrs, addr)
		default:
			others = true
		}
	}
	if others && len(f.podAddrs) > 0 {
		f.source = f.pod() // the kernel might choose one of another interface
	}
	return f, nil
}

// sortRoutes tells which routes of the pod's interface the underlay table gets and which leave the main
// table. When an ADD is repeated, the default route is in the underlay table only; and an IPAM plugin may
// name a gateway without a default route: then the gateway makes it.
func (a *attachment) sortRoutes(f *family, routes []*routing.Route, gateway netip.Addr) {
	add := func(r *routing.Route) {
		f.routes = append(f.routes, r)
		f.gateway = f.gateway || r.IsDefault() && r.HasGateway()
	}
	var kept []*routing.Route
	for _, r := range routes {
		switch {
		case r.Dst.Addr().Is6() != f.v6:
		case r.InMain():
			add(r)
			if r.IsDefault() && !r.Learned() {
				f.replaced = append(f.replaced, r)
			}
		case r.InTable(tableUnderlay) && r.IsDefault():
			kept = append(kept, r)
		}
	}
	if !f.gateway {
		for _, r := range kept {
			add(r)
		}
	}
	if !f.gateway && gateway.IsValid() {
		add(&routing.Route{Table: a.pod.Table(routing.MainTable), Dst: f.all(), Via: gateway, Dev: a.eth})
	}
}

// nodeAddrsOf are the addresses of hostInterface in one family.
func (a *attachment) nodeAddrsOf(v6 bool) (addrs []netip.Addr) {
	for _, addr := range a.nodeAddrs {
		if addr.Is6() == v6 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// nodeRules describes the network's firewall rules on the node.
func (a *attachment) nodeRules() firewall.Node {
	n := firewall.Node{
		Network: a.network, Group: a.owner.Group, HostInterface: a.config.HostInterface, ServiceCIDRs: a.config.ServiceCIDR,
		NodePortMark: a.nodePortMark, ServiceMark: a.serviceMark, Masquerade: a.masquerade,
	}
	for _, r := range a.config.NodePorts {
		n.NodePorts = append(n.NodePorts, firewall.Ports(r))
	}
	// Whatever families this pod has: the rules are the network's.
	if addrs := a.nodeAddrsOf(false); len(addrs) > 0 {
		n.Addr4 = addrs[0]
	}
	if addrs := a.nodeAddrsOf(true); len(addrs) > 0 {
		n.Addr6 = addrs[0]
	}
	return n
}

func (a *attachment) podRules() firewall.Pod {
	return firewall.Pod{
		Interface: a.eth.Name, Veth: a.podEnd.Name, NodePortMark: a.nodePortMark, ServiceMark: a.serviceMark,
		IPv4: a.family(false) != nil, IPv6: a.family(true) != nil,
	}
}

// interfaces are both ends as the result lists them, host end first.
func (a *attachment) interfaces(netns string) []*types100.Interface {
	return []*types100.Interface{
		{Name: a.hostEnd.Name, Mac: a.hostMAC.String(), Mtu: a.mtu},
		{Name: a.podEnd.Name, Mac: a.podMAC.String(), Mtu: a.mtu, Sandbox: netns},
	}
}
