package paths

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"underlay-cni/integration/lab"
)

// A Config is what differs between the worlds that the table is run in.
type Config struct {
	lab.Options
	Plugin  string      // under test: "veth-host" by default, "veth" or "router"
	Flavour lab.Flavour // of kube-proxy
	Backend Backend     // of the plugin
	IPMasq  bool
	Portmap bool // hostPorts are made by CNI's portmap plugin, which has its own use of the mark 0x2000
	// Prepare changes the nodes before there is a pod.
	Prepare func(*lab.Node) error
	// Second is the pod that is on a network of its own, with other marks than those of the others: "a" or "b".
	Second string
}

// A Backend is what the plugin writes its rules with.
type Backend string

// The backends: that of the configuration, and with iptables the one of the node's two. The zero value is auto.
const (
	NFTables       Backend = "nftables"
	IPTablesNFT    Backend = "iptables-nft"
	IPTablesLegacy Backend = "iptables-legacy"
)

// Backends is all of them.
var Backends = []Backend{NFTables, IPTablesNFT, IPTablesLegacy}

// split returns the value of "firewall" and the variant of iptables.
func (b Backend) split() (firewall, variant string) {
	firewall, variant, _ = strings.Cut(string(b), "-")
	return firewall, variant
}

// Supported probes whether the machine can do the backend. The error says what is missing.
func (b Backend) Supported() error {
	if firewall, _ := b.split(); firewall != "iptables" {
		return nil
	}
	return lab.Flavour(b).Supported() // which has the same names
}

// A World is a lab.World with its pods attached, a server everywhere, and kube-proxy on both nodes.
type World struct {
	*lab.World
	Config  Config
	A, B, C *lab.Pod // A and B on N1, C on N2
	O1, O2  *lab.Pod // with the overlay's interface alone, where there is one: O1 on N1, O2 on N2

	machines map[string]*lab.Namespace
	servers  map[string]*lab.Server
	services map[string]lab.Service
}

// NodePorts and hostPorts of the Services, and a port where nobody listens.
const (
	nodePortA  = 30080
	nodePortC  = 30081
	nodePortNo = 30082
	hostPortA  = 9000
	closedPort = 9
)

