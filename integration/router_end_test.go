package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/nettest"
	"underlay-cni/integration/paths"
)

// TestRouterDel takes the interfaces of a pod away one by one, in each order that there is a reason for. After each the
// others still work, and so does the pod beside it. At the end the node is as it was before the first pod, but for what
// all pods share; and the pod's namespace as a new one, but for what is no attachment's.
func TestRouterDel(t *testing.T) {
	for _, overlay := range lab.Overlays {
		for name, stack := range stacks {
			for i, order := range [][]string{{"eth0", "net1", "net2"}, {"net2", "net1", "eth0"}, {"net1", "net2", "eth0"}} {
				if i > 0 && len(stack) == 1 {
					continue // the families are independent of each other
				}
				t.Run(fmt.Sprint(overlay, " ", name, " ", strings.Join(order, " ")), func(t *testing.T) {
					t.Parallel()
					var before lab.Dump
					config := paths.Config{
						Plugin: "router", Flavour: lab.NFT,
						Options: lab.Options{Overlay: overlay, Stack: stack, SecondWire: true, RPFilter: 1},
						Prepare: func(n *lab.Node) (err error) {
							if n.Name == "n1" {
								before, err = n.Dump()
							}
							return err
						},
					}
					w, err := paths.New(config)
					must(t, err)
					t.Cleanup(func() { must(t, w.Close()) })
					left := []string{"eth0", "net1", "net2"}
					for _, iface := range order {
						must(t, detach(w.N1, w.A, iface))
						left = slices.DeleteFunc(left, func(l string) bool { return l == iface })
						if len(left) == 0 {
							break
						}
						for c := range w.Left(left...) {
							if err := c.Run(w); err != nil {
								t.Errorf("%s over %s and %s: %v", c.Name, c.Family, c.Proto, err)
							}
						}
					}
					for _, iface := range order {
						must(t, detach(w.N1, w.B, iface))
					}
					must(t, w.N1.DelOverlay(w.O1))

					after := dump(t, w.N1.Namespace)
					if lost := before.Since(after); len(lost) > 0 {
						t.Errorf("the node has lost:\n%s", lost)
					}
					fresh := newPod(t, w.N1, "fresh")
					lost := slices.DeleteFunc(dump(t, fresh.Namespace).Since(dump(t, w.A.Namespace)), func(line string) bool {
						return strings.HasPrefix(line, "sysctl ") // the golden text has its value now
					})
					if len(lost) > 0 {
						t.Errorf("the pod has lost:\n%s", lost)
					}
					stays := func(of string, d lab.Dump) string {
						d = slices.DeleteFunc(d, func(line string) bool { return strings.Contains(line, "kube-proxy") })
						return of + ":\n" + d.String()
					}
					nettest.Golden(t, "router-stays-"+name+".txt", stays("node", after.Since(before))+
						stays("pod", dump(t, w.A.Namespace).Since(dump(t, fresh.Namespace))))
				})
			}
		}
	}
}

// detach takes away one interface of a pod of the overlay.
func detach(n *lab.Node, p *lab.Pod, iface string) error {
	p.IfName = iface
	switch iface {
	case "eth0":
		return n.DelOverlay(p)
	case "net2":
		return n.DelFrom(n.Net2Conflist(), p)
	default:
		return n.Del(p)
	}
}
