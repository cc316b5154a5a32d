package vethhost

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// An attachment is everything that the plan is computed from: the configuration, the result so far and
// what the kernel shows of the node and the pod.
type attachment struct {
	network string
	config  *conflist.VethHost
	owner   routing.Owner // of the host end
	podMAC  net.HardwareAddr

	node, pod       *routing.Namespace
	eth             *routing.Link // the pod's interface on the wire
	hostEnd, podEnd *routing.Link // the veth pair
	mtu             int
	podTable        *routing.Table // on the node: where packets of this pod that are for a Service go
	firewall        firewall.Firewall

	hostName  string            // of hostInterface, which may have been given by an alternative name
	nodeAddrs []netip.Addr      // of hostInterface, best first
	podAddrs  []routing.Address // of the pod's interface, best first
	families  []*family         // those that both of them have
	wired     bool              // an earlier ADD, of another configuration perhaps, has made the rules of byWire

	forceForwarding bool // the kernel has net.ipv6.conf.*.force_forwarding
}

// A family is what the plan needs in IPv4 or in IPv6.
type family struct {
	v6        bool
	nodeAddrs []netip.Addr   // the first is the pod's next hop
	podAddrs  []netip.Prefix // the first is the pod's source
	services  []netip.Prefix // serviceCidr
	source    netip.Addr     // of routes in the pod; not valid where the kernel's choice is right
	gateway   bool           // the pod has an underlay gateway
	routed    bool           // the result gives it one
	onLink    []netip.Prefix // of the pod's interface, as the result says
	l3s       bool           // the pod's interface is an ipvlan in mode l3s

	routes   []*routing.Route // of the pod's interface, as the underlay table is to hold them
	replaced []*routing.Route // those of them that leave the main table
}

func (f *family) node() netip.Addr { return f.nodeAddrs[0] }
func (f *family) pod() netip.Addr  { return f.podAddrs[0].Addr() }

func (f *family) metric() int {
	if f.v6 {
		return defaultMetric6
	}
	return 0
}

// returned are the destinations of Service packets that the node returns to the pod: all of them where
// the result gives the pod a gateway, else those on the pod's own link. An ipvlan in mode l3s delivers what it receives
// to the pod's sockets, past the pod's netfilter, which could not translate the answers: then there are
// none, and the node sends such packets out itself.
func (f *family) returned() []netip.Prefix {
	if f.l3s {
		return nil
	}
	if f.routed {
		return []netip.Prefix{routing.All(f.v6)}
	}
	return f.onLink
}

func (a *attachment) family(v6 bool) *family {
	i := slices.IndexFunc(a.families, func(f *family) bool { return f.v6 == v6 })
	if i < 0 {
		return nil
	}
	return a.families[i]
}

