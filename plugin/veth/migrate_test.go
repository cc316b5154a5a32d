package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// TestMigrateRoute: what the pod's main table and the interface's own have, for each value, with defaults of each kind.
func TestMigrateRoute(t *testing.T) {
	const (
		rule4, rule6 = "1024: from 10.10.30.53 lookup 200", "1024: from fd30::53 lookup 200"
		own4, own6   = "default via 10.10.30.1 dev net1 table 200", "default via fd30::1 dev net1 table 200 metric 1024 pref medium"
		first4       = "default via 10.10.20.1 dev eth0"
		first6       = "default via fd20::1 dev eth0 metric 1024 pref medium"
		main4        = "default via 10.10.30.1 dev net1 metric 50"
		main6        = "default via fd30::1 dev net1 metric 50 pref medium"
	)
	for _, test := range []struct {
		name   string
		mode   int
		first  Stack
		script string // after eth0 and net1 have been made
		want   string // all default routes of main and of the table, and the rules
	}{
		{"-1, net1's default known by its gateway only", -1, Dual, "", lines(own4, first4, own6, first6, rule4, rule6)},
		{"1, the same", 1, Dual, "", lines(own4, first4, own6, first6, rule4, rule6)},
		{"0, the same", 0, Dual, "", lines(own4, first4, own6, first6)},
		{
			"-1, net1 has defaults of its own", -1, Dual,
			"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", first4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", first6, rule4, rule6),
		},
		{
			"0, net1 has defaults of its own", 0, Dual,
			"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", first4, main4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", main6, first6),
		},
		{
			"-1, the first has no default", -1, Dual,
			"pod ip route del default; pod ip -6 route del default; pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", main4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", main6, rule4, rule6),
		},
		{
			"1, the first has no default", 1, Dual,
			"pod ip route del default; pod ip -6 route del default; pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", "default via fd30::1 dev net1 table 200 metric 50 pref medium", rule4, rule6),
		},
		{
			"-1, ECMP", -1, Dual,
			`pod ip route add default metric 50 nexthop via 10.10.30.1 dev net1 nexthop via 10.10.30.2 dev net1
			pod ip -6 route add default metric 50 nexthop via fd30::1 dev net1 nexthop via fd30::2 dev net1`,
			lines("default table 200 metric 50 nexthop via 10.10.30.1 dev net1 weight 1 nexthop via 10.10.30.2 dev net1 weight 1", first4,
				"default table 200 metric 50 pref medium nexthop via fd30::1 dev net1 weight 1 nexthop via fd30::2 dev net1 weight 1", first6, rule4, rule6),
		},
		{
			"-1, by router advertisement", -1, Dual, "pod ip -6 route add default via fe80::1 dev net1 proto ra metric 1023",
			lines(own4, first4, "default via fe80::1 dev net1 table 200 proto ra metric 1023 pref medium", first6, rule4, rule6),
		},
		{
			"-1, the first has IPv4 only", -1, Only4, "",
			lines(own4, first4, own6, "default via fd30::1 dev net1 metric 1024 pref medium", rule4, rule6),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, later := Eth0(test.first), Net1(Dual)
			w := subject.New(t, Dual, "", first)
			w.Add(t, first)
			w.Sh(t, later.Make()+test.script)
			for range 2 { // the second finds what the first has moved
				w.Add(t, later, "migrate_route", test.mode)
				Same(t, "default routes and rules", strings.Split(strings.ReplaceAll(test.want, " table 200", ""), "\n"), w.DefaultsAndRules(t))
				w.Check(t, later, "migrate_route", test.mode)
				w.Check(t, first)
			}
			connected := w.Sh(t, "pod ip route show table 200; pod ip route show table main")
			if strings.Count(connected, "10.10.30.0/24 dev net1") != 2 {
				t.Errorf("the connected route is copied, not moved:\n%s", connected)
			}
		})
	}
}

func lines(all ...string) string { return strings.Join(all, "\n") }

