package plugintest

import (
	"slices"
	"strings"
	"testing"
)

// A Guest is an interface that comes to a pod, and what matters for who has the default route of main.
type Guest struct {
	*NIC
	Variety
}

// Has tells whether it brings a default route in a family.
func (g *Guest) Has(v6 bool) bool {
	return g.Brings && map[bool]bool{false: g.V4, true: g.V6}[v6]
}

// Guests are interfaces that come and go, and who is to have main's default route of each family; in the beginning, and "" is nobody.
type Guests struct {
	Main  map[bool]string
	Takes func(g *Guest, v6 bool, from string) bool    // a new one, from who has it
	Heir  func(there []*Guest, v6 bool) (after string) // when who has it goes; of who stays, in the order in which they came

	Gateways bool // the IPAM plugin names one also where it gives no default route, as host-local does
}

func (g *Guests) pairs(w *Trial, guest *Guest) []any {
	prev := guest.PrevResult(w.Pod, "1.0.0")
	switch {
	case guest.Brings:
	case g.Gateways:
		delete(prev, "routes")
	default:
		prev = guest.BareResult(w.Pod, "1.0.0")
	}
	return []any{"migrate_route", guest.Mode, "prevResult", prev}
}

// ComeAndGo attaches interfaces in one order and detaches them in another. After each step main has the default route that it is to
// have, and CHECK of all finds nothing.
func (g *Guests) ComeAndGo(t *testing.T, w *Trial, come, goes []*Guest) {
	t.Helper()
	var there []*Guest
	look := func(after string) {
		t.Helper()
		out4, out6, _ := strings.Cut(w.Sh(t, "pod ip route show default; echo IPv6; pod ip -6 route show default"), "IPv6\n")
		for v6, out := range map[bool]string{false: out4, true: out6} {
			want := 0
			if g.Main[v6] != "" {
				want = 1
			}
			if strings.Count(out, "default") != want || !strings.Contains(out, strings.Repeat("dev "+g.Main[v6]+" ", want)) {
				t.Errorf("%s: main is to be %q's:\n%s", after, g.Main[v6], out)
			}
		}
		for _, guest := range there {
			w.Check(t, guest.NIC, g.pairs(w, guest)...)
		}
	}
	for _, guest := range come {
		if guest.Brings {
			w.Sh(t, guest.Make())
		} else {
			w.Sh(t, guest.MakeBare())
		}
		there = append(there, guest)
		for _, v6 := range []bool{false, true} {
			if g.Takes(guest, v6, g.Main[v6]) {
				g.Main[v6] = guest.Name
			}
		}
		w.Add(t, guest.NIC, g.pairs(w, guest)...)
		look("after ADD of " + guest.Name)
		for _, guest := range there {
			w.Add(t, guest.NIC, g.pairs(w, guest)...)
		}
		look("after ADD of all again")
	}
	for _, guest := range goes {
		there = slices.DeleteFunc(there, func(other *Guest) bool { return other == guest })
		for v6, from := range g.Main {
			if from == guest.Name {
				g.Main[v6] = g.Heir(there, v6)
			}
		}
		w.Del(t, guest.NIC, g.pairs(w, guest)...)
		w.Sh(t, "pod ip link del "+guest.Name)
		look("after DEL of " + guest.Name)
	}
}

// A Variety is how a Guest comes.
type Variety struct {
	Brings bool // a default route
	Mode   int  // migrate_route
}

// Guest is an interface that comes so.
func (v Variety) Guest(n *NIC) *Guest { return &Guest{n, v} }

// Varieties are all of them.
func Varieties() (all []Variety) {
	for _, brings := range []bool{true, false} {
		for mode := -1; mode <= 1; mode++ {
			all = append(all, Variety{brings, mode})
		}
	}
	return all
}
