package conflist

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// config is the smallest valid configuration with each given key set to the JSON text of its value; the empty text
// leaves the key out.
func config(keyValues ...string) string {
	return object([][2]string{
		{"cniVersion", `"1.1.0"`},
		{"name", `"cni0"`},
		{"type", `"veth-host"`},
		{"hostInterface", `"enp1s0"`},
		{"containerInterface", `"veth0"`},
	}, keyValues)
}

// underlayConfig is the same of veth and router.
func underlayConfig(keyValues ...string) string {
	return object([][2]string{
		{"cniVersion", `"1.1.0"`},
		{"name", `"net"`},
		{"type", `"veth"`},
		{"overlay_hijack_subnet", `["10.240.0.0/12"]`},
		{"service_hijack_subnet", `["172.96.0.0/18"]`},
	}, keyValues)
}

func object(values [][2]string, keyValues []string) string {
next:
	for i := 0; i < len(keyValues); i += 2 {
		for j := range values {
			if values[j][0] == keyValues[i] {
				values[j][1] = keyValues[i+1]
				continue next
			}
		}
		values = append(values, [2]string{keyValues[i], keyValues[i+1]})
	}
	var members []string
	for _, v := range values {
		if v[1] != "" {
			members = append(members, `"`+v[0]+`": `+v[1])
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// minimal is what config() without arguments means.
func minimal() *VethHost {
	return &VethHost{
		PluginConf:         types.PluginConf{CNIVersion: "1.1.0", Name: "cni0", Type: "veth-host"},
		HostInterface:      "enp1s0",
		ContainerInterface: "veth0",
		SpoofCheck:         true, RouteTableStart: 256,
		NodePortMark: 0x2000,
		ServiceMark:  0x1000,
		NodePorts:    PortRanges{{30000, 32767}},
		Firewall:     Auto,
	}
}

func diff(want, got *VethHost) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}))
}

