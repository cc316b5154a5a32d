package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

const (
	acceptName  = `; accepted: the name of an interface, 1 to 15 bytes without white space, quotes and any of /:%*+\$`
	acceptMark  = `; accepted: bits of a 32-bit mark, as a number or a string such as "0x2000"`
	acceptTable = `; accepted: a whole number from 256 to 1073741824`
	acceptMTU   = `; accepted: a whole number from 68 to 65535`
	acceptPorts = `; accepted: a string of ports from 1 to 65535, "30000-32767" or "30000:32767", lists with commas`
	acceptCIDR  = `; accepted: address/length as in "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings`
	acceptPrev  = `prevResult.interfaces: "eth0" with a sandbox is missing; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod`
)

// TestBadConfiguration: each key, with each kind of wrong value. ADD and CHECK say which key, what it is and what is
// accepted, with code 7; and after all of them the kernel is as before.
func TestBadConfiguration(t *testing.T) {
	w := newWorld(t, Dual, "")
	before := w.Show(t)
	type object = map[string]any
	type list = []any
	for _, test := range []struct {
		name, key string
		value     any
		msg       string
	}{
		{"hostInterface missing", "hostInterface", LeaveOut, `hostInterface: missing` + acceptName},
		{"hostInterface null", "hostInterface", nil, `hostInterface: null: wrong type` + acceptName},
		{"hostInterface a number", "hostInterface", 1, `hostInterface: 1: wrong type` + acceptName},
		{"hostInterface a list", "hostInterface", list{"enp1s0"}, `hostInterface: ["enp1s0"]: wrong type` + acceptName},
		{"hostInterface empty", "hostInterface", "", `hostInterface: "": empty` + acceptName},
		{"hostInterface over 15 bytes", "hostInterface", "enp129s0f0np0v12", `hostInterface: "enp129s0f0np0v12": longer than 15 bytes` + acceptName},
		{"hostInterface with a slash", "hostInterface", "enp1/0", `hostInterface: "enp1/0": contains /, : or %` + acceptName},
		{"hostInterface that does not exist", "hostInterface", "enp9s0", `hostInterface: enp9s0: the node has no such interface; accepted: an interface of the node with a global address, normally the parent of the pod's interface`},
		{"hostInterface without an address", "hostInterface", "wire", `hostInterface: wire: the interface has no address; accepted: an interface of the node with a global address, normally the parent of the pod's interface`},
		{"hostInterface lo", "hostInterface", "lo", `hostInterface: lo: the interface has no address; accepted: an interface of the node with a global address, normally the parent of the pod's interface`},

		{"containerInterface missing", "containerInterface", LeaveOut, `containerInterface: missing` + acceptName},
		{"containerInterface null", "containerInterface", nil, `containerInterface: null: wrong type` + acceptName},
		{"containerInterface a boolean", "containerInterface", true, `containerInterface: true: wrong type` + acceptName},
		{"containerInterface empty", "containerInterface", "", `containerInterface: "": empty` + acceptName},
		{"containerInterface over 15 bytes", "containerInterface", "veth012345678901", `containerInterface: "veth012345678901": longer than 15 bytes` + acceptName},
		{"containerInterface with a slash", "containerInterface", "../veth0", `containerInterface: "../veth0": contains /, : or %` + acceptName},
		{"containerInterface with a space", "containerInterface", "veth 0", `containerInterface: "veth 0": contains white space or a control character` + acceptName},
		{"containerInterface equal to CNI_IFNAME", "containerInterface", "eth0", `containerInterface: eth0: it is CNI_IFNAME, the pod's own interface; accepted: another name, normally veth0`},

		{"ipMasq a string", "ipMasq", "true", `ipMasq: "true": wrong type; accepted: true or false`},
		{"ipMasq a number", "ipMasq", 1, `ipMasq: 1: wrong type; accepted: true or false`},
		{"ipMasq null", "ipMasq", nil, `ipMasq: null: wrong type; accepted: true or false`},

		{"mtu a string", "mtu", "1500", `mtu: "1500": not a whole number` + acceptMTU},
		{"mtu a fraction", "mtu", 1500.5, `mtu: 1500.5: not a whole number` + acceptMTU},
		{"mtu 0", "mtu", 0, `mtu: 0: out of range` + acceptMTU},
		{"mtu negative", "mtu", -1, `mtu: -1: out of range` + acceptMTU},
		{"mtu too large", "mtu", 65536, `mtu: 65536: out of range` + acceptMTU},
		{"mtu too small for the pod's IPv6", "mtu", 1279, `mtu: 1279: the pod has an IPv6 address; accepted: 1280 or more for IPv6`},
		{"mtu null", "mtu", nil, `mtu: null: not a whole number` + acceptMTU},

		{"routeTableStart a string", "routeTableStart", "main", `routeTableStart: "main": not a whole number` + acceptTable},
		{"routeTableStart 0", "routeTableStart", 0, `routeTableStart: 0: out of range` + acceptTable},
		{"routeTableStart default", "routeTableStart", 253, `routeTableStart: 253: out of range` + acceptTable},
		{"routeTableStart main", "routeTableStart", 254, `routeTableStart: 254: out of range` + acceptTable},
		{"routeTableStart local", "routeTableStart", 255, `routeTableStart: 255: out of range` + acceptTable},
		{"routeTableStart too large", "routeTableStart", 4294967295, `routeTableStart: 4294967295: out of range` + acceptTable},

		{"nodePortMark 0", "nodePortMark", 0, `nodePortMark: 0: a mark of 0 has no bit to set` + acceptMark},
		{"nodePortMark empty", "nodePortMark", "", `nodePortMark: "": empty` + acceptMark},
		{"nodePortMark a word", "nodePortMark", "all", `nodePortMark: "all": not a mark` + acceptMark},
		{"nodePortMark too large", "nodePortMark", 4294967296, `nodePortMark: 4294967296: more than 32 bits` + acceptMark},
		{"nodePortMark a list", "nodePortMark", list{}, `nodePortMark: []: not a mark` + acceptMark},
		{"nodePortMark equal to serviceMark", "nodePortMark", "0x1000", `nodePortMark: 0x1000: shares a bit with serviceMark 0x1000; accepted: bits of a 32-bit mark that serviceMark does not have`},
		{"serviceMark 0", "serviceMark", "0x0", `serviceMark: "0x0": a mark of 0 has no bit to set` + acceptMark},
		{"serviceMark negative", "serviceMark", -1, `serviceMark: -1: not a mark` + acceptMark},
		{"serviceMark a boolean", "serviceMark", true, `serviceMark: true: not a mark` + acceptMark},
		{"serviceMark that overlaps nodePortMark", "serviceMark", "0x3000", `serviceMark: 0x3000: shares a bit with nodePortMark 0x2000; accepted: bits of a 32-bit mark that nodePortMark does not have`},

		{"nodePorts a number", "nodePorts", 30000, `nodePorts: 30000: wrong type` + acceptPorts},
		{"nodePorts empty", "nodePorts", "", `nodePorts: "": empty` + acceptPorts},
		{"nodePorts reversed", "nodePorts", "32767:30000", `nodePorts: "32767:30000": "32767:30000" runs backwards` + acceptPorts},
		{"nodePorts over 65535", "nodePorts", "30000-65536", `nodePorts: "30000-65536": "65536" is out of range` + acceptPorts},
		{"nodePorts with 0", "nodePorts", "0-100", `nodePorts: "0-100": "0" is out of range` + acceptPorts},
		{"nodePorts not a port", "nodePorts", "http", `nodePorts: "http": "http" is not a port` + acceptPorts},

		{"serviceCidr a number", "serviceCidr", 22, `serviceCidr: 22: wrong type` + acceptCIDR},
		{"serviceCidr empty", "serviceCidr", "", `serviceCidr: "": empty` + acceptCIDR},
		{"serviceCidr without a length", "serviceCidr", "172.20.252.0", `serviceCidr: "172.20.252.0": "172.20.252.0" is not address/length` + acceptCIDR},
		{"serviceCidr with a length too long", "serviceCidr", "fd00::/129", `serviceCidr: "fd00::/129": "fd00::/129" is not address/length` + acceptCIDR},
		{"serviceCidr with a bad element", "serviceCidr", list{"172.20.252.0/22", ""}, `serviceCidr: ["172.20.252.0/22",""]: "" is not address/length` + acceptCIDR},
		{"serviceCidr everything", "serviceCidr", "0.0.0.0/0", `serviceCidr: "0.0.0.0/0": 0.0.0.0/0 is every address` + acceptCIDR},

		{"firewall unknown", "firewall", "ebpf", `firewall: "ebpf": no such backend; accepted: auto, nftables or iptables`},
		{"firewall empty", "firewall", "", `firewall: "": empty; accepted: auto, nftables or iptables`},
		{"firewall a boolean", "firewall", true, `firewall: true: wrong type; accepted: auto, nftables or iptables`},

		{"log_options a string", "log_options", "debug", `log_options: "debug": wrong type; accepted: an object`},
		{"log_level unknown", "log_options", object{"log_level": "trace"}, `log_options.log_level: "trace": no such level; accepted: debug, info, warn or error`},
		{"log_file relative", "log_options", object{"log_file": "v.log"}, `log_options.log_file: "v.log": not absolute`},
		{"log_max_size 0", "log_options", object{"log_max_size": 0}, `log_options.log_max_size: 0: out of range; accepted: a whole number from 1 to 100000`},
		{"log_max_age a string", "log_options", object{"log_max_age": "5"}, `log_options.log_max_age: "5": not a whole number; accepted: a whole number from 1 to 100000`},
		{"log_max_count negative", "log_options", object{"log_max_count": -1}, `log_options.log_max_count: -1: out of range; accepted: a whole number from 1 to 100000`},
		{"log_options with an unknown key", "log_options", object{"logLevel": "info"}, `log_options.logLevel: "info": unknown key, did you mean "log_level"?`},

		{"a key misspelt", "host_interface", "enp1s0", `host_interface: "enp1s0": unknown key, did you mean "hostInterface"?`},
		{"a key unknown", "bridge", "br0", `bridge: "br0": unknown key; accepted: hostInterface, containerInterface, `},
		{"dns a string", "dns", "10.0.0.1", `dns: "10.0.0.1": wrong type; accepted: an object with nameservers, domain, search and options`},

		{"prevResult missing", "prevResult", LeaveOut, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"prevResult null", "prevResult", nil, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"prevResult empty", "prevResult", object{}, "prevResult: "},
		{"prevResult a list", "prevResult", list{}, "prevResult: "},
		{"prevResult without interfaces", "prevResult", object{"cniVersion": "1.0.0", "ips": list{object{"address": "10.10.20.53/24"}}}, acceptPrev},
		{"prevResult with interfaces empty", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{}}, acceptPrev},
		{"prevResult with another interface", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "net1", "sandbox": "/x"}}}, acceptPrev},
		{"prevResult with the interface on the node", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "eth0"}}}, acceptPrev},
		{"prevResult with a bad address", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "eth0", "sandbox": "/x"}}, "ips": list{object{"address": "10.10.20.53"}}}, "prevResult: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, verb := range []string{"ADD", "CHECK"} {
				got := w.verb(t, verb, w.config(test.key, test.value)).Failed(t)
				if got.Code != 7 || !strings.HasPrefix(got.Msg, test.msg) || got.CNIVersion != "1.0.0" {
					t.Errorf("%s: got %+v\nwant %s", verb, got, test.msg)
				}
			}
		})
	}
	t.Run("several keys at once", func(t *testing.T) {
		got := w.verb(t, "ADD", w.config("mtu", 1, "ipMasq", 5, "nodePortMark", 0)).Failed(t)
		for _, key := range []string{"mtu: 1: ", "ipMasq: 5: ", "nodePortMark: 0: "} {
			if got.Code != 7 || !strings.Contains(got.Msg, key) {
				t.Errorf("%s is missing: %+v", key, got)
			}
		}
	})
	t.Run("iptables without serviceCidr", func(t *testing.T) {
		got := w.verb(t, "ADD", w.config("firewall", "iptables")).Failed(t)
		if got.Code != 7 || !strings.HasPrefix(got.Msg, "serviceCidr: missing") || !strings.Contains(got.Msg, "accepted: ") {
			t.Errorf("got %+v", got)
		}
	})
	Same(t, "the kernel", before, w.Show(t))
}

