package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
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
		first  stack
		script string // after eth0 and net1 have been made
		want   string // all default routes of main and of the table, and the rules
	}{
		{"-1, net1's default known by its gateway only", -1, dual, "", lines(own4, first4, own6, first6, rule4, rule6)},
		{"1, the same", 1, dual, "", lines(own4, first4, own6, first6, rule4, rule6)},
		{"0, the same", 0, dual, "", lines(own4, first4, own6, first6)},
		{
			"-1, net1 has defaults of its own", -1, dual,
			"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", first4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", first6, rule4, rule6),
		},
		{
			"0, net1 has defaults of its own", 0, dual,
			"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", first4, main4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", main6, first6),
		},
		{
			"-1, the first has no default", -1, dual,
			"pod ip route del default; pod ip -6 route del default; pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", main4, "default via fd30::1 dev net1 table 200 metric 50 pref medium", main6, rule4, rule6),
		},
		{
			"1, the first has no default", 1, dual,
			"pod ip route del default; pod ip -6 route del default; pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50",
			lines("default via 10.10.30.1 dev net1 table 200 metric 50", "default via fd30::1 dev net1 table 200 metric 50 pref medium", rule4, rule6),
		},
		{
			"-1, ECMP", -1, dual,
			`pod ip route add default metric 50 nexthop via 10.10.30.1 dev net1 nexthop via 10.10.30.2 dev net1
			pod ip -6 route add default metric 50 nexthop via fd30::1 dev net1 nexthop via fd30::2 dev net1`,
			lines("default table 200 metric 50 nexthop via 10.10.30.1 dev net1 weight 1 nexthop via 10.10.30.2 dev net1 weight 1", first4,
				"default table 200 metric 50 pref medium nexthop via fd30::1 dev net1 weight 1 nexthop via fd30::2 dev net1 weight 1", first6, rule4, rule6),
		},
		{
			"-1, by router advertisement", -1, dual, "pod ip -6 route add default via fe80::1 dev net1 proto ra metric 1023",
			lines(own4, first4, "default via fe80::1 dev net1 table 200 proto ra metric 1023 pref medium", first6, rule4, rule6),
		},
		{
			"-1, the first has IPv4 only", -1, only4, "",
			lines(own4, first4, own6, "default via fd30::1 dev net1 metric 1024 pref medium", rule4, rule6),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, later := eth0(test.first), net1(dual)
			w := newWorld(t, dual, "", first)
			add(t, w, first)
			w.Sh(t, later.make()+test.script)
			for range 2 { // the second finds what the first has moved
				add(t, w, later, "migrate_route", test.mode)
				got := w.Sh(t, `pod sh -ec 'for t in 200 main; do ip -o route show table $t; done | grep ^default;
					for t in 200 main; do ip -6 -o route show table $t; done | grep ^default; ip rule; ip -6 rule'`)
				var defaults []string
				for line := range strings.Lines(got) {
					line = strings.Join(strings.Fields(strings.ReplaceAll(line, "\\", " ")), " ")
					if strings.HasPrefix(line, "default") || strings.HasPrefix(line, "1024:") {
						defaults = append(defaults, line)
					}
				}
				// Which table a line is of, the command says and not the line.
				Same(t, "default routes and rules", strings.Split(strings.ReplaceAll(test.want, " table 200", ""), "\n"), defaults)
				check(t, w, later, "migrate_route", test.mode)
				check(t, w, first)
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
	first, later := net1(dual), eth0(dual)
	w := newWorld(t, dual, "", first)
	add(t, w, first)
	w.Sh(t, later.make())
	add(t, w, later)
	check(t, w, later)
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
			first, later := eth0(only4), net1(only4)
			w := newWorld(t, only4, test.script, first)
			add(t, w, first, "route_table_start", test.start)
			w.Sh(t, later.make())
			for range 2 {
				add(t, w, later, "route_table_start", test.start)
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
	first, later := eth0(dual), net1(dual)
	w := newWorld(t, dual, "", first)
	for _, n := range []*nic{first, later} {
		if n == later {
			w.Sh(t, n.make()+"pod ip route add default via 10.10.30.1 dev net1 metric 50; pod ip -6 route add default via fd30::1 dev net1 metric 50")
		}
		var got types100.Result
		Must(t, json.Unmarshal([]byte(add(t, w, n)), &got))
		var names, ips []string
		for _, i := range got.Interfaces {
			names = append(names, fmt.Sprint(i.Name, " ", i.Sandbox != ""))
		}
		for _, ip := range got.IPs {
			ips = append(ips, fmt.Sprint(ip.Address.String(), " ", *ip.Interface))
		}
		Same(t, "interfaces", []string{n.name + " true", hostEnd(id) + " false", "veth0 true"}, names)
		Same(t, "ips", []string{n.addr4 + "/24 0", n.addr6 + "/64 0"}, ips)
		if want := map[*nic]int{first: 2}[n]; len(got.Routes) != want {
			t.Errorf("%s: routes: %v", n.name, got.Routes)
		}
	}
}

// TestSkipCall: prevResult is passed on as it came, whatever else the configuration says, and nothing is changed.
func TestSkipCall(t *testing.T) {
	n := eth0(dual)
	w := newWorld(t, dual, "", n)
	before := w.Show(t)
	prev := map[string]any{"cniVersion": "1.0.0", "ips": []any{map[string]any{"address": "10.10.20.53/24"}}, "x": map[string]any{"y": 1.0}}
	for _, pairs := range [][]any{nil, {"rp_filter", 7}, {"overlay_hijack_subnet", leaveOut}} {
		var got map[string]any
		Must(t, json.Unmarshal([]byte(add(t, w, n, append(pairs, "skip_call", true, "prevResult", prev)...)), &got))
		if fmt.Sprint(got) != fmt.Sprint(prev) {
			t.Errorf("got %v", got)
		}
		verb(t, w, "CHECK", n, config(w, n, append(pairs, "skip_call", true)...)).Silent(t, "CHECK")
	}
	Same(t, "the kernel", before, w.Show(t))
}

// TestRPFilter: the pod's interfaces and our own host end; with set_host the node's too, which stay so.
func TestRPFilter(t *testing.T) {
	for value := range 3 {
		for _, setHost := range []bool{false, true} {
			t.Run(fmt.Sprint(value, setHost), func(t *testing.T) {
				t.Parallel()
				n := eth0(dual)
				w := newWorld(t, dual, "cd /proc/sys/net/ipv4/conf; for i in all default lo enp20 enp30 enp40 wire20; do echo 1 >$i/rp_filter; done; cd /", n)
				rp := map[string]any{"set_host": setHost, "value": value}
				add(t, w, n, "rp_filter", rp)
				check(t, w, n, "rp_filter", rp)
				pod := w.Sh(t, "pod sh -ec 'cd /proc/sys/net/ipv4/conf; cat all/rp_filter eth0/rp_filter veth0/rp_filter'; cat /proc/sys/net/ipv4/conf/"+hostEnd(id)+"/rp_filter")
				if pod != strings.Repeat(fmt.Sprintln(value), 4) {
					t.Errorf("got %q", pod)
				}
				want := strings.Repeat("1\n", 7)
				if setHost {
					want = strings.Repeat(fmt.Sprintln(value), 7)
				}
				const node = "cd /proc/sys/net/ipv4/conf; cat all/rp_filter default/rp_filter lo/rp_filter enp20/rp_filter enp30/rp_filter enp40/rp_filter wire20/rp_filter"
				if got := w.Sh(t, node); got != want {
					t.Errorf("node: got %q, want %q", got, want)
				}
				del(t, w, n)
				if got := w.Sh(t, node); got != want {
					t.Errorf("node, after DEL: got %q, want %q", got, want)
				}
			})
		}
	}
}

// TestMAC: the prefix and the address make the hardware address; the result has it; the runtime's wins; an address of
// the node is a conflict; only_op_mac does no more.
func TestMAC(t *testing.T) {
	const conflict = `{"enabled": true, "interval": "20ms", "retries": 1}`
	for _, test := range []struct {
		name  string
		stack stack
		pairs []any
		mac   string
		pair  bool
	}{
		{"IPv4", only4, []any{"mac_prefix", "0a:1b"}, "0a:1b:0a:0a:14:35", true},
		{"IPv6", only6, []any{"mac_prefix", "0a-1b"}, "0a:1b:00:00:00:53", true},
		{"with a check", dual, []any{"mac_prefix", "0a:1b", "ip_conflict", json.RawMessage(conflict)}, "0a:1b:0a:0a:14:35", true},
		{"the runtime's wins", dual, []any{"mac_prefix", "0a:1b", "runtimeConfig", map[string]any{"mac": "02:00:00:04:14:53"}}, "02:00:00:04:14:53", true},
		{"only_op_mac", dual, []any{"mac_prefix", "0a:1b", "only_op_mac", true}, "0a:1b:0a:0a:14:35", false},
		{"only_op_mac without a prefix", dual, []any{"only_op_mac", true}, "02:00:00:04:14:53", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := eth0(test.stack)
			w := newWorld(t, test.stack, "", n)
			var got types100.Result
			for range 2 {
				Must(t, json.Unmarshal([]byte(add(t, w, n, test.pairs...)), &got))
				check(t, w, n, test.pairs...)
			}
			out := w.Sh(t, "pod ip link")
			if got.Interfaces[0].Mac != test.mac || !strings.Contains(out, "link/ether "+test.mac) || strings.Contains(out, "veth0@") != test.pair {
				t.Errorf("the result says %s:\n%s", got.Interfaces[0].Mac, out)
			}
		})
	}
}

// TestConflict: another machine on the wire has the address: code 110, and nothing is changed.
func TestConflict(t *testing.T) {
	for _, s := range []stack{only4, only6} {
		t.Run(s.name, func(t *testing.T) {
			n := eth0(s)
			w := newWorld(t, dual, "", n)
			other := w.NewPod(t)
			taken := *n
			taken.mac = "02:00:00:00:66:66"
			other.Sh(t, taken.make())
			before := w.Show(t)
			got := verb(t, w, "ADD", n, config(w, n, "ip_conflict", map[string]any{"enabled": true, "interval": "100ms"})).Failed(t)
			if got.Code != 110 || !strings.Contains(got.Msg, "02:00:00:00:66:66") || !strings.Contains(got.Msg, " of eth0") {
				t.Errorf("got %+v", got)
			}
			Same(t, "the kernel", before, w.Show(t))
		})
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
	n := eth0(only4)
	w := newWorld(t, only4, script, n)
	add(t, w, n)
	check(t, w, n)
	var got []string
	for line := range strings.Lines(w.Sh(t, "pod ip route show dev veth0 | grep -v via | sort -V")) {
		got = append(got, strings.Fields(line)[0])
	}
	Same(t, "node addresses", []string{"10.10.20.152", "10.10.30.152", "10.10.40.152", "10.77.0.13", "10.77.0.14", "10.77.1.1", "169.254.25.10"}, got)
}
