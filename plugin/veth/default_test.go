package main

import (
	"fmt"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth/veth"
)

// newGuests are eth0, net1 and net2 in a pod that has nothing: the first to bring a default route has main, unless migrate_route 1 takes
// its own away at once; and the first of those inherits that have one in a table of their own which a rule leads to.
func newGuests() *Guests {
	return &Guests{
		Main: map[bool]string{},
		Takes: func(g *Guest, v6 bool, from string) bool {
			return from == "" && g.Has(v6) && (g.Name == "eth0" || g.Mode != 1)
		},
		Heir: func(there []*Guest, v6 bool) string {
			for _, g := range there {
				if g.Has(v6) && g.Name != "eth0" && g.Mode != 0 {
					return g.Name
				}
			}
			return ""
		},
	}
}

// TestLastDefault: whatever the families, the defaults and the modes of eth0, net1 and net2, and in whatever order they go, each
// family that had a default route in main has one after each step, if an interface is left that has one: the first by name. At
// the end all is as before.
func TestLastDefault(t *testing.T) {
	for _, of := range [][3]Stack{{Dual, Dual, Dual}, {Only4, Dual, Dual}, {Dual, Only4, Only6}, {Only4, Only6, Dual}} {
		for turn, first := range map[int]bool{0: true, 3: false} {
			for i, second := range Varieties() {
				for k, third := range Varieties() {
					if of != [3]Stack{Dual, Dual, Dual} && (!second.Brings || !third.Brings) {
						continue // the families are independent of each other
					}
					t.Run(fmt.Sprintf("%s %v, %s %v, %s %v", of[0].Name, first, of[1].Name, second, of[2].Name, third), func(t *testing.T) {
						t.Parallel()
						eth0, net1, net2 := Variety{Brings: first, Mode: -1}.Guest(Eth0(of[0])), second.Guest(Net1(of[1])), third.Guest(Net2(of[2]))
						w := subject.New(t, Dual, "")
						before := subject.Lasting(w.Show(t))
						goes := [][]*Guest{ // each order with some of all
							{net1, eth0, net2}, {eth0, net1, net2}, {net1, net2, eth0}, {eth0, net2, net1}, {net2, eth0, net1}, {net2, net1, eth0},
						}[(i+k+turn)%6]
						newGuests().ComeAndGo(t, w, []*Guest{eth0, net1, net2}, goes)
						Same(t, "at the end", before, subject.Lasting(w.Show(t)))
					})
				}
			}
		}
	}
}

// TestDeafToAdvertised: an interface without a default route takes none beside that of another, and no CHECK minds.
func TestDeafToAdvertised(t *testing.T) { subject.DeafToAdvertised(t) }

// TestNodeLacksFamily: routes move in a family that the node does not have, too.
func TestNodeLacksFamily(t *testing.T) { subject.NodeLacksFamily(t) }

// TestStayingKeepsMain: underlayctl takes main from no interface, which stays in the pod; DEL of the same one gives it to an heir.
func TestStayingKeepsMain(t *testing.T) {
	eth0, net1, net2 := Eth0(Dual), Net1(Dual), Net2(Dual)
	w := subject.New(t, Dual, eth0.MakeBare())
	w.Add(t, eth0, "prevResult", eth0.BareResult(w.Pod, "1.0.0"))
	for _, n := range []*NIC{net1, net2} {
		w.Come(t, n)
	}
	for name, test := range map[string]struct {
		end  func(*plugin.Request) (*plugin.Plan, error)
		want int
	}{
		"DEL":       {subject.Plugin.Del, 2},
		"uninstall": {func(r *plugin.Request) (*plugin.Plan, error) { return veth.DelUse(r, subject.Traces(net1)[0], nil) }, 0},
	} {
		plan := w.Plan(t, plugin.Plugin{Add: test.end}, plugin.Attachment{Network: net1.Network, ContainerID: net1.Container, IfName: net1.Name}, w.Request(net1))
		if strings.Count(plan, "route replace default via") != test.want {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
}

// TestFirstComesBack: the first interface comes back with its default routes, in front of those of its heir or beside them, as the macvlan
// plugin puts them: main is its alone again.
func TestFirstComesBack(t *testing.T) {
	eth0, net1 := Eth0(Dual), Net1(Dual)
	w := subject.New(t, Dual, "", eth0)
	w.Add(t, eth0)
	w.Come(t, net1)
	w.Del(t, eth0)
	w.Sh(t, "pod ip link del eth0; "+eth0.Make()+"pod ip route prepend default via 10.10.20.1 dev eth0; pod ip -6 route append default via fd20::1 dev eth0")
	for range 2 {
		w.Add(t, eth0)
		out := w.Sh(t, "pod ip route show default; pod ip -6 route show default")
		if strings.Count(out, "dev eth0") != 2 || strings.Contains(out, "net1") {
			t.Errorf("main is to be eth0's:\n%s", out)
		}
		w.Check(t, eth0)
		w.Check(t, net1)
	}
}
