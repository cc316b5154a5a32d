// Package conflist is the configuration of the plugins: the keys of a network configuration list (the "conflist"
// in /etc/cni/net.d, or the spec.config of a NetworkAttachmentDefinition) as Go types with their defaults.
//
// It is strict, because a key that is silently ignored costs an operator an afternoon: keys are matched exactly,
// an unknown key is an error with a suggestion, and each error names the key, its value and what is accepted.
// It looks at nothing but the text: whether an interface exists is the plugin's business.
//
// The package is linked into plugin binaries that live for a few milliseconds. It therefore knows only JSON and
// the CNI types, and does no work before it is called.
package conflist

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"
)

// The defaults of the veth-host plugin.
const (
	DefaultRouteTableStart      = 256
	DefaultNodePortMark    Mark = 0x2000
	DefaultServiceMark     Mark = 0x1000
)

// The limits of the integer keys.
const (
	minMTU     = 68   // RFC 791: what every IPv4 link carries
	minIPv6MTU = 1280 // RFC 8200: below it the kernel takes IPv6 off the interface
	maxMTU     = 65535

	// A table id is routeTableStart plus an ifindex, and an ifindex only grows while the node is up: any start
	// below 253 would one day give 253…255, the kernel's default, main and local. 253…255 themselves name those
	// tables, so that nobody who writes them means "greater than".
	minRouteTableStart = 256
	// Ids stay below 2³¹, where every tool can name them; half of that range is left for ifindexes.
	maxRouteTableStart = 1 << 30
)

// VethHost is the configuration of the veth-host plugin. DecodeVethHost makes it; it is not meant to be encoded again.
type VethHost struct {
	// PluginConf holds what every plugin gets from the runtime: name, type, cniVersion, prevResult (not parsed),
	// ipam, dns and, on GC, the valid attachments.
	types.PluginConf

	// HostInterface (hostInterface, required) is the interface of the node whose addresses the pod must reach:
	// normally the parent of the underlay interface.
	HostInterface string

	// ContainerInterface (containerInterface, required) is the name of the veth end in the pod, normally veth0.
	ContainerInterface string

	// IPMasq (ipMasq, default false) masquerades what a pod opens to the outside as the node. Services work
	// either way.
	IPMasq bool

	// SpoofCheck (spoofCheck, default true) has the node drop what a pod sends by the veth pair with a source that the node
	// does not route to it.
	SpoofCheck bool

	// MTU (mtu) of both veth ends, in bytes, from 68 to 65535. 0: not given; the plugin then takes 1500, or the
	// MTU of HostInterface if that is smaller.
	MTU int

	// RouteTableStart (routeTableStart, default 256): the per-pod route tables on the node have ids greater than
	// this, namely this plus the ifindex of the host end. From 256 to 2³⁰.
	RouteTableStart int

	// NodePortMark (nodePortMark, default 0x2000) is the bit, or the bits, of the packet mark that send a packet
	// through the main table. Other bits of a mark are never read or written.
	NodePortMark Mark

	// ServiceMark (serviceMark, default 0x1000) is the bit, or the bits, of the mark of a pod's Service
	// connections. It shares no bit with NodePortMark.
	ServiceMark Mark

	// NodePorts (nodePorts, default 30000-32767) is the API server's service-node-port-range. Never empty.
	NodePorts PortRanges

	// ServiceCIDR (serviceCidr, default none) holds the Service ranges. The nftables backend can do without (it
	// sees DNAT itself), the iptables backend tells Service traffic from other traffic with it.
	ServiceCIDR Prefixes

	// Firewall (firewall, default auto) is the backend.
	Firewall Firewall

	// LogOptions (log_options, default nil: no log file).
	LogOptions *LogOptions
}

// DecodeVethHost decodes the configuration of the veth-host plugin as a runtime writes it to the plugin's
// standard input, fills in the defaults and checks every key.
//
// The error is nil, one *KeyError, or several of them joined, one for each key that is wrong. With an error comes
// what could be decoded all the same, defaults in place of what is wrong, because DEL has to go on with a broken
// configuration; it is nil only if data is not a JSON object.
func DecodeVethHost(data []byte) (*VethHost, error) {
	members, err := split(data, firstLine(data))
	if err != nil {
		return nil, err
	}
	c, errs := decodeVethHost(members)
	return c, errors.Join(errs...)
}

