package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// TestRouterRouteGet is lesson 17 behind the real plugins, whose routes are not those of a script: macvlan adds its
// default route beside the overlay's, ptp a subnet of its own. Each line is a class of destination: by which interface it
// leaves, from each of the pod's addresses and from none, which is the kernel's choice.
func TestRouterRouteGet(t *testing.T) {
	const last = "the last"
	classes := []struct {
		name, to           string
		none, eth0         string
		net1, net2         string
		without1, without2 string // from none or from net1, while the pod has no net1, or no net2
	}{
		{name: "the node", to: "n1", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "the node's other address", to: "n1 wire2", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "a Service", to: "service", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "an overlay pod on this node", to: "b", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "an overlay pod on another node", to: "o2", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "an additional subnet", to: "further", none: "eth0", eth0: "eth0", net1: "eth0", net2: "eth0"},
		{name: "a neighbour of net1", to: "client", none: "net1", eth0: "eth0", net1: "net1", net2: "net1", without1: "eth0"},
		{name: "another node", to: "n2", none: "net1", eth0: "eth0", net1: "net1", net2: "net1", without1: "eth0"},
		{name: "a pod on the wire", to: "c", none: "net1", eth0: "eth0", net1: "net1", net2: "net1", without1: "eth0"},
		{name: "a neighbour of net2", to: "client2", none: "net2", eth0: "eth0", net1: "net1", net2: "net2", without2: last},
		{name: "outside", to: "outside", none: last, eth0: "eth0", net1: "net1", net2: "net2"},
	}
	for _, overlay := range lab.Overlays {
		t.Run(string(overlay), func(t *testing.T) {
			t.Parallel()
			w, err := paths.New(paths.Config{Plugin: "router", Flavour: lab.NFT, Options: lab.Options{Overlay: overlay, SecondWire: true}})
			must(t, err)
			t.Cleanup(func() { must(t, w.Close()) })
			two := newPod(t, w.N1, "two")
			must(t, w.N1.AddOverlay(two))
			must(t, w.N1.Add(two))
			targets := map[string]lab.Pair{
				"n1": w.N1.Addr, "n1 wire2": lab.OnSecondWire(w.N1.Addr), "n2": w.N2.Addr, "b": w.B.At["eth0"], "o2": w.O2.Addr, "c": w.C.Addr,
				"client": w.Client.Addr, "client2": w.Client2.Addr, "outside": w.Outside.Addr, "further": paths.Further,
				"service": {V4: lab.ServiceCIDR[lab.IPv4].Addr().Next(), V6: lab.ServiceCIDR[lab.IPv6].Addr().Next()},
			}
			for _, p := range []*lab.Pod{w.O1, two, w.A} {
				interfaces := []string{"eth0", "net1", "net2"}[:len(p.At)]
				for _, class := range classes {
					for _, from := range append([]string{""}, interfaces...) {
						want := map[string]string{"": class.none, "eth0": class.eth0, "net1": class.net1, "net2": class.net2}[from]
						if missing := map[string]string{"net1": class.without1, "net2": class.without2}[want]; missing != "" && !slices.Contains(interfaces, want) {
							want = missing
						}
						if want == last {
							want = interfaces[len(interfaces)-1]
						}
						for _, f := range lab.DualStack {
							t.Run(fmt.Sprintf("%s, from %q to %s, %s", strings.Join(interfaces, " "), from, class.name, f), func(t *testing.T) {
								by, src := routeGet(t, p, targets[class.to].Of(f), p.At[from].Of(f))
								if by != want {
									t.Errorf("leaves by %s, want %s", by, want)
								}
								if addr := p.At[want].Of(f); from == "" && src != addr.String() {
									t.Errorf("has the source %s, want %s", src, addr)
								}
							})
						}
					}
				}
			}
		})
	}
}

// routeGet asks the pod's kernel by which interface and with which source a destination is reached.
func routeGet(t *testing.T, p *lab.Pod, to, from netip.Addr) (by, src string) {
	t.Helper()
	args := []string{"route", "get", to.String()}
	if from.IsValid() {
		args = append(args, "from", from.String())
	}
	out, err := p.Run("ip", args...)
	must(t, err)
	words := strings.Fields(out)
	value := func(key string) string {
		if i := slices.Index(words, key); i >= 0 && i+1 < len(words) {
			return words[i+1]
		}
		return ""
	}
	return value("dev"), value("src")
}
