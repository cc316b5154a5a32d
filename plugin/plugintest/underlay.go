package plugintest

const (
	acceptCIDR  = `; accepted: address/length as in "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings`
	acceptAddr  = `; accepted: addresses and address/length as in "169.254.25.10" or "10.30.0.0/16", or a list of such strings`
	acceptTable = `; accepted: a whole number from 1 to 252, or from 256 to 2147483647`
	acceptMAC   = `; accepted: two octets in hexadecimal, the first of them even, as in "0a:1b" or "0a-1b"`
	acceptName  = `; accepted: the name of an interface, 1 to 15 bytes without white space, quotes and any of /:%*+\$`
	acceptTime  = `; accepted: a duration greater than 0 and up to 10s, as in "1s" or "500ms"`
	acceptBool  = `: wrong type; accepted: true or false`
)

// A BadValue is a key of a configuration with a wrong value, and how the error begins.
type BadValue struct {
	Name, Key string
	Value     any
	Msg       string
}

// Bad is a wrong value of a key.
func Bad(name, key string, value any, msg string) BadValue { return BadValue{name, key, value, msg} }

// BadUnderlayValues are wrong values, of each kind, of every key of the veth and router plugins.
func BadUnderlayValues() []BadValue {
	type object = map[string]any
	type list = []any
	return []BadValue{
		{"overlay missing", "overlay_hijack_subnet", LeaveOut, `overlay_hijack_subnet: missing` + acceptCIDR},
		{"overlay null", "overlay_hijack_subnet", nil, `overlay_hijack_subnet: null: wrong type` + acceptCIDR},
		{"overlay a number", "overlay_hijack_subnet", 5, `overlay_hijack_subnet: 5: wrong type` + acceptCIDR},
		{"overlay everything", "overlay_hijack_subnet", list{"0.0.0.0/0"}, `overlay_hijack_subnet: ["0.0.0.0/0"]: 0.0.0.0/0 is every address` + acceptCIDR},
		{"overlay everything in IPv6", "overlay_hijack_subnet", list{"::/0"}, `overlay_hijack_subnet: ["::/0"]: ::/0 is every address` + acceptCIDR},
		{"overlay everything in halves", "overlay_hijack_subnet", list{"0.0.0.0/1", "128.0.0.0/1"}, `overlay_hijack_subnet: ["0.0.0.0/1","128.0.0.0/1"]: 0.0.0.0/0 is every address` + acceptCIDR},
		{"overlay an address", "overlay_hijack_subnet", list{"10.0.0.1"}, `overlay_hijack_subnet: ["10.0.0.1"]: "10.0.0.1" is not address/length` + acceptCIDR},
		{"overlay empty strings", "overlay_hijack_subnet", list{""}, `overlay_hijack_subnet: [""]: "" is not address/length` + acceptCIDR},
		{"overlay mapped", "overlay_hijack_subnet", list{"::ffff:10.0.0.0/104"}, `overlay_hijack_subnet: ["::ffff:10.0.0.0/104"]: ::ffff:10.0.0.0/104 is IPv4 written as IPv6` + acceptCIDR},
		{"service missing", "service_hijack_subnet", LeaveOut, `service_hijack_subnet: missing` + acceptCIDR},
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
	}
}