// New builds the world. The caller closes it.
func New(c Config) (*World, error) {
	edit := c.Edit
	firewall, variant := c.Backend.split()
	c.IPTables = variant
	if c.Plugin == "router" {
		c.Overlay = cmp.Or(c.Overlay, lab.PTP)
	}
	c.Edit = func(list *lab.Conflist) {
		if c.Plugin == "veth" || c.Plugin == "router" {
			replace(list, c.Plugin)
		}
		for _, typ := range []string{"veth-host", "veth", "router"} {
			if plugin := list.Plugin(typ); plugin != nil && firewall != "" {
				plugin["firewall"] = firewall
			}
		}
		if veth := list.Plugin("veth-host"); veth != nil {
			veth["ipMasq"] = c.IPMasq
		}
		if c.Portmap {
			list.Plugins = append(list.Plugins, map[string]any{
				"type": "portmap", "backend": "iptables", "snat": true, "capabilities": map[string]any{"portMappings": true},
			})
		}
		if edit != nil {
			edit(list)
		}
	}
	world, err := lab.New(c.Options)
	if err != nil {
		return nil, err
	}
	w := &World{World: world, Config: c, machines: map[string]*lab.Namespace{}, servers: map[string]*lab.Server{}}
	if c.Prepare != nil {
		err = errors.Join(c.Prepare(w.N1), c.Prepare(w.N2))
	}
	if err == nil {
		err = w.populate()
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// replace puts veth or router in the place of veth-host.
func replace(list *lab.Conflist, typ string) {
	config := list.Plugin("veth-host")
	services := config["serviceCidr"]
	clear(config)
	config["type"], config["service_hijack_subnet"] = typ, services
	config["overlay_hijack_subnet"], config["log_options"] = []any{}, map[string]any{"log_file": "/dev/null"}
	if typ == "router" {
		config["overlay_hijack_subnet"] = prefixes(lab.OverlayCIDR[lab.IPv4], lab.OverlayCIDR[lab.IPv6])
		config["additional_hijack_subnet"] = prefixes(Further.V4, Further.V6)
	}
}

func prefixes[T fmt.Stringer](all ...T) (texts []any) {
	for _, p := range all {
		texts = append(texts, p.String())
	}
	return texts
}

// populate attaches the pods, on both nodes at the same time, and starts what runs on the machines.
func (w *World) populate() error {
	var (
		one, two       sync.WaitGroup
		errOne, errTwo error
	)
	one.Go(func() {
		w.O1, errOne = w.attachOverlay(w.N1, "o1")
		if errOne == nil {
			w.A, errOne = w.attach(w.N1, "a")
		}
		if errOne == nil {
			w.B, errOne = w.attach(w.N1, "b")
		}
	})
	two.Go(func() {
		if w.O2, errTwo = w.attachOverlay(w.N2, "o2"); errTwo == nil {
			w.C, errTwo = w.attach(w.N2, "c")
		}
	})
	one.Wait()
	two.Wait()
	if err := errors.Join(errOne, errTwo); err != nil {
		return err
	}
	if err := w.further(); err != nil {
		return err
	}
	for _, m := range []*lab.Namespace{w.N1.Namespace, w.N2.Namespace} {
		if err := w.start(m, m.Addr, w.onSecondWire(m.Addr)); err != nil {
			return err
		}
	}
	for _, p := range []*lab.Pod{w.A, w.B, w.C, w.O1, w.O2} {
		if p == nil {
			continue
		}
		if err := w.start(p.Namespace, slices.Collect(maps.Values(p.At))...); err != nil {
			return err
		}
	}
	if err := w.start(w.Outside, w.Outside.Addr, Further); err != nil {
		return err
	}
	for _, m := range []*lab.Namespace{w.Client, w.Client2, w.Thief} {
		if m == nil {
			continue
		}
		if err := w.start(m, m.Addr); err != nil {
			return err
		}
	}
	w.machines["vip"] = &lab.Namespace{Name: "the VIP of n1", Addr: lab.VIP} // a source, not a machine
	return w.serve()
}

// start runs a server on a machine. In a world with an overlay most have several addresses: over UDP it answers there from
// the one that was asked, as programs do that are made for such machines. Any other's answer has the address of the
// interface that it leaves by.
func (w *World) start(m *lab.Namespace, addrs ...lab.Pair) error {
	var udp []netip.Addr
	for _, addr := range addrs {
		for _, f := range w.Options.Stack {
			if w.Options.Overlay != lab.NoOverlay && addr.Of(f).IsValid() {
				udp = append(udp, addr.Of(f))
			}
		}
	}
	server, err := m.Serve(udp...)
	if err != nil {
		return err
	}
	w.machines[m.Name], w.servers[m.Name] = m, server
	return nil
}

// onSecondWire is what a machine has there, if there is a second wire.
func (w *World) onSecondWire(p lab.Pair) lab.Pair {
	if !w.Options.SecondWire {
		return lab.Pair{}
	}
	return lab.OnSecondWire(p)
}

// Further is another address of outside. It is router's additional subnet.
var Further = lab.Pair{V4: netip.MustParseAddr("198.51.100.2"), V6: netip.MustParseAddr("2001:db8:4::2")}

func (w *World) further() error {
	var here, there []string
	for _, f := range w.Options.Stack {
		here = append(here, fmt.Sprintf("addr add %s dev lo nodad", Further.Of(f)))
		there = append(there, fmt.Sprintf("route add %s via %s", Further.Of(f), w.Outside.Addr.Of(f)))
	}
	if w.Options.Overlay == lab.NoOverlay {
		return nil
	}
	w.machines["further"] = &lab.Namespace{Name: "further", Addr: Further}
	return errors.Join(w.Outside.IP(here...), w.Router.IP(there...))
}

// attach makes a pod and adds it to its node's network. The rp_filter of the node is written to the host end as well,
// after the plugin has: udev does that on real nodes.
func (w *World) attach(n *lab.Node, name string) (*lab.Pod, error) {
	p, err := n.NewPod(name)
	if err != nil {
		return nil, err
	}
	if w.Config.Portmap && name == "a" {
		var mappings []any
		for _, proto := range []string{"tcp", "udp"} {
			mappings = append(mappings, map[string]any{"hostPort": hostPortA, "containerPort": lab.Port, "protocol": proto})
		}
		p.Capabilities["portMappings"] = mappings
	}
	if w.Options.Overlay != lab.NoOverlay {
		return p, w.attachToOverlay(n, p)
	}
	network := n.Conflist()
	if name == w.Config.Second {
		network = n.SecondConflist()
	}
	if err := n.AddTo(network, p); err != nil {
		return nil, err
	}
	return p, w.filter(n, p.HostEnd())
}

func (w *World) filter(n *lab.Node, end string) error {
	if end == "" {
		return nil
	}
	return n.Sysctl(map[string]string{"net/ipv4/conf/" + end + "/rp_filter": fmt.Sprint(w.Options.RPFilter)})
}

// attachOverlay makes a pod with the overlay's interface alone, if there is an overlay.
func (w *World) attachOverlay(n *lab.Node, name string) (*lab.Pod, error) {
	if w.Options.Overlay == lab.NoOverlay {
		return nil, nil
	}
	p, err := n.NewPod(name)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(n.AddOverlay(p), w.filter(n, p.Peer))
}

// attachToOverlay gives a pod eth0 of the overlay and its interfaces on the wires. The address that it is known by is
// net1's.
func (w *World) attachToOverlay(n *lab.Node, p *lab.Pod) error {
	if err := n.AddOverlay(p); err != nil {
		return err
	}
	if err := n.Add(p); err != nil {
		return err
	}
	if w.Options.SecondWire {
		p.IfName = "net2"
		if err := n.AddTo(n.Net2Conflist(), p); err != nil {
			return err
		}
		p.IfName = "net1"
	}
	p.Addr = p.At["net1"]
	return w.filter(n, p.Peer)
}

// serve makes the Services, one for each machine that is a backend.
func (w *World) serve() error {
	all := []lab.Service{
		{Name: "a", Endpoint: w.A.Addr, Port: lab.Port, NodePort: nodePortA, HostPort: hostPortA, Balancer: lab.LoadBalancer, Local: true},
		{Name: "b", Endpoint: w.B.Addr, Port: lab.Port},
		{Name: "c", Endpoint: w.C.Addr, Port: lab.Port, NodePort: nodePortC},
		{Name: "n1", Endpoint: w.N1.Addr, Port: lab.Port},
		{Name: "n2", Endpoint: w.N2.Addr, Port: lab.Port},
		{Name: "outside", Endpoint: w.Outside.Addr, Port: lab.Port},
		{Name: "closed-a", Endpoint: w.A.Addr, Port: closedPort, NodePort: nodePortNo, Local: true},
		{Name: "closed-c", Endpoint: w.C.Addr, Port: closedPort},
	}
	if w.Options.Overlay != lab.NoOverlay {
		all = append(all, lab.Service{Name: "o1", Endpoint: w.O1.Addr, Port: lab.Port}, lab.Service{Name: "o2", Endpoint: w.O2.Addr, Port: lab.Port})
	}
	w.services = map[string]lab.Service{}
	cluster := lab.Pair{V4: lab.ServiceCIDR[lab.IPv4].Addr(), V6: lab.ServiceCIDR[lab.IPv6].Addr()}
	for i := range all {
		cluster = lab.Pair{V4: cluster.V4.Next(), V6: cluster.V6.Next()}
		all[i].Cluster = cluster
		if w.Config.Portmap {
			all[i].HostPort = 0
		}
		w.services[all[i].Name] = all[i]
	}
	return errors.Join(w.N1.KubeProxy(w.Config.Flavour, all), w.N2.KubeProxy(w.Config.Flavour, all))
}

// target is the address and the port of a machine or of a way into a Service, on the first node.
func (w *World) target(name string, f lab.Family) netip.AddrPort {
	kind, service, _ := strings.Cut(name, "/")
	s := w.services[service]
	switch kind {
	case "svc":
		return netip.AddrPortFrom(s.Cluster.Of(f), lab.ServicePort)
	case "lb":
		return netip.AddrPortFrom(s.Balancer.Of(f), lab.ServicePort)
	case "nodeport":
		return netip.AddrPortFrom(w.N1.Addr.Of(f), s.NodePort)
	case "hostport":
		return netip.AddrPortFrom(w.N1.Addr.Of(f), hostPortA)
	default:
		return netip.AddrPortFrom(w.addr(name).Of(f), lab.Port)
	}
}

// addr is the address of a machine; that of one of a pod's interfaces is eth0/a, that of a machine on the second wire
// wire2/n1.
func (w *World) addr(name string) lab.Pair {
	iface, machine, found := strings.Cut(name, "/")
	switch {
	case !found:
		return w.machines[name].Addr
	case iface == "wire2":
		return lab.OnSecondWire(w.machines[machine].Addr)
	default:
		return map[string]*lab.Pod{"a": w.A, "b": w.B, "c": w.C, "o1": w.O1, "o2": w.O2}[machine].At[iface]
	}
}
