package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

const (
	acceptCIDR  = `; accepted: address/length as in "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings`
	acceptAddr  = `; accepted: addresses and address/length as in "169.254.25.10" or "10.30.0.0/16", or a list of such strings`
	acceptTable = `; accepted: a whole number from 1 to 252, or from 256 to 2147483647`
	acceptMAC   = `; accepted: two octets in hexadecimal, the first of them even, as in "0a:1b" or "0a-1b"`
	acceptName  = `; accepted: the name of an interface, 1 to 15 bytes without white space, "/", ":" and "%"`
	acceptTime  = `; accepted: a duration greater than 0 and up to 10s, as in "1s" or "500ms"`
	acceptBool  = `: wrong type; accepted: true or false`
	acceptPrev  = `prevResult.interfaces: "eth0" with a sandbox is missing; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod`
)

// TestBadConfiguration: each key, with each kind of wrong value. ADD and CHECK say which key, what it is and what is
// accepted, with code 7; and after all of them the kernel is as before.
func TestBadConfiguration(t *testing.T) {
	n := eth0(dual)
	w := newWorld(t, dual, "", n)
	before := w.Show(t)
	type object = map[string]any
	type list = []any
	for _, test := range []struct {
		name, key string
		value     any
		msg       string
	}{
		{"overlay missing", "overlay_hijack_subnet", leaveOut, `overlay_hijack_subnet: missing` + acceptCIDR},
		{"overlay null", "overlay_hijack_subnet", nil, `overlay_hijack_subnet: null: wrong type` + acceptCIDR},
		{"overlay a number", "overlay_hijack_subnet", 5, `overlay_hijack_subnet: 5: wrong type` + acceptCIDR},
		{"overlay everything", "overlay_hijack_subnet", list{"0.0.0.0/0"}, `overlay_hijack_subnet: ["0.0.0.0/0"]: 0.0.0.0/0 is every address` + acceptCIDR},
		{"overlay everything in IPv6", "overlay_hijack_subnet", list{"::/0"}, `overlay_hijack_subnet: ["::/0"]: ::/0 is every address` + acceptCIDR},
		{"overlay everything in halves", "overlay_hijack_subnet", list{"0.0.0.0/1", "128.0.0.0/1"}, `overlay_hijack_subnet: ["0.0.0.0/1","128.0.0.0/1"]: 0.0.0.0/0 is every address` + acceptCIDR},
		{"overlay an address", "overlay_hijack_subnet", list{"10.0.0.1"}, `overlay_hijack_subnet: ["10.0.0.1"]: "10.0.0.1" is not address/length` + acceptCIDR},
		{"overlay empty strings", "overlay_hijack_subnet", list{""}, `overlay_hijack_subnet: [""]: "" is not address/length` + acceptCIDR},
		{"overlay mapped", "overlay_hijack_subnet", list{"::ffff:10.0.0.0/104"}, `overlay_hijack_subnet: ["::ffff:10.0.0.0/104"]: ::ffff:10.0.0.0/104 is IPv4 written as IPv6` + acceptCIDR},
		{"service missing", "service_hijack_subnet", leaveOut, `service_hijack_subnet: missing` + acceptCIDR},
		{"service too long", "service_hijack_subnet", list{"172.96.0.0/33"}, `service_hijack_subnet: ["172.96.0.0/33"]: "172.96.0.0/33" is not address/length` + acceptCIDR},
		{"service everything with the overlay", "service_hijack_subnet", list{"128.0.0.0/1", "0.0.0.0/1"}, `service_hijack_subnet: ["128.0.0.0/1","0.0.0.0/1"]: 0.0.0.0/0 is every address` + acceptCIDR},
		{"additional a word", "additional_hijack_subnet", list{"dns"}, `additional_hijack_subnet: ["dns"]: "dns" is not address/length` + acceptAddr},
		{"additional everything", "additional_hijack_subnet", list{"0.0.0.0/0"}, `additional_hijack_subnet: ["0.0.0.0/0"]: 0.0.0.0/0 is every address` + acceptAddr},
		{"additional with a zone", "additional_hijack_subnet", list{"fe80::1%eth0"}, `additional_hijack_subnet: ["fe80::1%eth0"]: "fe80::1%eth0" has a zone` + acceptAddr},
		{"additional null", "additional_hijack_subnet", nil, `additional_hijack_subnet: null: wrong type` + acceptAddr},

		{"migrate_route 2", "migrate_route", 2, `migrate_route: 2: out of range; accepted: -1 (by name), 0 (never) or 1 (always)`},
		{"migrate_route -2", "migrate_route", -2, `migrate_route: -2: out of range; accepted: -1 (by name), 0 (never) or 1 (always)`},
		{"migrate_route a string", "migrate_route", "1", `migrate_route: "1": not a whole number; accepted: -1 (by name), 0 (never) or 1 (always)`},
		{"migrate_route a boolean", "migrate_route", true, `migrate_route: true: not a whole number; accepted: -1 (by name), 0 (never) or 1 (always)`},

		{"skip_call a string", "skip_call", "true", `skip_call: "true"` + acceptBool},
		{"only_op_mac a number", "only_op_mac", 1, `only_op_mac: 1` + acceptBool},

		{"rp_filter a number", "rp_filter", 7, `rp_filter: 7: wrong type; accepted: an object`},
		{"rp_filter 7", "rp_filter", object{"value": 7}, `rp_filter.value: 7: out of range; accepted: a whole number from 0 to 2`},
		{"rp_filter -1", "rp_filter", object{"value": -1}, `rp_filter.value: -1: out of range; accepted: a whole number from 0 to 2`},
		{"rp_filter a string", "rp_filter", object{"value": "2"}, `rp_filter.value: "2": not a whole number; accepted: a whole number from 0 to 2`},
		{"set_host a number", "rp_filter", object{"set_host": 1}, `rp_filter.set_host: 1` + acceptBool},
		{"rp_filter with an unknown key", "rp_filter", object{"sethost": true}, `rp_filter.sethost: true: unknown key, did you mean "set_host"?`},

		{"log_level unknown", "log_options", object{"log_level": "trace"}, `log_options.log_level: "trace": no such level; accepted: debug, info, warn or error`},
		{"log_file relative", "log_options", object{"log_file": "v.log"}, `log_options.log_file: "v.log": not absolute`},
		{"log_max_size 0", "log_options", object{"log_max_size": 0}, `log_options.log_max_size: 0: out of range; accepted: a whole number from 1 to 100000`},
		{"log_max_age negative", "log_options", object{"log_max_age": -1}, `log_options.log_max_age: -1: out of range; accepted: a whole number from 1 to 100000`},
		{"log_max_count a string", "log_options", object{"log_max_count": "5"}, `log_options.log_max_count: "5": not a whole number; accepted: a whole number from 1 to 100000`},
		{"log_options a string", "log_options", "debug", `log_options: "debug": wrong type; accepted: an object`},

		{"ip_conflict a boolean", "ip_conflict", true, `ip_conflict: true: wrong type; accepted: an object`},
		{"interval 0", "ip_conflict", object{"enabled": true, "interval": "0s"}, `ip_conflict.interval: "0s": out of range` + acceptTime},
		{"interval negative", "ip_conflict", object{"interval": "-1s"}, `ip_conflict.interval: "-1s": out of range` + acceptTime},
		{"interval too long", "ip_conflict", object{"interval": "11s"}, `ip_conflict.interval: "11s": out of range` + acceptTime},
		{"interval a number", "ip_conflict", object{"interval": 1}, `ip_conflict.interval: 1: wrong type` + acceptTime},
		{"interval a word", "ip_conflict", object{"interval": "soon"}, `ip_conflict.interval: "soon": not a duration` + acceptTime},
		{"interval empty", "ip_conflict", object{"interval": ""}, `ip_conflict.interval: "": empty` + acceptTime},
		{"retries 0", "ip_conflict", object{"retries": 0}, `ip_conflict.retries: 0: out of range; accepted: a whole number from 1 to 10`},
		{"enabled a string", "ip_conflict", object{"enabled": "yes"}, `ip_conflict.enabled: "yes"` + acceptBool},

		{"mac_prefix of one octet", "mac_prefix", "0a", `mac_prefix: "0a": not two octets` + acceptMAC},
		{"mac_prefix of three octets", "mac_prefix", "0a:1b:2c", `mac_prefix: "0a:1b:2c": not two octets` + acceptMAC},
		{"mac_prefix of a group", "mac_prefix", "01:00", `mac_prefix: "01:00": the address of a group: the first octet is odd` + acceptMAC},
		{"mac_prefix not hexadecimal", "mac_prefix", "0x:1b", `mac_prefix: "0x:1b": not hexadecimal` + acceptMAC},
		{"mac_prefix a number", "mac_prefix", 10, `mac_prefix: 10: wrong type` + acceptMAC},

		{"route_table_start 0", "route_table_start", 0, `route_table_start: 0: out of range` + acceptTable},
		{"route_table_start default", "route_table_start", 253, `route_table_start: 253: a table of the kernel's own: default, main or local` + acceptTable},
		{"route_table_start main", "route_table_start", 254, `route_table_start: 254: a table of the kernel's own: default, main or local` + acceptTable},
		{"route_table_start local", "route_table_start", 255, `route_table_start: 255: a table of the kernel's own: default, main or local` + acceptTable},
		{"route_table_start too large", "route_table_start", 2147483648, `route_table_start: 2147483648: out of range` + acceptTable},
		{"host_rule_table local", "host_rule_table", 255, `host_rule_table: 255: a table of the kernel's own: default, main or local` + acceptTable},
		{"overlay_interface with a slash", "overlay_interface", "eth/0", `overlay_interface: "eth/0": contains /, : or %` + acceptName},
		{"host_route a number", "host_route", 1, `host_route: 1` + acceptBool},
		{"firewall unknown", "firewall", "ebpf", `firewall: "ebpf": no such backend; accepted: auto, nftables or iptables`},
		{"veth_link_address global", "veth_link_address", "10.0.0.1", `veth_link_address: "10.0.0.1": 10.0.0.1/32 is not a link-local address`},

		{"a key misspelt", "overlay_hijack_subnets", list{}, `overlay_hijack_subnets: []: unknown key, did you mean "overlay_hijack_subnet"?`},
		{"a key of veth-host", "hostInterface", "enp20", `hostInterface: "enp20": unknown key`},
		{"prevResult missing", "prevResult", leaveOut, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"prevResult null", "prevResult", nil, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"prevResult without interfaces", "prevResult", object{"cniVersion": "1.0.0", "ips": list{object{"address": "10.10.20.53/24"}}}, acceptPrev},
		{"prevResult with another interface", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "net1", "sandbox": "/x"}}}, acceptPrev},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, what := range []string{"ADD", "CHECK"} {
				got := verb(t, w, what, n, config(w, n, test.key, test.value)).Failed(t)
				if got.Code != 7 || !strings.HasPrefix(got.Msg, test.msg) || got.CNIVersion != "1.0.0" {
					t.Errorf("%s: got %+v\nwant %s", what, got, test.msg)
				}
			}
		})
	}
	t.Run("skip_call without prevResult", func(t *testing.T) {
		got := verb(t, w, "ADD", n, config(w, n, "skip_call", true, "prevResult", leaveOut)).Failed(t)
		if got.Code != 7 || !strings.HasPrefix(got.Msg, "prevResult: missing") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("comments", func(t *testing.T) {
		got := verb(t, w, "ADD", n, "{\n  \"cniVersion\": \"1.0.0\",\n  // the overlay\n  \"name\": \"x\"\n}").Failed(t)
		if got.Code != 6 || got.Msg != "line 3: // the overlay: a comment, and JSON has none; accepted: valid JSON without comments" {
			t.Errorf("got %+v", got)
		}
	})
	Same(t, "the kernel", before, w.Show(t))
}

// TestBadWorld: a good configuration, but the node or the pod is not as it should be. Nothing is changed.
func TestBadWorld(t *testing.T) {
	const noCommon = `prevResult.ips: eth0 in the pod and the node have no usable address of the same family; accepted: at least one in IPv4 or in IPv6`
	for _, test := range []struct {
		name, script string
		code         uint
		msg          string
		pairs        []any
		env          []string
	}{
		{"the pod has no such interface", "pod ip link del eth0", 100, "CNI_IFNAME: eth0: the pod has no such interface", nil, nil},
		{"the pod has no address", "pod ip addr flush dev eth0", 7, noCommon, nil, nil},
		{"the node has no address", "for i in 20 30 40; do ip addr flush dev enp$i; done", 7, noCommon, nil, nil},
		{"the pod's address is the node's", "pod ip addr add 10.10.20.152/24 dev eth0", 110, "10.10.20.152: the pod's address is one of the node itself", nil, nil},
		{"the pod's address is still tentative", "pod sysctl -qw net/ipv6/conf/eth0/accept_dad=1 net/ipv6/conf/eth0/dad_transmits=100; pod ip addr add fd20::54/64 dev eth0", 11, "fd20::54: duplicate address detection still runs on eth0", nil, nil},
		{"a foreign veth0 that is no veth", "pod ip link add link eth0 name veth0 type macvlan mode bridge", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign veth0 in the pod", "pod ip link add veth0 type veth peer name other", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign veth0 with a peer on the node", "ip link add vetha0e043dd type veth peer name veth0 netns $POD", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign interface has the name of the host end", "ip link add HOSTEND type veth peer name other", 101, "ip link add HOSTEND ", nil, nil},
		{"CNI_NETNS is the node's own", "", 8, "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's", nil, []string{"CNI_NETNS=/proc/self/ns/net"}},
		{"mac_prefix with an address of the pod elsewhere", "pod ip addr add 10.10.20.77/24 dev eth0; ip addr add 10.10.20.77/32 dev lo", 110, "10.10.20.77", []any{"ip_conflict", map[string]any{"enabled": true, "interval": "10ms"}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := eth0(dual)
			end := strings.NewReplacer("HOSTEND", hostEnd(id))
			w := newWorld(t, dual, end.Replace(test.script), n)
			before := w.Show(t)
			got := verb(t, w, "ADD", n, config(w, n, test.pairs...), test.env...).Failed(t)
			if got.Code != test.code || !strings.HasPrefix(got.Msg, end.Replace(test.msg)) {
				t.Errorf("got %+v\nwant %d %s", got, test.code, test.msg)
			}
			if test.name == "the pod's address is still tentative" {
				return // it changes by itself
			}
			Same(t, "the kernel", withoutShared(before), withoutShared(w.Show(t)))
		})
	}
}
