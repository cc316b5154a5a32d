package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// A guest is an interface of a pod, and what matters for who has main.
type guest struct {
	*NIC
	brings bool // a default route
	mode   int  // migrate_route
	first  bool // its default route stays in main
}

func (g *guest) make() string {
	if g.brings {
		return g.Make()
	}
	return g.MakeBare()
}

func (g *guest) pairs(w *Trial) []any {
	prev := g.PrevResult(w.Pod, "1.0.0")
	if !g.brings {
		prev = g.BareResult(w.Pod, "1.0.0")
	}
	return []any{"migrate_route", g.mode, "prevResult", prev}
}

// has tells whether the interface brings a default route in a family.
func (g *guest) has(v6 bool) bool {
	return g.brings && map[bool]bool{false: g.V4, true: g.V6}[v6]
}

// inherits tells whether it has one in a table of its own that a rule leads to.
func (g *guest) inherits(v6 bool) bool { return g.has(v6) && !g.first && g.mode != 0 }

// TestLastDefault: whatever the families, the defaults and the modes of eth0, net1 and net2, and in whatever order they go, each
// family that had a default route in main has one after each step, if an interface is left that has one: the first by name. At
// the end all is as before.
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
	for _, of := range [][3]Stack{{Dual, Dual, Dual}, {Only4, Dual, Dual}, {Dual, Only4, Only6}, {Only4, Only6, Dual}} {
		for _, first := range []bool{true, false} {
			for i, second := range varieties {
				for k, third := range varieties {
					all := of == [3]Stack{Dual, Dual, Dual}
					if !all && (!second.brings || !third.brings) {
						continue // the families are independent of each other
					}
					t.Run(fmt.Sprintf("%s %v, %s %v, %s %v", of[0].Name, first, of[1].Name, second, of[2].Name, third), func(t *testing.T) {
						t.Parallel()
						guests := []*guest{
							{Eth0(of[0]), first, -1, true},
							{Net1(of[1]), second.brings, second.mode, false},
							{Net2(of[2]), third.brings, third.mode, false},
						}
						w := subject.New(t, Dual, "")
						before := subject.Lasting(w.Show(t))
						for n, order := range [][3]int{{1, 0, 2}, {0, 1, 2}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}, {2, 1, 0}} {
							if n == (i+k)%6 || all && n == (i+k+3)%6 {
								comeAndGo(t, w, guests, order)
								Same(t, "at the end", before, subject.Lasting(w.Show(t)))
							}
						}
					})
				}
			}
		}
	}
}

// comeAndGo attaches interfaces, and detaches them in some order.
func comeAndGo(t *testing.T, w *Trial, all []*guest, order [3]int) {
	t.Helper()
	there, has := []*guest{}, map[bool]string{}
	look := func(after string) {
		t.Helper()
		out4, out6, _ := strings.Cut(w.Sh(t, "pod ip route show default; echo IPv6; pod ip -6 route show default"), "IPv6\n")
		for v6, out := range map[bool]string{false: out4, true: out6} {
			want := 0
			if has[v6] != "" {
				want = 1
			}
			if strings.Count(out, "default") != want || !strings.Contains(out, strings.Repeat("dev "+has[v6]+" ", want)) {
				t.Errorf("%s: main is to be %q's:\n%s", after, has[v6], out)
			}
		}
		for _, g := range there {
			w.Check(t, g.NIC, g.pairs(w)...)
		}
	}
	for _, g := range all {
		w.Sh(t, g.make())
		there = append(there, g)
		for _, v6 := range []bool{false, true} {
			if g.has(v6) && has[v6] == "" && (g.first || g.mode != 1) {
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
	for _, i := range order {
		g := all[i]
		there = slices.DeleteFunc(there, func(other *guest) bool { return other == g })
		for v6, from := range has {
			if from != g.Name {
				continue
			}
			has[v6] = ""
			if heir := slices.IndexFunc(there, func(heir *guest) bool { return heir.inherits(v6) }); heir >= 0 {
				has[v6] = there[heir].Name
			}
		}
		w.Del(t, g.NIC, g.pairs(w)...)
		w.Sh(t, "pod ip link del "+g.Name)
		look("after DEL of " + g.Name)
	}
}

// TestDeafToAdvertised: an interface without a default route takes none beside that of another, and no CHECK minds.
func TestDeafToAdvertised(t *testing.T) { subject.DeafToAdvertised(t) }

// TestNodeLacksFamily: routes move in a family that the node does not have, too.
func TestNodeLacksFamily(t *testing.T) { subject.NodeLacksFamily(t) }
