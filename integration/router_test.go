package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// TestRouterPaths is the table of paths for router: on each overlay, for each kind of pod interface, beside each flavour of
// kube-proxy, in each mode of the nodes' rp_filter. The backend makes one rule, in the pod, which knows of nothing outside
// it: with iptables the nodes are the strict ones.
func TestRouterPaths(t *testing.T) {
	for _, overlay := range lab.Overlays {
		for _, parent := range lab.Parents {
			for _, backend := range paths.Backends {
				for _, flavour := range lab.Flavours {
					for rpFilter := range 3 {
						if backend != paths.NFTables && rpFilter != 1 {
							continue
						}
						runTable(t, fmt.Sprintf("%s %s %s %s rp_filter %d", overlay, backend, parent, flavour, rpFilter), paths.Config{
							Plugin: "router", Backend: backend, Flavour: flavour,
							Options: lab.Options{Overlay: overlay, Parent: parent, RPFilter: rpFilter},
						})
					}
				}
			}
		}
	}
}

// TestRouterPathsElsewhere is row 16 for router, and what else its worlds may be like. With iptables it is those worlds
// alone in which the pod's side of it is another, on one overlay.
func TestRouterPathsElsewhere(t *testing.T) {
	for _, world := range append(underlayVariations(), []variation{
		{"net2", func(c *paths.Config) { c.SecondWire = true }},
		{"net2, IPv4 only", func(c *paths.Config) { c.SecondWire, c.Stack = true, lab.OnlyIPv4 }},
		{"net2, IPv6 only", func(c *paths.Config) { c.SecondWire, c.Stack = true, lab.OnlyIPv6 }},
		{"net2, all of it", func(c *paths.Config) { c.SecondWire, c.VIP, c.ARPIgnore, c.SrcValidMark = true, true, 1, 1 }},
		{"migrate_route 0", func(c *paths.Config) { c.Edit = migrateNever }},
		{"migrate_route 0, net2", func(c *paths.Config) { c.SecondWire, c.Edit = true, migrateNever }},
		{"migrate_route 1, net2", func(c *paths.Config) { c.SecondWire, c.Edit = true, option("migrate_route", 1) }},
		{"host_route false", func(c *paths.Config) { c.Edit = option("host_route", false) }},
		{"host_route false, net2", func(c *paths.Config) { c.SecondWire, c.Edit = true, option("host_route", false) }},
		{"an overlay of IPv4", func(c *paths.Config) { c.OverlayStack = lab.OnlyIPv4 }},
		{"an overlay of IPv4, net2", func(c *paths.Config) { c.OverlayStack, c.SecondWire = lab.OnlyIPv4, true }},
		{"no underlay gateway", func(c *paths.Config) { c.NoGateway = true }},
	}...) {
		for _, overlay := range lab.Overlays {
			for _, backend := range paths.Backends {
				inPod := strings.Contains(world.name, "all of it") || strings.Contains(world.name, "only") || strings.Contains(world.name, "in the pod")
				if backend != paths.NFTables && (!inPod || overlay != lab.Calico) {
					continue
				}
				c := paths.Config{Plugin: "router", Backend: backend, Flavour: lab.NFT, Options: lab.Options{Overlay: overlay, RPFilter: 1}}
				world.change(&c)
				runTable(t, fmt.Sprintf("%s, %s, %s", world.name, overlay, backend), c)
			}
		}
	}
}

// migrateNever is for an IPAM plugin that names no default route: one that it names, macvlan puts in front of the
// overlay's (IPv4) or beside it (IPv6), and nothing moves it from there.
func migrateNever(c *lab.Conflist) {
	option("migrate_route", 0)(c)
	if ipam, ok := c.Plugins[0]["ipam"].(map[string]any); ok {
		delete(ipam, "routes")
	}
}

// TestRouterWildcardUDP is a limit. A program whose UDP socket is bound to no address, and that does not tell the kernel
// which of the pod's addresses was asked, answers from that of the interface by which the answer leaves: eth0's for the
// node and the overlay. Others are served: the wire, and who comes by the node with an address of his own.
func TestRouterWildcardUDP(t *testing.T) {
	t.Parallel()
	w, err := paths.New(paths.Config{Plugin: "router", Flavour: lab.NFT, Options: lab.Options{Overlay: lab.Calico, RPFilter: 1}})
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	p := newPod(t, w.N1, "wildcard")
	must(t, w.N1.AddOverlay(p))
	must(t, w.N1.Add(p))
	_, err = p.Serve()
	must(t, err)
	const nodePort = 30090
	var asking sync.WaitGroup
	must(t, w.N1.KubeProxy(lab.NFT, []lab.Service{{Name: "wildcard", Endpoint: p.Addr, Port: lab.Port, NodePort: nodePort, Local: true}}))
	for _, f := range lab.DualStack {
		pod, port := netip.AddrPortFrom(p.Addr.Of(f), lab.Port), netip.AddrPortFrom(w.N1.Addr.Of(f), nodePort)
		for _, ask := range []struct {
			from   *lab.Namespace
			to     netip.AddrPort
			answer bool
		}{
			{w.Client, pod, true},
			{w.Outside, pod, true},
			{w.N2.Namespace, pod, true},
			{w.Outside, port, true},
			{w.N1.Namespace, pod, false},
			{w.O1.Namespace, pod, false},
		} {
			asking.Go(func() {
				if _, err := ask.from.Ask(lab.UDP, ask.to); (err == nil) != ask.answer {
					t.Errorf("%s asks %s: %v, want an answer: %t", ask.from.Name, ask.to, err, ask.answer)
				}
			})
		}
	}
	asking.Wait()
}
