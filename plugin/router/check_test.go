package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestCheck: each object that is taken away is found missing.
func TestCheck(t *testing.T) {
	for _, test := range []struct{ name, take, says string }{
		{"the mark of the interface", "pod ip link property del dev net1 altname router.net1", "interface net1 has no altname router.net1"},
		{"the name on the node", "ip link show vethptp0 | grep -o 'router\\..*' | xargs ip link property del dev vethptp0 altname", "interface vethptp0 has no altname router."},
		{"the host route", "ip route del 10.10.30.53 table 500", "route is missing: ip route  10.10.30.53 dev vethptp0 scope link src 10.10.30.152 table 500"},
		{"the IPv6 host route", "ip -6 route del fd30::53 table 500", "route is missing: ip -6 route  fd30::53 dev vethptp0 src fd30::152 table 500"},
		{"the shared rule", "ip rule del pref 1000", "rule is missing: ip rule  pref 1000 lookup 500"},
		{"the shared rule of IPv6", "ip -6 rule del pref 1000", "rule is missing: ip -6 rule  pref 1000 lookup 500"},
		{"the neighbour", "ip neigh del 10.10.30.53 dev vethptp0", "neighbour 10.10.30.53 is missing on vethptp0"},
		{"the node's neighbour in the pod", "pod ip neigh del fd20::152 dev eth0", "neighbour fd20::152 is missing on eth0"},
		{"the pod's route to the node", "pod ip route del 10.10.20.152", "route is missing: ip route  10.10.20.152 dev eth0 scope link src 10.244.1.5 proto static"},
		{"a hijack", "pod ip route del 172.96.0.0/18", "route is missing: ip route  172.96.0.0/18 via 10.244.1.1 dev eth0 src 10.244.1.5 proto static"},
		{"a hijack by the wire", "pod ip -6 route replace 2001:4860:fd00::/108 via fd30::1", "route is missing: ip -6 route  2001:4860:fd00::/108 via fd00:10:244:1::1 dev eth0"},
		{"the table of answers", "pod ip route flush table 512", "route is missing: ip route  default via 10.244.1.1 dev eth0 table 512"},
		{"the rule of answers", "pod ip -6 rule del pref 512", "rule is missing: ip -6 rule  pref 512 fwmark 0x1000/0x1000 iif lo lookup 512"},
		{"eth0's table", "pod ip route flush table 200", "route is missing: ip route  10.10.20.152 dev eth0 scope link src 10.244.1.5 proto static table 200"},
		{"eth0's rule", "pod ip rule del pref 1024", "rule is missing: ip rule  pref 1024 from 10.244.1.5 lookup 200"},
		{"the default", "pod ip route del default", "route is missing: ip route  default via 10.10.30.1 dev net1"},
		{"eth0's default is back in main", "pod ip route add default via 10.244.1.1 dev eth0 metric 7", "route is still there: ip route  default via 10.244.1.1 dev eth0 metric 7"},
		{"the firewall of the pod", "pod nft flush chain inet router output", "table inet router has other rules in output"},
		{"rp_filter of the pod", "pod sysctl -qw net/ipv4/conf/all/rp_filter=1", "sysctl net/ipv4/conf/all/rp_filter is 1, not 2"},
		{"src_valid_mark", "pod sysctl -qw net/ipv4/conf/eth0/src_valid_mark=0", "sysctl net/ipv4/conf/eth0/src_valid_mark is 0, not 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := net1(dual)
			w := newWorld(t, dual, ptp, "", n)
			add(t, w, n)
			w.Sh(t, test.take)
			spoilt := w.Show(t)
			if got := verb(t, w, "CHECK", n, config(w, n)).Failed(t); got.Code != 120 || !strings.Contains(got.Msg+got.Details, test.says) {
				t.Errorf("got %+v\nwant %s", got, test.says)
			}
			Same(t, "CHECK only looks", sorted(spoilt), sorted(w.Show(t)))
		})
	}
}

