package main

import (
	"fmt"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth/veth"
)

// ofVeth is a pod that has no overlay: eth0 and net1 are the plugin veth's.
var ofVeth = &Subject{
	Plugin: veth.Plugin(), Bin: &bin, Config: ptp.Config,
	Before: func(Stack) string { return "" },
}

// TestDelLeavesVeth: veth has the same rule for answers and the same table. A DEL of router takes nothing of it: for an interface
// that has never been there, for one whose ADD was refused, and for one that was attached by veth's pair.
func TestDelLeavesVeth(t *testing.T) {
	for _, test := range []struct {
		name string
		of   Stack
		nics []*NIC
		add  func(*testing.T, *Trial, *NIC)
	}{
		{"no interface", Dual, nil, func(*testing.T, *Trial, *NIC) {}},
		{"no interface, of a pod with two", Dual, []*NIC{Net1(Dual)}, func(*testing.T, *Trial, *NIC) {}},
		{"refused", Dual, []*NIC{Net1(Dual)}, func(t *testing.T, w *Trial, n *NIC) {
			t.Helper()
			w.Sh(t, n.Make())
			if got := w.Verb(t, "ADD", n, w.Request(n)).Failed(t); got.Code != 7 {
				t.Errorf("got %+v", got)
			}
		}},
		{"by the pair", Only4, []*NIC{Net1(Only4)}, func(t *testing.T, w *Trial, n *NIC) {
			t.Helper()
			w.Come(t, n, "overlay_interface", "veth0")
			w.Check(t, n, "overlay_interface", "veth0")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nics, n := append([]*NIC{Eth0(test.of)}, test.nics...), Net2(test.of)
			of := ofVeth.New(t, test.of, "")
			for _, n := range nics {
				of.Sh(t, n.Make())
				of.Add(t, n)
			}
			before := ptp.Lasting(of.Show(t))
			w := &Trial{World: of.World, Subject: ptp}
			test.add(t, w, n)
			for i := range 3 {
				w.Del(t, n)
				for _, n := range nics {
					of.Check(t, n)
				}
				if i == 0 {
					of.Sh(t, "pod ip link del net2 2>&- || :")
				}
			}
			Same(t, "after DEL", before, ptp.Lasting(of.Show(t)))
		})
	}
}

// TestDelLeavesNeighbour: an overlay that has a permanent neighbour for its next hop, as some of the clouds' have, keeps it, with
// and without host_route: nobody answers there.
func TestDelLeavesNeighbour(t *testing.T) {
	for _, s := range Stacks() {
		for _, hostRoute := range []bool{true, false} {
			t.Run(fmt.Sprint(s.Name, " ", hostRoute), func(t *testing.T) {
				t.Parallel()
				script, count := "", 0
				if s.V4 {
					count++
					script += "pod ip neigh add 169.254.1.1 lladdr 02:00:00:00:44:01 dev eth0 nud permanent;"
				}
				if s.V6 {
					count++
					script += "pod ip neigh add fe80::ecee:eeff:feee:eeee lladdr 02:00:00:00:44:01 dev eth0 nud permanent;"
				}
				w := calico.New(t, s, script)
				before := ptp.Lasting(w.Show(t))
				nics := []*NIC{Net1(s), Net2(s)}
				for _, n := range nics {
					w.Come(t, n, "host_route", hostRoute)
					w.Check(t, n, "host_route", hostRoute)
				}
				for _, n := range nics {
					for range 2 {
						w.Del(t, n, "host_route", hostRoute)
					}
					w.Sh(t, "pod ip link del "+n.Name)
				}
				Same(t, "at the end", before, ptp.Lasting(w.Show(t)))
				if out := w.Sh(t, "pod ip neigh show nud permanent"); strings.Count(out, " eth0 ") != count {
					t.Error(out)
				}
			})
		}
	}
}