// TestMigrateByName: -1 moves nothing of an interface whose name comes first.
func TestMigrateByName(t *testing.T) {
	first, later := Net1(Dual), Eth0(Dual)
	w := subject.New(t, Dual, "", first)
	w.Add(t, first)
	w.Come(t, later)
	w.Check(t, later)
	if out := w.Sh(t, "pod ip rule"); strings.Contains(out, "1024:") {
		t.Error(out)
	}
	if out := w.Sh(t, "pod ip route show default"); !strings.Contains(out, "10.10.30.1 dev net1") {
		t.Error(out)
	}
}

// TestRouteTableStart: tables of the kernel's own and ours for answers are passed over, and so is one of somebody else's.
func TestRouteTableStart(t *testing.T) {
	for _, test := range []struct {
		start, table int
		script       string
	}{
		{1, 1, ""},
		{252, 252, ""},
		{300, 300, ""},
		{512, 513, ""},
		{2147483647, 2147483647, ""},
		{200, 201, "pod ip route add 192.0.2.0/24 dev lo table 200"},
		{252, 256, "pod ip route add 192.0.2.0/24 dev lo table 252"},
	} {
		t.Run(fmt.Sprint(test.start, test.script), func(t *testing.T) {
			t.Parallel()
			first, later := Eth0(Only4), Net1(Only4)
			w := subject.New(t, Only4, test.script, first)
			w.Add(t, first, "route_table_start", test.start)
			w.Sh(t, later.Make())
			for range 2 {
				w.Add(t, later, "route_table_start", test.start)
			}
			if out := w.Sh(t, "pod ip rule"); !strings.Contains(out, fmt.Sprintf("from 10.10.30.53 lookup %d\n", test.table)) {
				t.Error(out)
			}
		})
	}
}

// TestResult: the interfaces are appended, host end first; ips are as they were; a default route that has left the main
// table is no route of the result any more.
func TestResult(t *testing.T) {
	first, later := Eth0(Dual), Net1(Dual)
	w := subject.New(t, Dual, "", first)
	for _, n := range []*NIC{first, later} {
		if n == later {
			w.Sh(t, n.Make()+"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50")
		}
		var got types100.Result
		Must(t, json.Unmarshal([]byte(w.Add(t, n)), &got))
		var names, ips []string
		for _, i := range got.Interfaces {
			names = append(names, fmt.Sprint(i.Name, " ", i.Sandbox != ""))
		}
		for _, ip := range got.IPs {
			ips = append(ips, fmt.Sprint(ip.Address.String(), " ", *ip.Interface))
		}
		Same(t, "interfaces", []string{n.Name + " true", hostEnd(ID) + " false", "veth0 true"}, names)
		Same(t, "ips", []string{n.Addr4 + "/24 0", n.Addr6 + "/64 0"}, ips)
		if want := map[*NIC]int{first: 2}[n]; len(got.Routes) != want {
			t.Errorf("%s: routes: %v", n.Name, got.Routes)
		}
	}
}

// TestNodeAddresses: those of interfaces on the side of containers are left out, and of those that are down.
func TestNodeAddresses(t *testing.T) {
	const script = `
		for i in vethdead tap0 cali1 lxc1 cni0 docker0 br-abc kube-ipvs0 flannel.1 tunl0 vxlan.calico down0 my-cni0 xcali1; do
			n=$((n+1)); ip link add $i up type veth peer name o$n; ip link set o$n up; ip addr add 10.77.0.$n/32 dev $i
		done
		ip link set down0 down
		ip addr add 10.77.1.1/32 dev lo; ip addr add 169.254.25.10/32 dev lo; ip addr add 169.254.7.7/16 dev enp30 scope link`
	n := Eth0(Only4)
	w := subject.New(t, Only4, script, n)
	w.Add(t, n)
	w.Check(t, n)
	var got []string
	for line := range strings.Lines(w.Sh(t, "pod ip route show dev veth0 | grep -v via | sort -V")) {
		got = append(got, strings.Fields(line)[0])
	}
	Same(t, "node addresses", []string{"10.10.20.152", "10.10.30.152", "10.10.40.152", "10.77.0.13", "10.77.0.14", "10.77.1.1", "169.254.25.10"}, got)
}
