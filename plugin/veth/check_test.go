package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestCheck: each object that is taken away is found missing, of the first interface and of a later one.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name, take, says string
		later            bool
	}{
		{"the host end", "ip link del HOST", "interface HOST: no such interface", false},
		{"the host end is down", "ip link set HOST down", "interface HOST is down", false},
		{"the alias", "ip link set HOST alias x", `interface HOST has alias "x"`, false},
		{"the altname", "ip link property del dev HOST altname HOST.GROUP.eth0", "interface HOST has no altname HOST.GROUP.eth0", false},
		{"the group", "ip link set HOST group 0", "interface HOST has group 0, not ", false},
		{"the mtu in the pod", "pod ip link set veth0 mtu 1400", "interface veth0 has mtu 1400, not 1500", false},
		{"the hardware address in the pod", "pod ip link set veth0 address 02:00:00:00:00:99", "interface veth0 has address 02:00:00:00:00:99", false},
		{"veth0 is down", "pod ip link set veth0 down", "interface veth0 is down", false},
		{"the route to the pod", "ip route del 10.10.20.53", "route is missing: ip route  10.10.20.53 dev HOST scope link src 10.10.20.152", false},
		{"the IPv6 route to the pod", "ip -6 route del fd20::53", "route is missing: ip -6 route  fd20::53 dev HOST src fd20::152", false},
		{"the neighbour", "ip neigh del 10.10.20.53 dev HOST", "neighbour 10.10.20.53 is missing on HOST", false},
		{"the node's neighbour in the pod", "pod ip neigh del fd20::152 dev veth0", "neighbour fd20::152 is missing on veth0", false},
		{"the pod's route to the node", "pod ip route del 10.10.20.152", "route is missing: ip route  10.10.20.152 dev veth0 scope link src 10.10.20.53", false},
		{"a hijack", "pod ip route del 172.96.0.0/18", "route is missing: ip route  172.96.0.0/18 via 10.10.20.152 dev veth0 src 10.10.20.53", false},
		{"a hijack by another way", "pod ip -6 route del fd00:10:244::/96; pod ip -6 route add fd00:10:244::/96 via fd20::1", "route is missing: ip -6 route  fd00:10:244::/96 via fd20::152 dev veth0 src fd20::53", false},
		{"the table of answers", "pod ip route flush table 512", "route is missing: ip route  default via 10.10.20.152 dev veth0 table 512", false},
		{"the rule of answers", "pod ip -6 rule del pref 512", "rule is missing: ip -6 rule  pref 512 fwmark 0x1000/0x1000 iif lo lookup 512", false},
		{"the node's table of the firewall", "nft delete table inet veth.net-eth0", "table inet veth.net-eth0 is missing or empty", false},
		{"the pod's table of the firewall", "pod nft flush chain inet veth output", "table inet veth has other rules in output", false},
		{"an address of the pod", "pod ip addr del 10.10.20.53/24 dev eth0", "address is missing: 10.10.20.53/24 on eth0", false},
		{"IPv6 of the pod", "pod sysctl -qw net/ipv6/conf/eth0/disable_ipv6=1", "address is missing: fd20::53/64 on eth0", false},
		{"rp_filter of the host end", "sysctl -qw net/ipv4/conf/HOST/rp_filter=1", "sysctl net/ipv4/conf/HOST/rp_filter is 1, not 2", false},
		{"rp_filter of the pod", "pod sysctl -qw net/ipv4/conf/all/rp_filter=1", "sysctl net/ipv4/conf/all/rp_filter is 1, not 2", false},
		{"src_valid_mark", "pod sysctl -qw net/ipv4/conf/veth0/src_valid_mark=0", "sysctl net/ipv4/conf/veth0/src_valid_mark is 0, not 1", false},

		{"the later one's altname", "ip link property del dev HOST altname HOST.LATER.net1", "interface HOST has no altname HOST.LATER.net1", true},
		{"the later one's route", "ip route del 10.10.30.53", "route is missing: ip route  10.10.30.53 dev HOST scope link src 10.10.30.152", true},
		{"the later one's table", "pod ip route flush table 200", "route is missing: ip route  10.10.30.152 dev veth0 scope link src 10.10.30.53 table 200", true},
		{"the later one's default", "pod ip -6 route del default table 200", "route is missing: ip -6 route  default via fd30::1 dev net1 table 200", true},
		{"the later one's rule", "pod ip rule del pref 1024", "rule is missing: ip rule  pref 1024 from 10.10.30.53 lookup 200", true},
		{"the later one's default is back in main", "pod ip route add default via 10.10.30.1 dev net1 metric 7", "route is still there: ip route  default via 10.10.30.1 dev net1 metric 7", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, later := eth0(dual), net1(dual)
			w := newWorld(t, dual, "", first, later)
			add(t, w, first)
			names := strings.NewReplacer("HOST", hostEnd(id), "GROUP", group(first.network), "LATER", group(later.network))
			n := first
			if test.later {
				n = later
				add(t, w, later)
			}
			w.Sh(t, names.Replace(test.take))
			spoilt := w.Show(t)
			answer := verb(t, w, "CHECK", n, config(w, n))
			if got := answer.Failed(t); got.Code != 120 || !strings.Contains(got.Msg+got.Details, names.Replace(test.says)) {
				t.Errorf("got %+v\nwant %s", got, names.Replace(test.says))
			}
			Same(t, "CHECK only looks", spoilt, w.Show(t))
		})
	}
}

// TestCheckBeforeAdd is an error of CHECK, not of the configuration.
func TestCheckBeforeAdd(t *testing.T) {
	n := eth0(dual)
	w := newWorld(t, dual, "", n)
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
		{"all interfaces down", "for i in 20 30 40; do ip link set enp$i down; done", nil, 50, "the node has no address that a pod could reach it by"},
		{"a bad configuration", "", []any{"rp_filter", 7}, 7, "rp_filter: 7: wrong type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dual, test.script)
			n := eth0(dual)
			before := w.Show(t)
			got := verb(t, w, "STATUS", n, config(w, n, append(test.pairs, "cniVersion", "1.1.0", "prevResult", leaveOut)...), "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=")
			if test.code == 0 {
				got.Silent(t, "STATUS")
			} else if f := got.Failed(t); f.Code != test.code || !strings.HasPrefix(f.Msg, test.msg) {
				t.Errorf("got %+v", f)
			}
			Same(t, "the kernel", before, w.Show(t))
		})
	}
}

// TestIPTables: ADD, CHECK and DEL with the iptables backend, on the node and in the pod.
func TestIPTables(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			first, later := eth0(s), net1(s)
			w := newWorld(t, s, "", first, later)
			for range 2 {
				add(t, w, first, "firewall", "iptables")
				add(t, w, later, "firewall", "iptables")
			}
			check(t, w, first, "firewall", "iptables")
			check(t, w, later, "firewall", "iptables")
			program := map[bool]string{true: "iptables", false: "ip6tables"}[s.v4]
			if out := w.Sh(t, program+"-save; pod "+program+"-save"); strings.Count(out, "-j VETH-") != 5 {
				t.Error(out)
			}
			del(t, w, later)
			del(t, w, first)
		})
	}
}