// TestBadWorld: a good configuration, but the node or the pod is not as it should be.
func TestBadWorld(t *testing.T) {
	const noCommon = `prevResult.ips: eth0 in the pod and hostInterface enp1s0 have no usable address of the same family; accepted: at least one in IPv4 or in IPv6`
	file := filepath.Join(t.TempDir(), "netns")
	Must(t, os.WriteFile(file, nil, 0o600))
	for _, test := range []struct {
		name, script, netns string
		ifName              string
		prev                Stack // of prevResult
		code                uint
		msg                 string
	}{
		{"the pod has no such interface", "pod ip link del eth0", "", "eth0", Dual, 100, "CNI_IFNAME: eth0: the pod has no such interface"},
		{"hostInterface has no address", "ip addr flush dev enp1s0", "", "eth0", Dual, 7, "hostInterface: enp1s0: the interface has no address; accepted: "},
		{"hostInterface has only a link-local address", "ip addr flush dev enp1s0; ip addr add fe80::1/64 dev enp1s0", "", "eth0", Dual, 7, "hostInterface: enp1s0: the interface has no address; accepted: "},
		{"the pod has no address, and is to have none", "pod ip addr flush dev eth0", "", "eth0", Stack{}, 7, noCommon},
		{"the pod has not the addresses of prevResult", "pod ip addr flush dev eth0", "", "eth0", Dual, 7, noCommon},
		{"the pod has them elsewhere", "pod ip addr flush dev eth0; pod ip addr add 10.10.20.53/32 dev lo", "", "eth0", Dual, 7, noCommon},
		{"the node only IPv4, the pod only IPv6", "ip addr del fd20::152/64 dev enp1s0; pod ip addr del 10.10.20.53/24 dev eth0", "", "eth0", Only6, 7, noCommon},
		{"the node only IPv6, the pod only IPv4", "ip addr del 10.10.20.152/24 dev enp1s0; pod ip addr del fd20::53/64 dev eth0", "", "eth0", Only4, 7, noCommon},
		{"the pod's address is still tentative", "pod sysctl -qw net/ipv6/conf/eth0/accept_dad=1 net/ipv6/conf/eth0/dad_transmits=100; pod ip addr del fd20::53/64 dev eth0; pod ip addr add fd20::53/64 dev eth0", "", "eth0", Dual, 11, "fd20::53: duplicate address detection still runs on eth0"},
		{"the pod's address is the node's", "ip addr add 10.10.20.53/24 dev enp1s0", "", "eth0", Dual, 110, "10.10.20.53: the pod's address is one of the node itself"},
		{"the pod's address is a VIP of the node", "ip addr add 10.10.20.53/32 dev lo", "", "eth0", Dual, 110, "10.10.20.53: the pod's address is one of the node itself"},
		{"a foreign veth0 in the pod", "pod ip link add veth0 address 02:00:00:00:00:77 type veth peer name x", "", "eth0", Dual, 101, "containerInterface: veth0: the pod has an interface of that name (index "},
		{"a veth0 of another attachment in the pod", "ip link add vetha0e043dd type veth peer name veth0 netns $POD", "", "eth0", Dual, 101, "containerInterface: veth0: the pod has an interface of that name (index "},
		{"a foreign interface has the name of the host end", "ip link add HOSTEND type veth peer name x", "", "eth0", Dual, 101, "ip link add HOSTEND "},
		{"CNI_NETNS is the node's own", "", "/proc/self/ns/net", "eth0", Dual, 8, "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's"},
		{"CNI_NETNS is not there", "", "/run/netns/no-such-pod", "eth0", Dual, 8, "CNI_NETNS: open /run/netns/no-such-pod: no such file or directory; accepted: the path of a network namespace"},
		{"CNI_NETNS is a plain file", "", file, "eth0", Dual, 8, "CNI_NETNS: open " + file + ": not a network namespace; accepted: the path of a network namespace"},
		{"CNI_NETNS is another kind of namespace", "", "/proc/self/ns/mnt", "eth0", Dual, 8, "CNI_NETNS: open /proc/self/ns/mnt: not a network namespace; accepted: the path of a network namespace"},
		{"CNI_NETNS is a file of proc", "", "/proc/self/status", "eth0", Dual, 8, "CNI_NETNS: open /proc/self/status: not a network namespace; accepted: the path of a network namespace"},
		{"CNI_IFNAME is another interface", "", "", "net1", Dual, 7, `prevResult.interfaces: "net1" with a sandbox is missing; accepted: `},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hostEnd := strings.NewReplacer("HOSTEND", hostEnd)
			w := newWorld(t, Dual, hostEnd.Replace(test.script))
			w.Stack = test.prev
			before := w.Show(t)
			netns := test.netns
			if netns == "" {
				netns = w.Pod
			}
			got := w.verb(t, "ADD", w.config(), "CNI_NETNS="+netns, "CNI_IFNAME="+test.ifName).Failed(t)
			if got.Code != test.code || !strings.HasPrefix(got.Msg, hostEnd.Replace(test.msg)) {
				t.Errorf("got %+v\nwant %d %s", got, test.code, test.msg)
			}
			after := w.Show(t)
			if test.script != "" && strings.Contains(test.script, "HOSTEND") {
				after = withoutNodeWide(after) // a change has failed: what pods share was made before it, and stays
			}
			Same(t, "the kernel", before, after)
		})
	}
}

// TestOneFamily: a family that only one of the two has is left out.
func TestOneFamily(t *testing.T) {
	for _, test := range []struct{ name, script, leftOut string }{
		{"the node has no IPv6", "ip addr del fd20::152/64 dev enp1s0", "fd20::53 dev veth"},
		{"the pod has no IPv6", "pod ip addr del fd20::53/64 dev eth0", "fd20::53 dev veth"},
		{"the pod has no IPv4", "pod ip addr del 10.10.20.53/24 dev eth0", "10.10.20.53 dev veth"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Dual, test.script)
			w.add(t, w.config("ipMasq", true))
			w.verb(t, "CHECK", w.config("ipMasq", true)).Silent(t, "CHECK")
			if all := strings.Join(w.Show(t), "\n"); strings.Contains(all, test.leftOut) {
				t.Error(all)
			}
		})
	}
}

// TestSettles: ADD waits for the kernel's duplicate address detection.
func TestSettles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Dual, SlowAddress("eth0", "fd20::53"))
	w.add(t, w.config())
	if out := w.Sh(t, "pod ip -o addr show dev eth0 tentative; ip -6 route get fd20::53"); !strings.HasPrefix(out, "fd20::53 ") {
		t.Error(out)
	}
}