func TestDecodeVethHostAccepts(t *testing.T) {
	tests := []struct {
		name, key, value string
		want             func(*VethHost)
	}{
		{"nothing but what is required", "type", `"veth-host"`, func(*VethHost) {}},

		{"VLAN interface", "hostInterface", `"eth0.100"`, func(c *VethHost) { c.HostInterface = "eth0.100" }},
		{"15 bytes", "hostInterface", `"enp129s0f0np0v1"`, func(c *VethHost) { c.HostInterface = "enp129s0f0np0v1" }},
		{"both names equal, in two namespaces", "containerInterface", `"enp1s0"`, func(c *VethHost) { c.ContainerInterface = "enp1s0" }},

		{"masquerade", "ipMasq", `true`, func(c *VethHost) { c.IPMasq = true }},
		{"no masquerade", "ipMasq", `false`, func(*VethHost) {}},

		{"lowest mtu", "mtu", `68`, func(c *VethHost) { c.MTU = 68 }},
		{"jumbo mtu", "mtu", `9000`, func(c *VethHost) { c.MTU = 9000 }},
		{"highest mtu", "mtu", `65535`, func(c *VethHost) { c.MTU = 65535 }},

		{"lowest table", "routeTableStart", `256`, func(*VethHost) {}},
		{"highest table", "routeTableStart", `1073741824`, func(c *VethHost) { c.RouteTableStart = 1 << 30 }},

		{"mark as a number", "nodePortMark", `16384`, func(c *VethHost) { c.NodePortMark = 0x4000 }},
		{"mark as a decimal string", "nodePortMark", `"16384"`, func(c *VethHost) { c.NodePortMark = 0x4000 }},
		{"mark as a hexadecimal string", "nodePortMark", `"0x4000"`, func(c *VethHost) { c.NodePortMark = 0x4000 }},
		{"mark in capitals", "serviceMark", `"0XA0000000"`, func(c *VethHost) { c.ServiceMark = 0xa0000000 }},
		{"several bits", "serviceMark", `"0x00000c00"`, func(c *VethHost) { c.ServiceMark = 0xc00 }},
		{"the highest bit", "serviceMark", `2147483648`, func(c *VethHost) { c.ServiceMark = 1 << 31 }},

		{"ports as iptables writes them", "nodePorts", `"20000:22767"`, func(c *VethHost) { c.NodePorts = PortRanges{{20000, 22767}} }},
		{"ports as nft writes them", "nodePorts", `"20000-22767"`, func(c *VethHost) { c.NodePorts = PortRanges{{20000, 22767}} }},
		{"one port", "nodePorts", `"30080"`, func(c *VethHost) { c.NodePorts = PortRanges{{30080, 30080}} }},
		{"every port", "nodePorts", `"1-65535"`, func(c *VethHost) { c.NodePorts = PortRanges{{1, 65535}} }},
		{"ports are sorted", "nodePorts", `"443, 80,30000:32767"`, func(c *VethHost) {
			c.NodePorts = PortRanges{{80, 80}, {443, 443}, {30000, 32767}}
		}},
		{"ports that touch or overlap are joined", "nodePorts", `"31000-32767,30000-30999,30500-31500,65535,65534"`, func(c *VethHost) {
			c.NodePorts = PortRanges{{30000, 32767}, {65534, 65535}}
		}},

		{"one Service range", "serviceCidr", `"172.20.252.0/22"`, func(c *VethHost) { c.ServiceCIDR = prefixes("172.20.252.0/22") }},
		{"Service ranges with a comma", "serviceCidr", `"fd00::/108, 172.20.252.0/22"`, func(c *VethHost) {
			c.ServiceCIDR = prefixes("172.20.252.0/22", "fd00::/108")
		}},
		{"Service ranges in a list", "serviceCidr", `["172.20.252.0/22", "fd00::/108"]`, func(c *VethHost) {
			c.ServiceCIDR = prefixes("172.20.252.0/22", "fd00::/108")
		}},
		{"host bits are dropped", "serviceCidr", `"172.20.253.17/22,fd00::1/108"`, func(c *VethHost) {
			c.ServiceCIDR = prefixes("172.20.252.0/22", "fd00::/108")
		}},
		{"contained ranges are dropped", "serviceCidr", `["10.96.1.0/24", "10.96.0.0/12", "10.96.0.0/12"]`, func(c *VethHost) {
			c.ServiceCIDR = prefixes("10.96.0.0/12")
		}},
		{"halves are joined", "serviceCidr", `"10.0.0.0/25,10.0.1.0/24,10.0.0.128/25,10.0.2.0/24"`, func(c *VethHost) {
			c.ServiceCIDR = prefixes("10.0.0.0/23", "10.0.2.0/24")
		}},
		{"no Service range, said aloud", "serviceCidr", `[]`, func(*VethHost) {}},

		{"nftables", "firewall", `"nftables"`, func(c *VethHost) { c.Firewall = NFTables }},
		{"iptables", "firewall", `"iptables"`, func(c *VethHost) { c.Firewall = IPTables }},

		{"log with defaults", "log_options", `{}`, func(c *VethHost) {
			c.LogOptions = &LogOptions{slog.LevelDebug, "/var/log/meta-plugins/veth-host.log", 100, 5, 5}
		}},
		{
			"log", "log_options",
			`{"log_level": "INFO", "log_file": "/run/log//v.log", "log_max_size": 1, "log_max_age": 2, "log_max_count": 3}`,
			func(c *VethHost) { c.LogOptions = &LogOptions{slog.LevelInfo, "/run/log/v.log", 1, 2, 3} },
		},
		{"warn", "log_options", `{"log_level": "warn"}`, func(c *VethHost) {
			c.LogOptions = &LogOptions{slog.LevelWarn, "/var/log/meta-plugins/veth-host.log", 100, 5, 5}
		}},
		{"error", "log_options", `{"log_level": "error"}`, func(c *VethHost) {
			c.LogOptions = &LogOptions{slog.LevelError, "/var/log/meta-plugins/veth-host.log", 100, 5, 5}
		}},

		{"network name with every kind of character", "name", `"0net_1.a-B"`, func(c *VethHost) { c.Name = "0net_1.a-B" }},
		{"capabilities", "capabilities", `{"mac": true}`, func(c *VethHost) { c.Capabilities = map[string]bool{"mac": true} }},
		{"IPAM is somebody else's", "ipam", `{"type": "host-local", "subnet": 1}`, func(c *VethHost) { c.IPAM.Type = "host-local" }},
		{"dns", "dns", `{"nameservers": ["10.0.0.1"]}`, func(c *VethHost) { c.DNS.Nameservers = []string{"10.0.0.1"} }},
		{"prevResult is kept as it is", "prevResult", `{"cniVersion": "1.1.0", "ips": [], "hostInterface": 1}`, func(c *VethHost) {
			c.RawPrevResult = map[string]any{"cniVersion": "1.1.0", "ips": []any{}, "hostInterface": 1.0}
		}},
		{"attachments of a runtime without pods", "cni.dev/valid-attachments", `null`, func(*VethHost) {}},
		{"no attachments left", "cni.dev/valid-attachments", `[]`, func(c *VethHost) { c.ValidAttachments = []types.GCAttachment{} }},
		{"attachments", "cni.dev/valid-attachments", `[{"containerID": "a", "ifname": "eth0"}]`, func(c *VethHost) {
			c.ValidAttachments = []types.GCAttachment{{ContainerID: "a", IfName: "eth0"}}
		}},
		{"another key of cni.dev", "cni.dev/attachments", `[]`, func(*VethHost) {}},
		{"runtimeConfig", "runtimeConfig", `{"portMappings": []}`, func(*VethHost) {}},
		{"args", "args", `{"cni": {}}`, func(*VethHost) {}},
		{"cniVersions", "cniVersions", `["1.1.0"]`, func(*VethHost) {}},
		{"disableCheck", "disableCheck", `true`, func(*VethHost) {}},
		{"disableGC", "disableGC", `true`, func(*VethHost) {}},
		{"loadOnlyInlinedPlugins", "loadOnlyInlinedPlugins", `true`, func(*VethHost) {}},
		{"no cniVersion, which means 0.1.0", "cniVersion", ``, func(c *VethHost) { c.CNIVersion = "" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := DecodeVethHost([]byte(config(test.key, test.value)))
			if err != nil {
				t.Fatal(err)
			}
			want := minimal()
			test.want(want)
			if d := diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func prefixes(texts ...string) Prefixes {
	var all Prefixes
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestDecodeVethHostRefuses(t *testing.T) {
	const (
		iface = `accepted: the name of an interface, 1 to 15 bytes without white space, quotes and any of /:%*+\$`
		cni   = `accepted: a string that begins with a letter or a digit and goes on with those, "_", "." and "-"`
		mark  = `accepted: bits of a 32-bit mark, as a number or a string such as "0x2000"`
		mtu   = `accepted: a whole number from 68 to 65535`
		table = `accepted: a whole number from 256 to 1073741824`
		ports = `accepted: a string of ports from 1 to 65535, "30000-32767" or "30000:32767", lists with commas`
		cidr  = `accepted: address/length as in "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings`
		level = `accepted: debug, info, warn or error`
	)
	tests := []struct{ name, key, value, err string }{
		{"no hostInterface", "hostInterface", ``, `hostInterface: missing; ` + iface},
		{"hostInterface empty", "hostInterface", `""`, `hostInterface: "": empty; ` + iface},
		{"hostInterface null", "hostInterface", `null`, `hostInterface: null: wrong type; ` + iface},
		{"hostInterface a number", "hostInterface", `1`, `hostInterface: 1: wrong type; ` + iface},
		{"hostInterface a list", "hostInterface", `["enp1s0"]`, `hostInterface: ["enp1s0"]: wrong type; ` + iface},
		{"hostInterface too long", "hostInterface", `"enp129s0f0np0v12"`, `hostInterface: "enp129s0f0np0v12": longer than 15 bytes; ` + iface},
		{"hostInterface a path", "hostInterface", `"../x"`, `hostInterface: "../x": contains /, : or %; ` + iface},
		{"no containerInterface", "containerInterface", ``, `containerInterface: missing; ` + iface},
		{"containerInterface with a space", "containerInterface", `"veth 0"`, `containerInterface: "veth 0": contains white space or a control character; ` + iface},
		{"containerInterface an alias", "containerInterface", `"veth:0"`, `containerInterface: "veth:0": contains /, : or %; ` + iface},
		{"containerInterface a pattern", "containerInterface", `"veth%d"`, `containerInterface: "veth%d": contains /, : or %; ` + iface},
		{"containerInterface a dot", "containerInterface", `".."`, `containerInterface: "..": a directory; ` + iface},
		{"containerInterface a word of sysctl", "containerInterface", `"all"`, `containerInterface: "all": reserved: it stands for every interface in sysctls; ` + iface},
		{"containerInterface with a zero byte", "containerInterface", `"a\u0000"`, `containerInterface: "a\u0000": contains white space or a control character; ` + iface},

		{"ipMasq a string", "ipMasq", `"true"`, `ipMasq: "true": wrong type; accepted: true or false`},
		{"ipMasq a number", "ipMasq", `1`, `ipMasq: 1: wrong type; accepted: true or false`},
		{"ipMasq null", "ipMasq", `null`, `ipMasq: null: wrong type; accepted: true or false`},

		{"mtu 0", "mtu", `0`, `mtu: 0: out of range; ` + mtu},
		{"mtu negative", "mtu", `-1500`, `mtu: -1500: out of range; ` + mtu},
		{"mtu below IPv4", "mtu", `67`, `mtu: 67: out of range; ` + mtu},
		{"mtu above a packet", "mtu", `65536`, `mtu: 65536: out of range; ` + mtu},
		{"mtu a string", "mtu", `"1500"`, `mtu: "1500": not a whole number; ` + mtu},
		{"mtu empty", "mtu", `""`, `mtu: "": not a whole number; ` + mtu},
		{"mtu a fraction", "mtu", `1500.5`, `mtu: 1500.5: not a whole number; ` + mtu},
		{"mtu beyond every integer", "mtu", `99999999999999999999`, `mtu: 99999999999999999999: out of range; ` + mtu},
		{"mtu null", "mtu", `null`, `mtu: null: not a whole number; ` + mtu},

		{"table default", "routeTableStart", `253`, `routeTableStart: 253: out of range; ` + table},
		{"table main", "routeTableStart", `254`, `routeTableStart: 254: out of range; ` + table},
		{"table local", "routeTableStart", `255`, `routeTableStart: 255: out of range; ` + table},
		{"tables that grow into main", "routeTableStart", `100`, `routeTableStart: 100: out of range; ` + table},
		{"table 0", "routeTableStart", `0`, `routeTableStart: 0: out of range; ` + table},
		{"table too high", "routeTableStart", `2147483647`, `routeTableStart: 2147483647: out of range; ` + table},
		{"table by name", "routeTableStart", `"main"`, `routeTableStart: "main": not a whole number; ` + table},

		{"mark 0", "nodePortMark", `0`, `nodePortMark: 0: a mark of 0 has no bit to set; ` + mark},
		{"mark 0x0", "nodePortMark", `"0x0"`, `nodePortMark: "0x0": a mark of 0 has no bit to set; ` + mark},
		{"mark negative", "nodePortMark", `-1`, `nodePortMark: -1: not a mark; ` + mark},
		{"mark of 33 bits", "nodePortMark", `4294967296`, `nodePortMark: 4294967296: more than 32 bits; ` + mark},
		{"mark of 33 bits in hex", "serviceMark", `"0x100000000"`, `serviceMark: "0x100000000": more than 32 bits; ` + mark},
		{"mark empty", "serviceMark", `""`, `serviceMark: "": empty; ` + mark},
		{"mark without digits", "serviceMark", `"0x"`, `serviceMark: "0x": not a mark; ` + mark},
		{"mark octal", "serviceMark", `"010000"`, `serviceMark: "010000": a leading 0 is octal to ip(8) and decimal to others; ` + mark},
		{"mark with a mask", "serviceMark", `"0x1000/0x1000"`, `serviceMark: "0x1000/0x1000": not a mark; ` + mark},
		{"mark a boolean", "serviceMark", `true`, `serviceMark: true: not a mark; ` + mark},
		{"mark null", "serviceMark", `null`, `serviceMark: null: not a mark; ` + mark},
		{"mark an object", "serviceMark", `{"value": 1}`, `serviceMark: {"value":1}: not a mark; ` + mark},
		{
			"serviceMark within nodePortMark", "serviceMark", `"0x3000"`,
			`serviceMark: 0x3000: shares a bit with nodePortMark 0x2000; accepted: bits of a 32-bit mark that nodePortMark does not have`,
		},
		{
			"nodePortMark within serviceMark", "nodePortMark", `"0x1000"`,
			`nodePortMark: 0x1000: shares a bit with serviceMark 0x1000; accepted: bits of a 32-bit mark that serviceMark does not have`,
		},

		{"ports backwards", "nodePorts", `"32767:30000"`, `nodePorts: "32767:30000": "32767:30000" runs backwards; ` + ports},
		{"port 0", "nodePorts", `"0-100"`, `nodePorts: "0-100": "0" is out of range; ` + ports},
		{"port too high", "nodePorts", `"30000-65536"`, `nodePorts: "30000-65536": "65536" is out of range; ` + ports},
		{"ports empty", "nodePorts", `""`, `nodePorts: "": empty; ` + ports},
		{"ports half empty", "nodePorts", `"30000-32767,"`, `nodePorts: "30000-32767,": "" is not a port; ` + ports},
		{"ports without an end", "nodePorts", `"30000-"`, `nodePorts: "30000-": "" is not a port; ` + ports},
		{"ports with two ends", "nodePorts", `"1-2-3"`, `nodePorts: "1-2-3": "2-3" is not a port; ` + ports},
		{"ports by name", "nodePorts", `"http"`, `nodePorts: "http": "http" is not a port; ` + ports},
		{"ports a number", "nodePorts", `30080`, `nodePorts: 30080: wrong type; ` + ports},
		{"ports a list", "nodePorts", `["30080"]`, `nodePorts: ["30080"]: wrong type; ` + ports},

		{"Services without a length", "serviceCidr", `"172.20.252.0"`, `serviceCidr: "172.20.252.0": "172.20.252.0" is not address/length; ` + cidr},
		{"Services too long", "serviceCidr", `"172.20.252.0/33"`, `serviceCidr: "172.20.252.0/33": "172.20.252.0/33" is not address/length; ` + cidr},
		{"Services with a mask", "serviceCidr", `"172.20.252.0/255.255.252.0"`, `serviceCidr: "172.20.252.0/255.255.252.0": "172.20.252.0/255.255.252.0" is not address/length; ` + cidr},
		{"Services empty", "serviceCidr", `""`, `serviceCidr: "": empty; ` + cidr},
		{"Services with an empty item", "serviceCidr", `["172.20.252.0/22", ""]`, `serviceCidr: ["172.20.252.0/22",""]: "" is not address/length; ` + cidr},
		{"Services everywhere", "serviceCidr", `"0.0.0.0/0"`, `serviceCidr: "0.0.0.0/0": 0.0.0.0/0 is every address; ` + cidr},
		{"Services everywhere in IPv6", "serviceCidr", `"::/0"`, `serviceCidr: "::/0": ::/0 is every address; ` + cidr},
		{"Services everywhere in halves", "serviceCidr", `"0.0.0.0/1,128.0.0.0/1"`, `serviceCidr: "0.0.0.0/1,128.0.0.0/1": 0.0.0.0/0 is every address; ` + cidr},
		{"Services IPv4-mapped", "serviceCidr", `"::ffff:172.20.252.0/118"`, `serviceCidr: "::ffff:172.20.252.0/118": ::ffff:172.20.252.0/118 is IPv4 written as IPv6; ` + cidr},
		{"Services with a zone", "serviceCidr", `"fe80::%eth0/64"`, `serviceCidr: "fe80::%eth0/64": "fe80::%eth0/64" is not address/length; ` + cidr},
		{"Services a number", "serviceCidr", `22`, `serviceCidr: 22: wrong type; ` + cidr},
		{"Services a list of numbers", "serviceCidr", `[22]`, `serviceCidr: [22]: wrong type; ` + cidr},
		{"Services null", "serviceCidr", `null`, `serviceCidr: null: wrong type; ` + cidr},

		{"firewall unknown", "firewall", `"ebpf"`, `firewall: "ebpf": no such backend; accepted: auto, nftables or iptables`},
		{"firewall in capitals", "firewall", `"NFTables"`, `firewall: "NFTables": no such backend; accepted: auto, nftables or iptables`},
		{"firewall empty", "firewall", `""`, `firewall: "": empty; accepted: auto, nftables or iptables`},
		{"firewall a boolean", "firewall", `true`, `firewall: true: wrong type; accepted: auto, nftables or iptables`},

		{"log not an object", "log_options", `"debug"`, `log_options: "debug": wrong type; accepted: an object`},
		{"log null", "log_options", `null`, `log_options: null: wrong type; accepted: an object`},
		{"log level unknown", "log_options", `{"log_level": "trace"}`, `log_options.log_level: "trace": no such level; ` + level},
		{"log level of slog", "log_options", `{"log_level": "info+2"}`, `log_options.log_level: "info+2": no such level; ` + level},
		{"log level empty", "log_options", `{"log_level": ""}`, `log_options.log_level: "": empty; ` + level},
		{"log level a number", "log_options", `{"log_level": 4}`, `log_options.log_level: 4: wrong type; ` + level},
		{"log file relative", "log_options", `{"log_file": "v.log"}`, `log_options.log_file: "v.log": not absolute: a plugin has no working directory to rely on; accepted: the absolute path of a file`},
		{"log file a directory", "log_options", `{"log_file": "/var/log/"}`, `log_options.log_file: "/var/log/": not the name of a file; accepted: the absolute path of a file`},
		{"log file empty", "log_options", `{"log_file": ""}`, `log_options.log_file: "": empty; accepted: the absolute path of a file`},
		{"log file a number", "log_options", `{"log_file": 1}`, `log_options.log_file: 1: wrong type; accepted: the absolute path of a file`},
		{"log size 0", "log_options", `{"log_max_size": 0}`, `log_options.log_max_size: 0: out of range; accepted: a whole number from 1 to 100000`},
		{"log size a string", "log_options", `{"log_max_size": "100"}`, `log_options.log_max_size: "100": not a whole number; accepted: a whole number from 1 to 100000`},
		{"log age negative", "log_options", `{"log_max_age": -1}`, `log_options.log_max_age: -1: out of range; accepted: a whole number from 1 to 100000`},
		{"log count too high", "log_options", `{"log_max_count": 100001}`, `log_options.log_max_count: 100001: out of range; accepted: a whole number from 1 to 100000`},
		{"log key misspelt", "log_options", `{"logLevel": "info"}`, `log_options.logLevel: "info": unknown key, did you mean "log_level"?`},

		{"no name", "name", ``, `name: missing; ` + cni},
		{"name empty", "name", `""`, `name: "": empty; ` + cni},
		{"name a path", "name", `"a/b"`, `name: "a/b": has a character that CNI does not allow there: '/'; ` + cni},
		{"name begins with a dot", "name", `".a"`, `name: ".a": has a character that CNI does not allow there: '.'; ` + cni},
		{"name with a letter that is not ASCII", "name", `"é"`, `name: "é": has a character that CNI does not allow there: 'é'; ` + cni},
		{"name a number", "name", `5`, `name: 5: wrong type; ` + cni},
		{"cniVersion a number", "cniVersion", `1.0`, `cniVersion: 1.0: wrong type; accepted: a string such as "1.1.0"`},
		{"type a list", "type", `[]`, `type: []: wrong type; accepted: a string, the name of the plugin's binary`},
		{"capabilities a list", "capabilities", `["ips"]`, `capabilities: ["ips"]: wrong type; accepted: an object of true and false`},
		{"ipam a string", "ipam", `"host-local"`, `ipam: "host-local": wrong type; accepted: an object with a type`},
		{"dns a string", "dns", `"10.0.0.1"`, `dns: "10.0.0.1": wrong type; accepted: an object with nameservers, domain, search and options`},
		{"prevResult a list", "prevResult", `[]`, `prevResult: []: wrong type; accepted: an object, the result of the plugin before`},
		{"attachments an object", "cni.dev/valid-attachments", `{}`, `cni.dev/valid-attachments: {}: wrong type; accepted: a list of {containerID, ifname}`},

		{"snake case", "host_interface", `"enp1s0"`, `host_interface: "enp1s0": unknown key, did you mean "hostInterface"?`},
		{"snake case of an abbreviation", "service_cidr", `"10.96.0.0/12"`, `service_cidr: "10.96.0.0/12": unknown key, did you mean "serviceCidr"?`},
		{"another case", "serviceCIDR", `"10.96.0.0/12"`, `serviceCIDR: "10.96.0.0/12": unknown key, did you mean "serviceCidr"?`},
		{"camel case", "logOptions", `{}`, `logOptions: {}: unknown key, did you mean "log_options"?`},
		{"another case of a key of CNI", "Name", `"a"`, `Name: "a": unknown key, did you mean "name"?`},
		{"a letter missing", "nodePort", `"1-2"`, `nodePort: "1-2": unknown key, did you mean "nodePorts"?`},
		{"two letters swapped", "mut", `1500`, `mut: 1500: unknown key, did you mean "mtu"?`},
		{"a letter wrong", "mtv", `1500`, `mtv: 1500: unknown key, did you mean "mtu"?`},
		{"a key of another plugin", "service_hijack_subnet", `[]`, `service_hijack_subnet: []: unknown key; accepted: ` + allKeys},
		{"an empty key", "", `1`, `"": 1: unknown key; accepted: ` + allKeys},
		{"a long value is shortened", "master", `"` + strings.Repeat("é", 40) + `"`, `master: "` + strings.Repeat("é", 29) + `…: unknown key; accepted: ` + allKeys},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := DecodeVethHost([]byte(config(test.key, test.value)))
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(test.err, err.Error()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			e, ok := errors.AsType[*KeyError](err)
			if !ok || !strings.Contains(e.Key, test.key) {
				t.Errorf("errors.AsType: %#v", e)
			}
			if c == nil {
				t.Error("DEL gets no configuration to go on with")
			}
		})
	}
}

const allKeys = "hostInterface, containerInterface, ipMasq, spoofCheck, mtu, routeTableStart, nodePortMark, serviceMark, nodePorts, " +
	"serviceCidr, firewall, log_options, cniVersion, name, type, capabilities, ipam, dns, prevResult, cni.dev/valid-attachments"

func BenchmarkDecodeVethHost(b *testing.B) {
	data := []byte(config("serviceCidr", `"172.20.252.0/22,fd00::/108"`, "ipMasq", "true", "prevResult", `{
		"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"}],
		"ips": [{"interface": 0, "address": "10.10.20.53/24", "gateway": "10.10.20.1"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeVethHost(data); err != nil {
			b.Fatal(err)
		}
	}
}
