package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// An Overlay stands in for the cluster's default network: it makes eth0 of the pods, whose interfaces on the wire are
// then net1 and net2. It has a subnet for each node, which the nodes route to each other by the wire, as Calico and
// Cilium do without encapsulation. Nobody else knows these addresses, so the nodes translate what leaves the overlay, in
// both families.
type Overlay string

// The overlays. PTP is the plugin of that name of the CNI project, run by cnitool; its nodes translate what leaves them
// by the wire, and nothing that stays, as Cilium's do. Calico is made as Felix makes an interface: one hardware address
// for all peers, which answer for 169.254.1.1, an address without a subnet, and packets whose way back is another one
// dropped in both families; its nodes translate whatever does not go to the overlay, also to a pod's other address.
const (
	NoOverlay Overlay = ""
	PTP       Overlay = "ptp"
	Calico    Overlay = "calico"
)

// Overlays is all of them.
var Overlays = []Overlay{PTP, Calico}

// overlayName is the interface in the pods, and that of the network.
const overlayName, overlayNetwork = "eth0", "overlay"

// calicoMAC and calicoHop are the same on every node.
const (
	calicoMAC  = "ee:ee:ee:ee:ee:ee"
	calicoHop  = "169.254.1.1"
	calicoHop6 = "fe80::ecee:eeff:feee:eeee"
)

// OverlayCIDR is the range of all nodes together.
var OverlayCIDR = map[Family]netip.Prefix{IPv4: netip.MustParsePrefix("10.244.0.0/16"), IPv6: netip.MustParsePrefix("fd00:10:244::/48")}

// overlaySubnet is the range of the node: 10.244.1.0/24 of the first.
func (n *Node) overlaySubnet(f Family) netip.Prefix {
	number := n.number - int(nodeOne.V4.As4()[3]) + 1
	if f == IPv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", number))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", number))
}

// overlays prepares both nodes.
func (w *World) overlays() error {
	if w.Options.Overlay == NoOverlay {
		return nil
	}
	for _, pair := range [][2]*Node{{w.N1, w.N2}, {w.N2, w.N1}} {
		n, other := pair[0], pair[1]
		var lines []string
		for _, f := range w.Options.OverlayStack {
			lines = append(lines, fmt.Sprintf("route add %s via %s", other.overlaySubnet(f), other.Addr.Of(f)))
		}
		if err := errors.Join(n.IP(lines...), n.translateOverlay()); err != nil {
			return fmt.Errorf("make the overlay: %w", err)
		}
	}
	return nil
}

// translateOverlay makes the node's rules, with nftables where there is one.
func (n *Node) translateOverlay() error {
	calico := n.World.Options.Overlay == Calico
	if NFT.Supported() != nil {
		for _, f := range n.World.Options.OverlayStack {
			to := "! -o veth+"
			if calico {
				to = ""
			}
			line := fmt.Sprintf("-t nat -A POSTROUTING -s %s ! -d %[1]s %s -j MASQUERADE", OverlayCIDR[f], to)
			program := strings.TrimSuffix(restoreProgram(f, IPTablesLegacy), "-restore")
			if _, err := n.Run(program, strings.Fields(line)...); err != nil {
				return err
			}
		}
		return nil
	}
	var translate, foreign string
	for _, f := range n.World.Options.OverlayStack {
		to := `oifname != "veth*" `
		if calico {
			to = ""
		}
		word := map[Family]string{IPv4: "ip", IPv6: "ip6"}[f]
		translate += fmt.Sprintf("    %s%s saddr %s %[2]s daddr != %[3]s masquerade\n", to, word, OverlayCIDR[f])
	}
	if calico {
		foreign = "  chain foreign { type filter hook prerouting priority raw; iifname \"cali*\" fib saddr . mark . iif oif 0 drop; }\n"
	}
	return n.restore(fmt.Sprintf("table inet overlay {\n  chain outgoing {\n    type nat hook postrouting priority srcnat;\n%s  }\n%s}\n", translate, foreign), "nft", "-f", "-")
}

// AddOverlay gives the pod its eth0, as the runtime does before anything else. The pod notes its addresses there, and the
// name of the other end.
func (n *Node) AddOverlay(p *Pod) error {
	if n.World.Options.Overlay == Calico {
		return n.addCalico(p)
	}
	defer p.as(overlayName)()
	err := n.AddTo(n.overlayConflist(), p)
	if err == nil {
		p.Peer = p.HostEnd()
	}
	return err
}

// DelOverlay takes it away.
func (n *Node) DelOverlay(p *Pod) error {
	if n.World.Options.Overlay == Calico {
		if _, err := n.Run("ip", "link", "show", "dev", p.Peer); err != nil {
			return nil // it went with the pod
		}
		return n.IP("link del " + p.Peer)
	}
	defer p.as(overlayName)()
	return n.DelFrom(n.overlayConflist(), p)
}

// as makes the pod's next attachment that of another interface, until the function that it returns is called.
func (p *Pod) as(name string) (back func()) {
	before := p.IfName
	p.IfName = name
	return func() { p.IfName = before }
}

func (n *Node) overlayConflist() *Conflist {
	var ranges, routes []any
	for _, f := range n.World.Options.OverlayStack {
		ranges = append(ranges, []any{map[string]any{"subnet": n.overlaySubnet(f).String()}})
		routes = append(routes, map[string]any{"dst": defaultDst[f]})
	}
	return &Conflist{CNIVersion: "1.0.0", Name: overlayNetwork, Plugins: []map[string]any{{
		"type": "ptp", "mtu": n.World.Options.MTU,
		"ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes},
	}}}
}

func (n *Node) addCalico(p *Pod) error {
	number := slices.Index(n.pods, p) + 2
	p.Peer = fmt.Sprintf("cali%08x", number)
	p.Addr = Pair{}
	node := []string{
		fmt.Sprintf("link add %s address %s mtu %d type veth peer name %s mtu %[3]d netns %[5]s", p.Peer, calicoMAC, n.World.Options.MTU, overlayName, p.Path()),
		fmt.Sprintf("link set %s up", p.Peer),
	}
	pod := []string{"link set " + overlayName + " up"}
	settings := map[string]string{}
	for _, f := range n.World.Options.OverlayStack {
		addr := host(n.overlaySubnet(f), number)
		p.Addr.set(addr)
		node = append(node, fmt.Sprintf("route add %s dev %s", addr, p.Peer))
		if f == IPv4 {
			settings["net/ipv4/conf/"+p.Peer+"/proxy_arp"] = "1"
			settings["net/ipv4/neigh/"+p.Peer+"/proxy_delay"] = "0"
			pod = append(pod, fmt.Sprintf("addr add %s/32 dev %s", addr, overlayName), fmt.Sprintf("route add %s dev %s scope link", calicoHop, overlayName),
				fmt.Sprintf("route add default via %s dev %s", calicoHop, overlayName))
			continue
		}
		settings["net/ipv6/conf/"+p.Peer+"/proxy_ndp"] = "1"
		node = append(node, fmt.Sprintf("addr replace %s/64 dev %s nodad", calicoHop6, p.Peer))
		pod = append(pod, fmt.Sprintf("addr add %s/128 dev %s nodad", addr, overlayName), fmt.Sprintf("route add default via %s dev %s", calicoHop6, overlayName))
	}
	if err := errors.Join(n.IP(node...), n.Sysctl(settings), p.IP(pod...), p.awaitAddresses(p.Addr.V6)); err != nil {
		return fmt.Errorf("give %s its eth0: %w", p.Name, err)
	}
	p.note(overlayName)
	return nil
}
