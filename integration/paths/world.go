package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"underlay-cni/integration/lab"
)

// A Config is what differs between the worlds that the table is run in.
type Config struct {
	lab.Options
	Plugin  string      // under test: "veth-host" by default, or "veth"
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
	c.Edit = func(list *lab.Conflist) {
		if c.Plugin == "veth" {
			asVeth(list)
		}
		if veth := list.Plugin("veth"); veth != nil && firewall != "" {
			veth["firewall"] = firewall
		}
		if veth := list.Plugin("veth-host"); veth != nil {
			veth["ipMasq"] = c.IPMasq
			if firewall != "" {
				veth["firewall"] = firewall
			}
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

// asVeth puts veth in the place of veth-host.
func asVeth(list *lab.Conflist) {
	veth := list.Plugin("veth-host")
	services := veth["serviceCidr"]
	clear(veth)
	veth["type"], veth["service_hijack_subnet"] = "veth", services
	veth["overlay_hijack_subnet"], veth["log_options"] = []any{}, map[string]any{"log_file": "/dev/null"}
}

// populate attaches the pods, on both nodes at the same time, and starts what runs on the machines.
func (w *World) populate() error {
	var (
		one, two       sync.WaitGroup
		errOne, errTwo error
	)
	one.Go(func() {
		if w.A, errOne = w.attach(w.N1, "a"); errOne == nil {
			w.B, errOne = w.attach(w.N1, "b")
		}
	})
	two.Go(func() { w.C, errTwo = w.attach(w.N2, "c") })
	one.Wait()
	two.Wait()
	if err := errors.Join(errOne, errTwo); err != nil {
		return err
	}
	for _, m := range []*lab.Namespace{
		w.A.Namespace, w.B.Namespace, w.C.Namespace, w.N1.Namespace, w.N2.Namespace, w.Client, w.Outside, w.Thief,
	} {
		server, err := m.Serve()
		if err != nil {
			return err
		}
		w.machines[m.Name], w.servers[m.Name] = m, server
	}
	w.machines["vip"] = &lab.Namespace{Name: "the VIP of n1", Addr: lab.VIP} // a source, not a machine
	return w.serve()
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
	network := n.Conflist()
	if name == w.Config.Second {
		network = n.SecondConflist()
	}
	if err := n.AddTo(network, p); err != nil {
		return nil, err
	}
	if end := p.HostEnd(); end != "" {
		err = n.Sysctl(map[string]string{"net/ipv4/conf/" + end + "/rp_filter": fmt.Sprint(w.Options.RPFilter)})
	}
	return p, err
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
		return netip.AddrPortFrom(w.machines[name].Addr.Of(f), lab.Port)
	}
}
