package conflist

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// chain is a network configuration list of these plugins.
func chain(plugins ...string) string {
	return `{"cniVersion": "1.0.0", "name": "underlay", "plugins": [` + strings.Join(plugins, ", ") + `]}`
}

// vethHost is a veth-host of a list, with more keys.
func vethHost(more string) string {
	return `{"type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0"` + more + `}`
}

// underlayPlugin is a veth or a router of a list, with more keys.
func underlayPlugin(typ, more string) string {
	return `{"type": "` + typ + `", "overlay_hijack_subnet": ["10.240.0.0/12"], "service_hijack_subnet": ["172.96.0.0/18"]` + more + `}`
}

func TestLint(t *testing.T) {
	const (
		macvlan = `{"type": "macvlan", "master": "enp1s0", "mode": "bridge", "mtu": 1450, "ipam": {"type": "host-local", "ranges": [
			[{"subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "rangeEnd": "10.10.20.99", "gateway": "10.10.20.1"}], [{"subnet": "fd00:10::/64", "rangeStart": "fd00:10::50", "rangeEnd": "fd00:10::99", "gateway": "fd00:10::1"}]]}}`
		bare = `{"type": "macvlan", "master": "enp1s0", "ipam": {"type": "dhcp"}}`
	)
	tests := []struct {
		name, data string
		want       []string
	}{
		{"nothing to say", chain(macvlan, vethHost(``)), nil},
		{"a plugin between", chain(macvlan, `{"type": "tuning"}`, vethHost(`, "serviceCidr": "172.20.252.0/22"`)), nil},

		{"not JSON", "{\n// underlay\n}", []string{`line 2: // underlay: a comment, and JSON has none; accepted: valid JSON without comments`}},
		{"not an object", `[]`, []string{`configuration: []: wrong type; accepted: a JSON object`}},
		{"no plugins", `{"name": "a"}`, []string{`plugins: no list; accepted: a list of plugins`}},
		{"plugins not a list", `{"name": "a", "plugins": {}}`, []string{`plugins: {}: no list; accepted: a list of plugins`}},
		{"a plugin that is no object", chain(`"macvlan"`), []string{`plugins[0]: "macvlan": wrong type; accepted: a JSON object`}},
		{"no name", `{"plugins": [` + macvlan + `, ` + vethHost(``) + `]}`, []string{
			`name: missing; accepted: a string that begins with a letter or a digit and goes on with those, "_", "." and "-"`,
		}},
		{"a misspelt key of the list", `{"name": "a", "plugin": []}`, []string{
			`plugin: []: unknown key, did you mean "plugins"?`,
			`plugins: no list; accepted: a list of plugins`,
		}},
		{"what the plugin refuses", chain(bare, "\n"+vethHost(`, "mtu": "big",`+"\n"+`"hostIface": 1`)), []string{
			`line 2: plugins[1].mtu: "big": not a whole number; accepted: a whole number from 68 to 65535`,
			`line 3: plugins[1].hostIface: 1: unknown key, did you mean "hostInterface"?`,
		}},

		{"no veth-host", chain(bare), []string{`plugins: macvlan: none of veth-host, veth, router in the chain`}},
		{"a single plugin", bare, []string{`plugins: macvlan: none of veth-host, veth, router in the chain`}},
		{"veth-host alone", config(), []string{
			`type: veth-host: comes first; put it after the plugin that makes the pod's interface, such as macvlan or ipvlan, in one list`,
		}},
		{"veth-host first", chain(vethHost(``), bare), []string{
			`plugins[0].type: veth-host: comes first; put it after the plugin that makes the pod's interface, such as macvlan or ipvlan, in one list`,
		}},
		{"veth-host twice", chain(bare, vethHost(``), vethHost(``)), []string{
			`plugins[2].type: veth-host: comes twice; once does all that a pod needs`,
		}},

		{"containerInterface of the runtime", chain(bare, `{"type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "eth0"}`), []string{
			`plugins[1].containerInterface: eth0: the name of the pod's own interface; write veth0`,
		}},
		{"another parent", chain(bare, `{"type": "veth-host", "hostInterface": "bond0", "containerInterface": "veth0"}`), []string{
			`plugins[1].hostInterface: bond0: is not the master of the pod's interface, enp1s0; right only if the node's addresses are on bond0`,
		}},
		{"marks of others", chain(bare, vethHost(`, "nodePortMark": "0x4000", "serviceMark": "0x30800"`)), []string{
			`plugins[1].nodePortMark: 0x4000: shares a bit with kube-proxy's masquerade mark 0x4000; leave it out or take a free bit`,
			`plugins[1].serviceMark: 0x30800: shares a bit with Cilium's mark 0xf00; leave it out or take a free bit`,
			`plugins[1].serviceMark: 0x30800: shares a bit with Calico's default mark 0xffff0000; leave it out or take a free bit`,
		}},
		{"iptables without Services", chain(bare, vethHost(`, "firewall": "iptables"`)), []string{
			`plugins[1].serviceCidr: missing; with iptables it tells Service traffic from other traffic`,
		}},
		{"Services on the wire", chain(macvlan, vethHost(`, "serviceCidr": "10.0.0.0/8,172.20.252.0/22"`)), []string{
			`plugins[1].serviceCidr: 10.0.0.0/8: overlaps the underlay 10.10.20.0/24; pods would take machines on the wire for Services`,
		}},
		{"a big mtu", chain(macvlan, vethHost(`, "mtu": 9000`)), []string{
			`plugins[1].mtu: 9000: bigger than that of the pod's interface, 1450; leave it out or lower it`,
		}},
		{"an mtu too small for IPv6", chain(macvlan, vethHost(`, "mtu": 1000`)), []string{
			`plugins[1].mtu: 1000: too small for the IPv6 of plugins[0].ipam.ranges[1][0]; leave it out or write at least 1280`,
		}},
		{"macvlan private", chain(`{"type": "macvlan", "mode": "private"}`, vethHost(``)), []string{
			`plugins[0].mode: private: keeps the pods of one node from each other; write bridge`,
		}},
		{"ipvlan l3", chain(`{"type": "ipvlan", "mode": "l3s"}`, vethHost(``)), []string{
			`plugins[0].mode: l3s: leaves the pod without ARP and ND on the wire; write l2`,
		}},
		{"host-local without a gateway", chain(`{"type": "ipvlan", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.50", "rangeEnd": "10.0.0.99"}]]}}`, vethHost(``)), []string{
			`plugins[0].ipam.ranges[0][0].gateway: missing; name the router of 10.0.0.0/24`,
		}},
		{"host-local of a single range", chain(`{"type": "ipvlan", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.50", "rangeEnd": "10.0.0.99"}}`, vethHost(``)), []string{
			`plugins[0].ipam.gateway: missing; name the router of 10.0.0.0/24`,
		}},
		{"host-local without a range of the node's own", chain(`{"type": "ipvlan", "ipam": {"type": "host-local", "ranges": [[{"subnet": "fd20::/64", "rangeEnd": "fd20::99", "gateway": "fd20::1"}]]}}`, underlayPlugin("veth", ``)), []string{
			`plugins[0].ipam.ranges[0][0].rangeStart: missing; host-local's leases are one node's: give each node a range of fd20::/64 of its own, or take an IPAM that spans nodes`,
		}},
		{"a range without an end", chain(`{"type": "ipvlan", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.50", "gateway": "10.0.0.1"}}`, vethHost(``)), []string{
			`plugins[0].ipam.rangeEnd: missing; host-local's leases are one node's: give each node a range of 10.0.0.0/24 of its own, or take an IPAM that spans nodes`,
		}},
		{"a range with the gateway", chain(`{"type": "ipvlan", "ipam": {"type": "host-local", "subnet": "fd20::/64", "rangeStart": "fd20::1", "rangeEnd": "fd20::99", "gateway": "fd20:0::1"}}`, underlayPlugin("router", ``)), []string{
			`plugins[0].ipam.gateway: fd20::1: lies in the range from fd20::1 to fd20::99; give pods a range without it`,
		}},
		{"static without a gateway", chain(`{"type": "ipvlan", "ipam": {"type": "static", "addresses": [{"address": "10.0.0.7/24"}]}}`, vethHost(``)), []string{
			`plugins[0].ipam.addresses[0].gateway: missing; name the router of 10.0.0.7/24`,
		}},
		{"an interface plugin that is wrong itself", chain(`{"type": "ipvlan", "master": 1}`, vethHost(``)), nil},

		{"veth, nothing to say", chain(macvlan, underlayPlugin("veth", ``)), nil},
		{"router, nothing to say", chain(macvlan, underlayPlugin("router", `, "overlay_interface": "eth0", "host_route": false`)), nil},
		{"veth with keys of router", chain(macvlan, underlayPlugin("veth", `, "overlay_interface": "eth0", "host_rule_table": 500`)), []string{
			`plugins[1].overlay_interface: "eth0": veth ignores it, it is a key of router; leave it out`,
			`plugins[1].host_rule_table: 500: veth ignores it, it is a key of router; leave it out`,
		}},
		{"router with a key of veth", chain(macvlan, underlayPlugin("router", `, "veth_link_address": "169.254.100.1"`)), []string{
			`plugins[1].veth_link_address: "169.254.100.1": router ignores it, it is a key of veth; leave it out`,
		}},
		{"veth beside veth-host", chain(macvlan, vethHost(``), underlayPlugin("veth", ``)), []string{
			`plugins[2].type: veth: comes beside veth-host, which does the same for other pods; take one of them`,
		}},
		{"what veth refuses", chain(bare, underlayPlugin("veth", `, "rp_filter": {"value": 7}`)), []string{
			`plugins[1].rp_filter.value: 7: out of range; accepted: a whole number from 0 to 2`,
		}},
		{"a hijack of the wire", chain(macvlan, underlayPlugin("veth", `, "additional_hijack_subnet": ["10.10.0.0/16", "10.10.20.0/25", "10.10.20.9", "fd00:10::/64"]`)), []string{
			`plugins[1].additional_hijack_subnet: fd00:10::/64: is on the underlay fd00:10::/64; pods would look for machines on the wire behind their node`,
		}},
		{"a hijack of part of the wire", chain(macvlan, underlayPlugin("veth", `, "additional_hijack_subnet": ["10.10.20.0/25"]`)), []string{
			`plugins[1].additional_hijack_subnet: 10.10.20.0/25: is on the underlay 10.10.20.0/24; pods would look for machines on the wire behind their node`,
		}},
		{"no hijack at all", chain(macvlan, `{"type": "veth", "overlay_hijack_subnet": [], "service_hijack_subnet": []}`), []string{
			`plugins[1].service_hijack_subnet: []: no subnet at all; right only where something in the pod, such as eBPF, takes care of Services`,
		}},
		{"only_op_mac alone, skip_call", chain(macvlan, underlayPlugin("veth", `, "only_op_mac": true, "skip_call": true`)), []string{
			`plugins[1].only_op_mac: true: without mac_prefix it has no effect; leave it out`,
			`plugins[1].skip_call: true: the plugin does nothing`,
		}},
		{"a mac_prefix for ipvlan", chain(`{"type": "ipvlan"}`, underlayPlugin("router", `, "mac_prefix": "0a:1b"`)), []string{
			`plugins[1].mac_prefix: 0a:1b: an ipvlan has the hardware address of its parent; leave it out`,
		}},
		{"router, tables of others", chain(macvlan, underlayPlugin("router", `, "host_rule_table": 250`)), []string{
			`plugins[1].host_rule_table: 250: is one of Calico's by default (RouteTableRanges); all packets of the node ask it first: leave it out or take a free one`,
		}},
		{"router, a table of Cilium", chain(macvlan, underlayPlugin("router", `, "host_rule_table": 2004`)), []string{
			`plugins[1].host_rule_table: 2004: may become that of a pod of veth-host, whose tables begin at 256; right only on nodes without such pods: leave it out, or take 251 or 252`,
			`plugins[1].host_rule_table: 2004: is one of Cilium's (proxy); all packets of the node ask it first: leave it out or take a free one`,
		}},
		{"router, a table of nobody", chain(macvlan, underlayPlugin("router", `, "host_rule_table": 251, "overlay_interface": "network0"`)), nil},
		{"router, keys that other keys make idle", chain(macvlan, underlayPlugin("router", `, "host_route": false, "host_rule_table": 7, "migrate_route": 0, "route_table_start": 300`)), []string{
			`plugins[1].host_rule_table: 7: with host_route false it has no effect; leave it out`,
			`plugins[1].route_table_start: 300: with migrate_route 0 it has no effect; leave it out`,
		}},
		{"router on a later interface", chain(macvlan, underlayPlugin("router", `, "overlay_interface": "net1"`)), []string{
			`plugins[1].overlay_interface: net1: is what Multus calls an interface beside the first one; the overlay's is eth0, as a rule`,
		}},
		{"router in the overlay's chain", chain(`{"type": "calico"}`, `{"type": "portmap"}`, underlayPlugin("router", ``)), []string{
			`plugins[0].type: calico: is the overlay's plugin; router belongs after that of a later interface, such as macvlan, in a NetworkAttachmentDefinition`,
		}},
		{"router first", chain(underlayPlugin("router", ``), bare), []string{
			`plugins[0].type: router: comes first; put it after the plugin that makes the pod's interface, such as macvlan or ipvlan, in one list`,
		}},
		{"router, a table of the kernel", chain(macvlan, underlayPlugin("router", `, "host_rule_table": 254`)), []string{
			`line 2: plugins[1].host_rule_table: 254: a table of the kernel's own: default, main or local; accepted: a whole number from 1 to 252, or from 256 to 2147483647`,
		}},
		{"a hijack twice", chain(macvlan, underlayPlugin("router", `, "additional_hijack_subnet": ["10.241.0.0/16", "172.96.0.10", "10.30.0.0/16"]`)), []string{
			`plugins[1].additional_hijack_subnet: 10.241.0.0/16: overlaps 10.240.0.0/12 of overlay_hijack_subnet; one is enough, if both are right`,
			`plugins[1].additional_hijack_subnet: 172.96.0.10/32: overlaps 172.96.0.0/18 of service_hijack_subnet; one is enough, if both are right`,
		}},
		{"veth for macvlan private", chain(`{"type": "macvlan", "mode": "private"}`, underlayPlugin("veth", ``)), []string{
			`plugins[0].mode: private: keeps the pods of one node from each other; write bridge`,
		}},
		{"a plugin without a type", chain(`{}`, vethHost(``)), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, f := range Lint([]byte(test.data)) {
				got = append(got, f.String())
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
