package conformance

import (
	"path/filepath"
	"slices"
	"testing"

	"underlay-cni/integration/lab"
)

// A subject is a plugin of which we know how it does. To add one is to add a line.
type subject struct {
	name   string // of the binary, too
	file   string // with the conflist, in the module; "": conf
	conf   string
	before string // what comes before conf
	first  string // the network of eth0, where the plugin makes net1
	known  [][]known

	reference bool // one of the CNI project's, in .tools, not in bin: its rows of a version are run for the ends only
}

// ends are the oldest version in which the plugins are found in the field, and the newest.
var ends = []string{"0.3.1", "1.1.0"}

// known is rows that are not passed, and why.
type known struct {
	outcome Outcome
	why     string
	rows    []string
}

// verdicts are the known ones by their rows.
func (s *subject) verdicts() map[string]known {
	verdicts := map[string]known{}
	for _, k := range slices.Concat(s.known...) {
		for _, row := range k.rows {
			verdicts[row] = k
		}
	}
	return verdicts
}

func (s *subject) subject(t *testing.T) *Subject {
	t.Helper()
	parse := func(text string) *lab.Conflist {
		if text == "" {
			return nil
		}
		c, err := ParseConf([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	list := readConf(t, s.file)
	if list == nil {
		list = parse(s.conf)
	}
	dir := plugins()
	if s.reference {
		dir = tools()
	}
	made := newSubject(t, filepath.Join(dir, s.name), "", list, parse(s.before))
	made.First = parse(s.first)
	return made
}

var subjects = []subject{
	{
		name: "veth-host", file: "conflist/examples/macvlan-dual-stack.conflist",
		known: [][]known{{
			{Noted, "a known limit: one attachment in a pod", []string{"ADD/a second attachment of the container", "callers/Multus"}},
		}, settingsStay, oneCode},
	},
	{
		name: "veth",
		conf: `{ "cniVersion": "1.0.0", "name": "macvlan-standalone", "plugins": [
			{ "type": "macvlan", "master": "enp1s0", "ipam": {
				"type": "host-local", "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
				"ranges": [[{ "subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "gateway": "10.10.20.1" }], [{ "subnet": "fd20::/64", "rangeStart": "fd20::50", "gateway": "fd20::1" }]]
			} },
			{ "type": "veth", "firewall": "nftables", "log_options": { "log_file": "/dev/null" },
				"service_hijack_subnet": ["172.96.0.0/18", "2001:4860:fd00::/108"], "overlay_hijack_subnet": ["10.240.0.0/12", "fd00:10:244::/96"] }
		] }`,
		known: [][]known{settingsStay, oneCode},
	},
	{
		name: "router", first: overlay,
		conf: `{ "cniVersion": "1.0.0", "name": "macvlan-overlay", "plugins": [
			{ "type": "macvlan", "master": "enp1s0", "ipam": {
				"type": "host-local", "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
				"ranges": [[{ "subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "gateway": "10.10.20.1" }], [{ "subnet": "fd20::/64", "rangeStart": "fd20::50", "gateway": "fd20::1" }]]
			} },
			{ "type": "router", "firewall": "nftables", "mac_prefix": "0a:0b", "log_options": { "log_file": "/dev/null" },
				"service_hijack_subnet": ["172.96.0.0/18", "2001:4860:fd00::/108"], "overlay_hijack_subnet": ["10.240.0.0/12", "fd00:10:244::/96"] }
		] }`,
		known: [][]known{oneCode, {
			{
				Noted, "as settingsStay; so does the hardware address, and net1's default route gives way to that of eth0",
				[]string{"DEL/the container is as it was"},
			},
		}},
	},
	{
		name: "macvlan", reference: true,
		conf: `{ "type": "macvlan", "master": "enp1s0", "ipam": {
			"type": "host-local", "subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "gateway": "10.10.20.1", "routes": [{ "dst": "0.0.0.0/0" }]
		} }`,
		known: [][]known{ofSkel, strictArgs, firstInChain, twoObjects, ofHostLocal, {
			{Noted, "STATUS does not look at the master", []string{"STATUS/not ready"}},
		}},
	},
	{
		name: "bridge", reference: true,
		conf: `{ "type": "bridge", "isGateway": true, "ipMasq": true, "ipam": {
			"type": "host-local", "subnet": "10.88.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }]
		} }`,
		known: [][]known{ofSkel, strictArgs, firstInChain, twoObjects, ofHostLocal, {
			{
				Failed, "it learns from the container's interface for what addresses it has made masquerading rules; they stay if that is gone",
				[]string{
					"DEL/CNI_NETNS does not exist any more", "DEL/CNI_NETNS is empty", "DEL/without CNI_NETNS", "DEL/without netns and prevResult",
					"DEL/the interface is gone", "DEL/its interfaces on the node are gone", "GC/DEL after it",
				},
			},
			{
				Failed, "its chains are named by network and container: two attachments share one, and the DEL of the first fails",
				[]string{"callers/Multus"},
			},
			{Noted, "the same", []string{"ADD/a second attachment of the container"}},
		}},
	},
	{
		name: "ptp", reference: true,
		conf: `{ "type": "ptp", "ipam": {
			"type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]], "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
		} }`,
		known: [][]known{ofSkel, strictArgs, firstInChain, twoObjects, ofHostLocal, {
			{Noted, "the route to the gateway is there already", []string{"ADD/a second attachment of the container", "callers/Multus"}},
		}},
	},
	{
		name: "tuning", reference: true, before: DefaultBefore,
		conf: `{ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mac": "02:00:00:00:00:77", "mtu": 1400 }`,
		known: [][]known{ofSkel, strictArgs, {
			{
				Failed, "it keeps what was before ADD in a file of /run, which only a DEL with the interface removes",
				[]string{
					"DEL/CNI_NETNS does not exist any more", "DEL/CNI_NETNS is empty", "DEL/without CNI_NETNS", "DEL/without netns and prevResult",
					"DEL/the interface is gone", "GC/DEL after it",
				},
			},
			{Noted, "the same", []string{"DEL/CNI_NETNS is a plain file", "GC/an empty list", "GC/what is not in the list goes"}},
		}},
	},
	{
		name: "portmap", reference: true, before: DefaultBefore,
		conf: `{ "type": "portmap", "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] } }`,
		known: [][]known{ofSkel, twoObjects, {
			{Noted, "it does not look at the container at all", []string{"CHECK/the container is unreachable"}},
			{Noted, "its chains are named by network and container: two attachments share one", []string{"ADD/a second attachment of the container"}},
			{Noted, "it has no GC", []string{"GC/an empty list", "GC/what is not in the list goes"}},
		}},
	},
	{
		name: "sbr", reference: true, before: DefaultBefore, conf: `{ "type": "sbr" }`,
		known: [][]known{ofSkel, {
			{Failed, "its CHECK does nothing", []string{"CHECK/without prevResult"}},
			{Noted, "the same", []string{"CHECK/the container is unreachable"}},
			{
				Failed, "its DEL opens the namespace first, and fails without",
				[]string{
					"DEL/CNI_NETNS does not exist any more", "DEL/CNI_NETNS is empty", "DEL/without CNI_NETNS", "DEL/without netns and prevResult",
					"GC/DEL after it", "callers/containerd",
				},
			},
			{Noted, "the same", []string{"DEL/CNI_NETNS is a plain file"}},
			{Noted, "its DEL removes the rules, and leaves the routes in their table", []string{"DEL/the container is as it was"}},
			{Failed, "it moves routes that its result still has in main: the CHECK of bridge fails", []string{"callers/CRI-O", "callers/cnitool"}},
		}},
	},
}

// overlay is a cluster's default network.
const overlay = `{ "cniVersion": "1.0.0", "name": "overlay", "plugins": [{ "type": "ptp", "ipam": {
	"type": "host-local", "ranges": [[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:10:244:1::/64" }]], "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
} }] }`

// What the plugins of this project have in common.
var (
	settingsStay = []known{{
		Noted, "the rules of the firewall and the settings stay in a pod that lives on: they name nothing but its own interfaces",
		[]string{"DEL/the container is as it was"},
	}}
	oneCode = []known{
		{Noted, "its code is 7 for all that is wrong with a configuration", []string{"input/unknown key"}},
	}
)

// What several of the reference plugins have in common.
var (
	ofSkel = []known{
		{Failed, "package skel answers VERSION without reading the question", []string{"VERSION/cniVersion is that of the input/0.3.1"}},
		{Failed, "the messages of package skel do not name the variable", []string{"input/bad CNI_CONTAINERID", "input/bad CNI_IFNAME"}},
		{Noted, "types.Error of the library has no cniVersion", []string{"error/cniVersion/0.3.1", "error/cniVersion/1.1.0"}},
	}
	strictArgs = []known{
		{Noted, "they refuse the keys of CNI_ARGS that they do not know", []string{"input/CNI_ARGS that nobody knows"}},
	}
	firstInChain = []known{
		{Failed, "interface plugins do not look at prevResult", []string{"result/an interface plugin keeps prevResult"}},
	}
	twoObjects = []known{
		{Failed, "package skel finds out that the namespace is the runtime's own when the result is printed, and prints an error behind it", []string{"error/object"}},
		{Noted, "the same", []string{"ADD/a failed one leaves nothing", "ADD/an impossible one is refused"}},
	}
	ofHostLocal = []known{
		{Noted, "host-local has no GC: the addresses leak", []string{"GC/an empty list", "GC/what is not in the list goes"}},
		{Noted, "a file that is no namespace is an error", []string{"DEL/CNI_NETNS is a plain file"}},
	}
)