// look reads what the plan is computed from and changes nothing. All bad input ends here. A CHECK looks past
// what comes and goes by itself, addresses and routes of router advertisements, and past routes of the pod's interface
// that a later plugin may have added.
func look(r *plugin.Request) (*attachment, error) {
	config, err := decode(r)
	if err != nil {
		return nil, err
	}
	if config.ContainerInterface == r.IfName {
		return nil, &conflist.KeyError{
			Key: "containerInterface", Value: config.ContainerInterface, Problem: "it is CNI_IFNAME, the pod's own interface",
			Accepted: "another name, normally veth0",
		}
	}
	a := &attachment{
		network: r.Network, config: config, owner: r.Owner(), node: r.Node, pod: r.Pod,
		hostEnd: r.Node.Link(r.HostEnd()), podEnd: r.Pod.Link(config.ContainerInterface),
	}
	_, a.podMAC = r.MACs()
	// Router's table is empty while it has no pod, and all packets of the node ask it first.
	a.podTable = r.Node.DeviceTable(config.RouteTableStart, a.hostEnd, conflist.DefaultHostRuleTable)
	if a.eth, err = r.PodLink(); err != nil {
		return nil, err
	}
	for _, look := range []func(*plugin.Request) error{a.lookAtVeth, a.lookAtRules, a.lookAtHost, a.lookAtPod} {
		if err := look(r); err != nil {
			return nil, err
		}
	}
	if a.firewall, err = firewall.Open(string(config.Firewall)); err != nil {
		return nil, plugin.Errorf(plugin.CodeFirewall, "firewall: %w", err)
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

// lookAtVeth makes sure that containerInterface is free in the pod, or ours from an earlier ADD.
func (a *attachment) lookAtVeth(*plugin.Request) error {
	end, err := a.podEnd.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	host, err := a.hostEnd.Attrs()
	if err != nil && !errors.Is(err, routing.ErrNoLink) {
		return err
	}
	if err == nil {
		if pair, err := routing.Pair(host, a.node, end, a.pod); pair || err != nil {
			return err
		}
	}
	return plugin.Errorf(plugin.CodeVeth, "containerInterface: %s: the pod has an interface of that name (index %d, address %s) that is not ours; accepted: a free name",
		a.podEnd.Name, end.Index, end.MAC)
}

// lookAtRules makes sure that the pod has no other attachment: rules and tables in the pod have fixed numbers.
func (a *attachment) lookAtRules(*plugin.Request) error {
	prefs, err := a.pod.Prefs(prefPod, prefWire)
	if err != nil {
		return err
	}
	a.wired = prefs[prefWire]
	if !prefs[prefPod] {
		return nil
	}
	other, err := otherAttachment(a.pod, a.hostEnd)
	if err != nil || other == "" || other == a.podEnd.Name {
		return err
	}
	return plugin.Errorf(plugin.CodeVeth, "containerInterface: %s: the pod has an attachment of veth-host by %s already; accepted: one in a pod", a.podEnd.Name, other)
}

// lookAtHost reads hostInterface: its MTU and its addresses.
func (a *attachment) lookAtHost(*plugin.Request) error {
	bad := func(why string) error {
		return &conflist.KeyError{
			Key: "hostInterface", Value: a.config.HostInterface, Problem: why,
			Accepted: "an interface of the node with a global address, normally the parent of the pod's interface",
		}
	}
	link := a.node.Link(a.config.HostInterface)
	attrs, err := link.Attrs()
	if errors.Is(err, routing.ErrNoLink) {
		return bad("the node has no such interface")
	}
	if err != nil {
		return fmt.Errorf("look at hostInterface: %w", err)
	}
	a.hostName = attrs.Name
	a.mtu = a.config.MTU
	if a.mtu == 0 {
		a.mtu = min(1500, attrs.MTU)
	}
	addrs, err := a.node.UsableAddresses(link)
	if err != nil {
		return fmt.Errorf("look at hostInterface: %w", err)
	}
	if len(addrs) == 0 {
		return bad("the interface has no address")
	}
	for _, addr := range addrs {
		a.nodeAddrs = append(a.nodeAddrs, addr.Prefix.Addr())
	}
	return nil
}

// lookAtPod reads the addresses and routes of the pod's interface, and sorts all of it by family.
func (a *attachment) lookAtPod(r *plugin.Request) error {
	eth, err := a.eth.Attrs()
	if err != nil {
		return err
	}
	addrs, err := plugin.Settled(func() ([]routing.Address, error) { return a.pod.Addresses(nil) })
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	others := slices.DeleteFunc(slices.Clone(addrs), func(addr routing.Address) bool { return addr.Link == eth.Index })
	addrs = r.Given(slices.DeleteFunc(addrs, func(addr routing.Address) bool { return addr.Link != eth.Index }))
	if a.podAddrs, err = plugin.Sound(a.node, a.eth, addrs); err != nil {
		return err
	}
	var ips []netip.Addr
	for _, addr := range a.podAddrs {
		ips = append(ips, addr.Prefix.Addr())
	}
	if err := r.Free(a.hostEnd, ips); err != nil {
		return err
	}
	if r.Verb == "CHECK" {
		if a.podAddrs, err = a.lost(a.podAddrs, r.PodAddresses()); err != nil {
			return err
		}
		others = nil // they may have come since: a later plugin's, or net1's, is no reason for a source
	}
	routes, err := a.pod.Routes(a.eth)
	if err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	routes = r.Expected(routes)
	if r.Verb == "CHECK" {
		routes = slices.DeleteFunc(routes, func(r *routing.Route) bool {
			return r.InMain() && (r.Learned() || !r.IsDefault() && !r.Connected())
		})
	}
	for _, v6 := range []bool{false, true} {
		f := a.newFamily(v6, routing.Usable(others))
		f.l3s = eth.L3S
		if len(f.podAddrs) > 0 && len(f.nodeAddrs) > 0 {
			a.sortRoutes(f, routes, r.Gateway(v6))
			f.routed, f.onLink = r.Gateway(v6).IsValid() || r.Default(v6).IsValid(), r.OnLink(v6)
			a.families = append(a.families, f)
		}
	}
	if len(a.families) == 0 {
		return plugin.Errorf(plugin.CodeConfig, "prevResult.ips: %s in the pod and hostInterface %s have no usable address of the same family; accepted: at least one in IPv4 or in IPv6",
			a.eth.Name, a.config.HostInterface)
	}
	if a.family(true) == nil {
		return nil
	}
	if a.forceForwarding, err = a.pod.HasSysctl(routing.V6Conf + a.eth.Name + "/force_forwarding"); err != nil {
		return fmt.Errorf("look at the pod: %w", err)
	}
	if a.mtu < 1280 {
		return &conflist.KeyError{
			Key: "mtu", Value: fmt.Sprint(a.mtu), Problem: "the pod has an IPv6 address",
			Accepted: "1280 or more for IPv6, also as the mtu of hostInterface, from which it comes by default",
		}
	}
	return nil
}

// lost appends the addresses of prevResult that the pod's interface has no more, in the families that an ADD has
// attached: the kernel takes all of a family off an interface where it is switched off.
func (a *attachment) lost(has []routing.Address, was []netip.Prefix) ([]routing.Address, error) {
	for _, addr := range was {
		attached, err := a.node.HasIif(addr.Addr().Is6(), prefPod, a.hostEnd.Name)
		if err != nil {
			return nil, err
		}
		if attached && !slices.ContainsFunc(has, func(h routing.Address) bool { return h.Prefix.Addr() == addr.Addr() }) {
			has = append(has, routing.Address{Prefix: addr, Flags: unix.IFA_F_PERMANENT})
		}
	}
	return has, nil
}

// newFamily sorts the addresses of the node, of the pod's interface, and of others in the pod.
func (a *attachment) newFamily(v6 bool, others []routing.Address) *family {
	f := &family{v6: v6, services: a.config.ServiceCIDR.V4()}
	if v6 {
		f.services = a.config.ServiceCIDR.V6()
	}
	for _, addr := range a.nodeAddrs {
		if addr.Is6() == v6 {
			f.nodeAddrs = append(f.nodeAddrs, addr)
		}
	}
	for _, addr := range a.podAddrs {
		if addr.Prefix.Addr().Is6() == v6 {
			f.podAddrs = append(f.podAddrs, addr.Prefix)
		}
	}
	// In IPv4 the kernel chooses the first address of the pod, whose first interface this is. In IPv6 it may
	// choose one that a router advertisement brings later, which the node does not know.
	ambiguous := slices.ContainsFunc(others, func(addr routing.Address) bool { return addr.Prefix.Addr().Is6() == v6 })
	if len(f.podAddrs) > 0 && (v6 || ambiguous) {
		f.source = f.pod()
	}
	return f
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
		add(&routing.Route{Table: a.pod.Table(routing.MainTable), Dst: routing.All(f.v6), Via: gateway, Dev: a.eth, Static: true})
	}
}

// nodeRules describes the network's firewall rules on the node, whatever families this pod has.
func (a *attachment) nodeRules() firewall.Node {
	n := firewall.Node{
		Network: a.network, Group: a.owner.Group, HostInterface: a.hostName, ServiceCIDRs: a.config.ServiceCIDR,
		NodePortMark: uint32(a.config.NodePortMark), ServiceMark: uint32(a.config.ServiceMark), Masquerade: a.config.IPMasq,
		SpoofCheck: a.config.SpoofCheck,
	}
	for _, r := range a.config.NodePorts {
		n.NodePorts = append(n.NodePorts, firewall.Ports(r))
	}
	for _, addr := range slices.Backward(a.nodeAddrs) { // the first of each family stays
		if addr.Is4() {
			n.Addr4 = addr
		} else {
			n.Addr6 = addr
		}
	}
	return n
}

func (a *attachment) podRules() firewall.Pod {
	return firewall.Pod{
		Interface: a.eth.Name, Veth: a.podEnd.Name,
		NodePortMark: uint32(a.config.NodePortMark), ServiceMark: uint32(a.config.ServiceMark),
		IPv4: a.family(false) != nil, IPv6: a.family(true) != nil,
	}
}

// interfaces are both ends as the result lists them, host end first.
func (a *attachment) interfaces(netns string) []*types100.Interface {
	return []*types100.Interface{
		{Name: a.hostEnd.Name, Mac: a.owner.MAC.String(), Mtu: a.mtu},
		{Name: a.podEnd.Name, Mac: a.podMAC.String(), Mtu: a.mtu, Sandbox: netns},
	}
}