func decodeVethHost(members []member) (*VethHost, []error) {
	c := &VethHost{
		RouteTableStart: DefaultRouteTableStart,
		NodePortMark:    DefaultNodePortMark,
		ServiceMark:     DefaultServiceMark,
		NodePorts:       PortRanges{{First: 30000, Last: 32767}},
		Firewall:        Auto,
		SpoofCheck:      true,
	}
	errs := decode("", members, c.keys())
	if len(errs) == 0 {
		errs = c.check()
	}
	return c, errs
}

// keys is the table of keys of the README, bound to the fields of c.
func (c *VethHost) keys() []key {
	return append([]key{
		{name: "hostInterface", value: (*interfaceName)(&c.HostInterface), required: true},
		{name: "containerInterface", value: (*interfaceName)(&c.ContainerInterface), required: true},
		{name: "ipMasq", value: (*boolean)(&c.IPMasq)},
		{name: "spoofCheck", value: (*boolean)(&c.SpoofCheck)},
		{name: "mtu", value: integer{&c.MTU, minMTU, maxMTU}},
		{name: "routeTableStart", value: integer{&c.RouteTableStart, minRouteTableStart, maxRouteTableStart}},
		{name: "nodePortMark", value: &c.NodePortMark},
		{name: "serviceMark", value: &c.ServiceMark},
		{name: "nodePorts", value: &c.NodePorts},
		{name: "serviceCidr", value: &c.ServiceCIDR},
		{name: "firewall", value: &c.Firewall},
		{name: "log_options", object: func() []key {
			c.LogOptions = defaultLogOptions("veth-host")
			return c.LogOptions.keys()
		}},
	}, cniKeys(&c.PluginConf)...)
}

// check compares keys with each other. Each key for itself is valid by now.
func (c *VethHost) check() []error {
	var errs []error
	if c.NodePortMark&c.ServiceMark != 0 {
		key, mark, other, otherMark := "serviceMark", c.ServiceMark, "nodePortMark", c.NodePortMark
		if c.ServiceMark == DefaultServiceMark { // blame the key that the operator wrote
			key, mark, other, otherMark = other, otherMark, key, mark
		}
		errs = append(errs, &KeyError{
			Key: key, Value: mark.String(),
			Problem:  "shares a bit with " + other + " " + otherMark.String(),
			Accepted: "bits of a 32-bit mark that " + other + " does not have",
		})
	}
	if c.MTU != 0 && c.MTU < minIPv6MTU && len(c.ServiceCIDR.V6()) > 0 {
		errs = append(errs, &KeyError{
			Key: "mtu", Value: decimal(c.MTU),
			Problem:  "too small for the IPv6 in serviceCidr",
			Accepted: integer{&c.MTU, minIPv6MTU, maxMTU}.accepted(),
		})
	}
	return errs
}

// cniKeys are the keys that the CNI specification gives to every plugin. A key without a value is accepted and
// left to others: ipam and dns belong to the interface plugin, the rest to the runtime.
func cniKeys(c *types.PluginConf) []key {
	return []key{
		{name: "cniVersion", value: field[string]{&c.CNIVersion, "a string such as \"1.1.0\""}},
		{name: "name", value: (*networkName)(&c.Name), required: true},
		{name: "type", value: field[string]{&c.Type, "a string, the name of the plugin's binary"}},
		{name: "capabilities", value: field[map[string]bool]{&c.Capabilities, "an object of true and false"}},
		{name: "ipam", value: field[types.IPAM]{&c.IPAM, "an object with a type"}},
		{name: "dns", value: field[types.DNS]{&c.DNS, "an object with nameservers, domain, search and options"}},
		{name: "prevResult", value: field[map[string]any]{&c.RawPrevResult, "an object, the result of the plugin before"}},
		{name: "cni.dev/valid-attachments", value: field[[]types.GCAttachment]{
			&c.ValidAttachments, "a list of {containerID, ifname}",
		}},
		{name: "args"},
		{name: "deviceID"}, // Multus, where the network asks for a device
		{name: "pciBusID"},
		{name: "cniVersions"},
		{name: "disableCheck"},
		{name: "disableGC"},
		{name: "loadOnlyInlinedPlugins"},
		{name: "runtimeConfig"},
	}
}