// TestCheckBeforeAdd is an error of CHECK, not of the configuration.
func TestCheckBeforeAdd(t *testing.T) {
	n := net1(dual)
	w := newWorld(t, dual, ptp, "", n)
	if got := verb(t, w, "CHECK", n, config(w, n)).Failed(t); got.Code != 120 {
		t.Errorf("got %+v", got)
	}
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		name, script string
		pairs        []any
		code         uint
		msg          string
	}{
		{"good", "", nil, 0, ""},
		{"good, with IPv6 only", "for i in 20 30 40; do ip -4 addr flush dev enp$i; done", nil, 0, ""},
		{"no address", "for i in 20 30 40; do ip addr flush dev enp$i; done", nil, 50, "the node has no address that a pod could reach it by"},
		{"a bad configuration", "", []any{"host_rule_table", 0}, 7, "host_rule_table: 0: out of range"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dual, ptp, test.script)
			n := net1(dual)
			before := w.Show(t)
			got := verb(t, w, "STATUS", n, config(w, n, append(test.pairs, "cniVersion", "1.1.0", "prevResult", leaveOut)...), "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=")
			if test.code == 0 {
				got.Silent(t, "STATUS")
			} else if f := got.Failed(t); f.Code != test.code || !strings.HasPrefix(f.Msg, test.msg) {
				t.Errorf("got %+v", f)
			}
			Same(t, "the kernel", sorted(before), sorted(w.Show(t)))
		})
	}
}

// TestGC: an attachment that the list of its network does not name goes; other networks' stay.
func TestGC(t *testing.T) {
	first, later := net1(dual), net2(dual)
	valid := func(nics ...*nic) []any {
		list := []any{}
		for _, n := range nics {
			list = append(list, map[string]any{"containerID": n.container, "ifname": n.name})
		}
		return list
	}
	for _, test := range []struct {
		name          string
		of            *nic
		valid         any
		first, second bool // what is there afterwards
	}{
		{"all valid", first, valid(first), true, true},
		{"null", first, nil, true, true},
		{"absent", first, leaveOut, true, true},
		{"none of net1's network", first, valid(), false, true},
		{"none of net2's network", later, valid(first), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dual, calico, "", first, later)
			add(t, w, first)
			add(t, w, later)
			for range 2 {
				verb(t, w, "GC", test.of, config(w, test.of, "cniVersion", "1.1.0", "prevResult", leaveOut, "cni.dev/valid-attachments", test.valid),
					"CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=").Silent(t, "GC")
			}
			out := w.Sh(t, "ip route show table 500; ip -6 route show table 500; ip neigh show nud permanent; ip link")
			for n, want := range map[*nic]bool{first: test.first, later: test.second} {
				for _, of := range []string{n.addr4 + " dev", n.addr6 + " dev", "." + n.addr4, "." + n.name} {
					if strings.Contains(out, of) != want {
						t.Errorf("%s: want %t:\n%s", of, want, out)
					}
				}
			}
		})
	}
}

// TestIPTables: ADD, CHECK and DEL with the iptables backend in the pod.
func TestIPTables(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			first, later := net1(s), net2(s)
			w := newWorld(t, s, ptp, "", first, later)
			for range 2 {
				add(t, w, first, "firewall", "iptables")
				add(t, w, later, "firewall", "iptables")
			}
			check(t, w, first, "firewall", "iptables")
			check(t, w, later, "firewall", "iptables")
			program := map[bool]string{true: "iptables", false: "ip6tables"}[s.v4]
			if out := w.Sh(t, "pod "+program+"-save"); strings.Count(out, "-j ROUTER-") != 2 {
				t.Error(out)
			}
			del(t, w, later, "firewall", "iptables")
			del(t, w, first, "firewall", "iptables")
		})
	}
}

// TestNoRouter: the pod does not hand on what comes in by the wire.
func TestNoRouter(t *testing.T) {
	n := net1(only4)
	w := newWorld(t, only4, ptp, "pod sysctl -qw net.ipv4.ip_forward=1", n)
	add(t, w, n)
	if got := w.Sh(t, "pod cat /proc/sys/net/ipv4/conf/net1/forwarding"); got != "0\n" {
		t.Error(got)
	}
}
