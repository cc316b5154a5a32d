package main

import (
	"fmt"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
	"underlay-cni/plugin/underlay"
)

// newGuests are net1 and net2 in a pod whose eth0 has main: the last by name that brings a default route has it, with migrate_route 1
// the last to come.
func newGuests() *Guests {
	has := func(g *Guest, v6 bool) bool { return g.Has(v6) && g.Mode != 0 }
	return &Guests{
		Gateways: true,
		Main:     map[bool]string{false: "eth0", true: "eth0"},
		Takes: func(g *Guest, v6 bool, from string) bool {
			return has(g, v6) && (g.Mode == 1 || underlay.Before(from, g.Name))
		},
		Heir: func(there []*Guest, v6 bool) string {
			for _, g := range there { // one at most
				if has(g, v6) {
					return g.Name
				}
			}
			return "eth0"
		},
	}
}

// TestLastDefault: whatever the families, the defaults and the modes of net1 and net2, and in whatever order they come and go, each
// family has a default route in main after each step: that of the one who is to have it. At the end all is as before.
func TestLastDefault(t *testing.T) {
	for _, of := range [][2]Stack{{Dual, Dual}, {Only4, Dual}, {Dual, Only6}, {Only4, Only6}} {
		for i, first := range Varieties() {
			for k, later := range Varieties() {
				t.Run(fmt.Sprintf("%s %v, %s %v", of[0].Name, first, of[1].Name, later), func(t *testing.T) {
					t.Parallel()
					net1, net2 := first.Guest(Net1(of[0])), later.Guest(Net2(of[1]))
					w := calico.New(t, Dual, "")
					before := ptp.Lasting(w.Show(t))
					for n, orders := range [][2][]*Guest{{{net1, net2}, {net1, net2}}, {{net1, net2}, {net2, net1}}, {{net2, net1}, {net1, net2}}} {
						if of != [2]Stack{Dual, Dual} && n != (i+k)%3 {
							continue // the families are independent of each other
						}
						newGuests().ComeAndGo(t, w, orders[0], orders[1])
						Same(t, "at the end", before, ptp.Lasting(w.Show(t)))
					}
				})
			}
		}
	}
}

// TestDeafToAdvertised: an interface without a default route takes none beside that of another, and no CHECK minds.
func TestDeafToAdvertised(t *testing.T) { ptp.DeafToAdvertised(t) }

// TestNodeLacksFamily: routes move in a family that the node does not have, too; also where the overlay has it.
func TestNodeLacksFamily(t *testing.T) {
	calico.NodeLacksFamily(t, MissingRow{Name: "a node with IPv4 only, all else with both", Node: Only4, First: Dual, Later: Dual, Before: calico.Before(Dual)})
}

// TestTentativeNode: the overlay has just given the node an address towards the pod, which the kernel still looks for elsewhere. The
// pod's next hop is that one from the start, so that a CHECK two seconds later finds what ADD has made; or ADD is to be tried again.
func TestTentativeNode(t *testing.T) {
	for _, test := range []struct {
		name, probes string
		code         uint
	}{{"in time", "1", 0}, {"too late", "30", 11}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := Net1(Dual)
			w := ptp.New(t, Dual, `ip -6 addr del fd00:10:244:1::1/128 dev vethptp0
				sysctl -qw net/ipv6/conf/vethptp0/accept_dad=1 net/ipv6/conf/vethptp0/dad_transmits=`+test.probes, n)
			const tentative = "ip -6 addr show dev vethptp0 tentative"
			if out := w.Sh(t, "ip -6 addr add fd00:10:244:1::1/128 dev vethptp0; "+tentative); !strings.Contains(out, "fd00:10:244:1::1/128") {
				t.Fatal("there is no detection of duplicates: ", out)
			}
			if test.code != 0 {
				before := w.Show(t)
				if got := w.Verb(t, "ADD", n, w.Request(n)).Failed(t); got.Code != test.code || !strings.Contains(got.Msg, "fd00:10:244:1::1: duplicate address detection still runs on vethptp0") {
					t.Errorf("got %+v", got)
				}
				Same(t, "the kernel", before, w.Show(t))
				return
			}
			w.Add(t, n)
			if out := w.Sh(t, tentative); out != "" {
				t.Error(out)
			}
			w.Check(t, n)
			if out := w.Sh(t, "pod ip route get 2001:4860:fd00::a; pod ip neigh show nud permanent"); !strings.Contains(out, "via fd00:10:244:1::1 dev eth0") || !strings.Contains(out, "fd00:10:244:1::1 dev eth0") {
				t.Error(out)
			}
		})
	}
}
