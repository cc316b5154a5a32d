package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestCheck: each object that is taken away is found missing, of the first interface and of a later one.
func TestCheck(t *testing.T) {
	rows := []CheckRow{
		Taken("the host end", "ip link del HOST", "interface HOST: no such interface"),
		Taken("the host end is down", "ip link set HOST down", "interface HOST is down"),
		Taken("the alias", "ip link set HOST alias x", `interface HOST has alias "x"`),
		Taken("the altname", "ip link property del dev HOST altname HOST.GROUP.eth0", "interface HOST has no altname HOST.GROUP.eth0"),
		Taken("the group", "ip link set HOST group 0", "interface HOST has group 0, not "),
		Taken("the mtu in the pod", "pod ip link set veth0 mtu 1400", "interface veth0 has mtu 1400, not 1500"),
		Taken("the hardware address in the pod", "pod ip link set veth0 address 02:00:00:00:00:99", "interface veth0 has address 02:00:00:00:00:99"),
		Taken("veth0 is down", "pod ip link set veth0 down", "interface veth0 is down"),
		Taken("the route to the pod", "ip route del 10.10.20.53", "route is missing: ip route  10.10.20.53 dev HOST scope link src 10.10.20.152"),
		Taken("the IPv6 route to the pod", "ip -6 route del fd20::53", "route is missing: ip -6 route  fd20::53 dev HOST src fd20::152"),
		Taken("the neighbour", "ip neigh del 10.10.20.53 dev HOST", "neighbour 10.10.20.53 is missing on HOST"),
		Taken("the node's neighbour in the pod", "pod ip neigh del fd20::152 dev veth0", "neighbour fd20::152 is missing on veth0"),
		Taken("the pod's route to the node", "pod ip route del 10.10.20.152", "route is missing: ip route  10.10.20.152 dev veth0 scope link src 10.10.20.53"),
		Taken("a hijack", "pod ip route del 172.96.0.0/18", "route is missing: ip route  172.96.0.0/18 via 10.10.20.152 dev veth0 src 10.10.20.53 metric 1024"),
		Taken("a hijack by another way", "pod ip -6 route del fd00:10:244::/96; pod ip -6 route add fd00:10:244::/96 via fd20::1", "route is missing: ip -6 route  fd00:10:244::/96 via fd20::152 dev veth0 src fd20::53"),
		Taken("the table of answers", "pod ip route flush table 512", "route is missing: ip route  default via 10.10.20.152 dev veth0 table 512"),
		Taken("the rule of answers", "pod ip -6 rule del pref 512", "rule is missing: ip -6 rule  pref 512 fwmark 0x1000/0x1000 iif lo lookup 512"),
		Taken("the node's table of the firewall", "nft delete table inet veth.net-eth0", "table inet veth.net-eth0 is missing or empty"),
		Taken("the pod's table of the firewall", "pod nft flush chain inet veth output", "table inet veth has other rules in output"),
		Taken("an address of the pod", "pod ip addr del 10.10.20.53/24 dev eth0", "address is missing: 10.10.20.53/24 on eth0"),
		Taken("IPv6 of the pod", "pod sysctl -qw net/ipv6/conf/eth0/disable_ipv6=1", "address is missing: fd20::53/64 on eth0"),
		Taken("rp_filter of the host end", "sysctl -qw net/ipv4/conf/HOST/rp_filter=1", "sysctl net/ipv4/conf/HOST/rp_filter is 1, not 2"),
		Taken("rp_filter of the pod", "pod sysctl -qw net/ipv4/conf/veth0/rp_filter=1", "sysctl net/ipv4/conf/veth0/rp_filter is 1, not 2"),
		Taken("src_valid_mark", "pod sysctl -qw net/ipv4/conf/veth0/src_valid_mark=0", "sysctl net/ipv4/conf/veth0/src_valid_mark is 0, not 1"),

		TakenOfLater("the later one's altname", "ip link property del dev HOST altname HOST.LATER.net1", "interface HOST has no altname HOST.LATER.net1"),
		TakenOfLater("the later one's route", "ip route del 10.10.30.53", "route is missing: ip route  10.10.30.53 dev HOST scope link src 10.10.30.152"),
		TakenOfLater("the later one's table", "pod ip route flush table 200", "route is missing: ip route  10.10.30.152 dev veth0 scope link src 10.10.30.53 table 200"),
		TakenOfLater("the later one's default", "pod ip -6 route del default table 200", "route is missing: ip -6 route  default via fd30::1 dev net1 table 200"),
		TakenOfLater("the later one's rule", "pod ip rule del pref 1024", "rule is missing: ip rule  pref 1024 from 10.10.30.53 lookup 200"),
		TakenOfLater("the later one's default is back in main", "pod ip route add default via 10.10.30.1 dev net1 metric 7", "route is still there: ip route  default via 10.10.30.1 dev net1 metric 7"),
	}
	names := strings.NewReplacer("HOST", hostEnd(ID), "GROUP", group(Eth0(Dual).Network), "LATER", group(Net1(Dual).Network))
	for i := range rows {
		rows[i].Take, rows[i].Says = names.Replace(rows[i].Take), names.Replace(rows[i].Says)
	}
	subject.CheckFinds(t, rows)
}

func TestCheckBeforeAdd(t *testing.T) { subject.CheckBeforeAdd(t) }

func TestStatus(t *testing.T) { subject.Status(t) }

// TestIPTables: on the node, too.
func TestIPTables(t *testing.T) { subject.IPTables(t, 6) }

func TestGC(t *testing.T) { subject.GCOfNetworks(t) }

func TestIPTablesTakenAway(t *testing.T) { subject.IPTablesTakenAway(t) }

func TestAtOnceInOnePod(t *testing.T) { subject.AtOnceInOnePod(t) }
