package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
	"underlay-cni/plugin/underlay"
)

// A guest is an interface that comes to a pod with an overlay, and what matters for who has main.
type guest struct {
	*NIC
	brings bool // a default route; or only the gateway that host-local always names
	mode   int  // migrate_route
}

func (g *guest) pairs(w *Trial) []any {
	prev := g.PrevResult(w.Pod, "1.0.0")
	if !g.brings {
		delete(prev, "routes")
	}
	return []any{"migrate_route", g.mode, "prevResult", prev}
}

// takes tells whether the interface is to have main in a family, if another has it now.
func (g *guest) takes(v6 bool, from string) bool {
	return g.has(v6) && (g.mode == 1 || underlay.Before(from, g.Name))
}

// has tells whether the interface can have main in a family at all.
func (g *guest) has(v6 bool) bool {
	return g.brings && g.mode != 0 && map[bool]bool{false: g.V4, true: g.V6}[v6]
}

// TestLastDefault: whatever the families, the defaults and the modes of net1 and net2, and in whatever order they come and go, each
// family has a default route in main after each step: that of the one who is to have it. At the end all is as before.
func TestLastDefault(t *testing.T) {
	type variety struct {
		brings bool
		mode   int
	}
	var varieties []variety
	for _, brings := range []bool{true, false} {
		for _, mode := range []int{-1, 0, 1} {
			varieties = append(varieties, variety{brings, mode})
		}
	}
	for _, of := range [][2]Stack{{Dual, Dual}, {Only4, Dual}, {Dual, Only6}, {Only4, Only6}} {
		for i, first := range varieties {
			for k, later := range varieties {
				t.Run(fmt.Sprintf("%s %v, %s %v", of[0].Name, first, of[1].Name, later), func(t *testing.T) {
					t.Parallel()
					net1, net2 := &guest{Net1(of[0]), first.brings, first.mode}, &guest{Net2(of[1]), later.brings, later.mode}
					w := calico.New(t, Dual, "")
					before := ptp.Lasting(w.Show(t))
					for n, orders := range [][2][]*guest{{{net1, net2}, {net1, net2}}, {{net1, net2}, {net2, net1}}, {{net2, net1}, {net1, net2}}} {
						if of != [2]Stack{Dual, Dual} && n != (i+k)%3 {
							continue // the families are independent of each other
						}
						comeAndGo(t, w, orders[0], orders[1])
						Same(t, "at the end", before, ptp.Lasting(w.Show(t)))
					}
				})
			}
		}
	}
}

// comeAndGo attaches interfaces in one order and detaches them in another.
func comeAndGo(t *testing.T, w *Trial, come, goes []*guest) {
	t.Helper()
	var there []*guest
	has := map[bool]string{false: "eth0", true: "eth0"}
	look := func(after string) {
		t.Helper()
		out4, out6, _ := strings.Cut(w.Sh(t, "pod ip route show default; echo IPv6; pod ip -6 route show default"), "IPv6\n")
		for v6, out := range map[bool]string{false: out4, true: out6} {
			if strings.Count(out, "default") != 1 || !strings.Contains(out, "dev "+has[v6]+" ") {
				t.Errorf("%s: main is to be %s's:\n%s", after, has[v6], out)
			}
		}
		for _, g := range there {
			w.Check(t, g.NIC, g.pairs(w)...)
		}
	}
	for _, g := range come {
		w.Sh(t, g.MakeBare())
		there = append(there, g)
		for v6, from := range has {
			if g.takes(v6, from) {
				has[v6] = g.Name
			}
		}
		w.Add(t, g.NIC, g.pairs(w)...)
		look("after ADD of " + g.Name)
		for _, g := range there {
			w.Add(t, g.NIC, g.pairs(w)...)
		}
		look("after ADD of all again")
	}
	for _, g := range goes {
		there = slices.DeleteFunc(there, func(other *guest) bool { return other == g })
		for v6, from := range has {
			if from != g.Name {
				continue
			}
			has[v6] = "eth0"
			for _, heir := range there { // one at most
				if heir.has(v6) {
					has[v6] = heir.Name
				}
			}
		}
		w.Del(t, g.NIC, g.pairs(w)...)
		w.Sh(t, "pod ip link del "+g.Name)
		look("after DEL of " + g.Name)
	}
}

// TestDeafToAdvertised: an interface without a default route takes none beside that of another, and no CHECK minds.
func TestDeafToAdvertised(t *testing.T) { ptp.DeafToAdvertised(t) }

// TestNodeLacksFamily: routes move in a family that the node does not have, too; also where the overlay has it.
func TestNodeLacksFamily(t *testing.T) {
	calico.NodeLacksFamily(t, MissingRow{Name: "a node with IPv4 only, all else with both", Node: Only4, First: Dual, Later: Dual, Before: calico.Before(Dual)})
}
