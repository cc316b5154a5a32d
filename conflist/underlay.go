package conflist

import (
	"errors"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// The defaults of the veth and router plugins.
const (
	DefaultUnderlayTable    = 200
	DefaultHostRuleTable    = 500
	DefaultOverlayInterface = "eth0"
	DefaultInterval         = time.Second
	DefaultRetries          = 3
)

// The limits of their keys.
const (
	maxTable    = 1<<31 - 1
	maxInterval = 10 * time.Second
	maxRetries  = 10 // with the longest interval, a pod waits for most of what a runtime gives it
)

// Underlay is the configuration of the veth and router plugins, for which their existing NetworkAttachmentDefinitions
// hold: keys are in snake_case. DecodeVeth and DecodeRouter make it.
type Underlay struct {
	// PluginConf holds what every plugin gets from the runtime.
	types.PluginConf

	// Overlay (overlay_hijack_subnet, required) are the overlay's pod ranges, which pods reach by the node. An empty list
	// is accepted, a missing key is not.
	Overlay Prefixes

	// Service (service_hijack_subnet, required) are the ClusterIP ranges, as Overlay.
	Service Prefixes

	// Additional (additional_hijack_subnet, default none) are further ranges and addresses.
	Additional Addressees

	// MigrateRoute (migrate_route, default -1) says whether the routes of one of two interfaces move to a table of
	// their own.
	MigrateRoute MigrateRoute

	// SkipCall (skip_call, default false) passes prevResult on and changes nothing.
	SkipCall bool

	// RPFilter (rp_filter, default {false, 2}).
	RPFilter RPFilter

	// LogOptions (log_options). Never nil: these plugins always had a log.
	LogOptions *LogOptions

	// IPConflict (ip_conflict, default off) looks for somebody else who has the pod's addresses.
	IPConflict IPConflict

	// MACPrefix (mac_prefix, default none) makes the hardware address of the pod's interface.
	MACPrefix MACPrefix

	// OnlyOpMAC (only_op_mac, default false): with a MACPrefix, the check for conflicts and the hardware address are all
	// that is done.
	OnlyOpMAC bool

	// OverlayInterface (overlay_interface, default eth0) is the overlay's interface in the pod. For router.
	OverlayInterface string

	// HostRuleTable (host_rule_table, default 500) is the node's table with the routes to pods. For router.
	HostRuleTable int

	// HostRoute (host_route, default true) makes the node reach the pod by the overlay. For router.
	HostRoute bool

	// RouteTableStart (route_table_start, default 200) is the pod's first table for the routes that move: those of net1 with
	// veth, of the overlay's interface with router; the next interface has the next.
	RouteTableStart int

	// Firewall (firewall, default auto) is the backend.
	Firewall Firewall

	// SpoofCheck (spoof_check, default true) has the node drop what a pod sends by the veth pair, or with router by the
	// overlay, with a source that the node does not route back by it.
	SpoofCheck bool

	// VethLinkAddress (veth_link_address, default none) are addresses of veth0 in the pod that never leave it: for
	// iptables REDIRECT, which translates to an address of the interface that a packet comes in by. For veth.
	VethLinkAddress LinkAddresses

	// MAC is the hardware address that the runtime asks for (runtimeConfig.mac), or empty. It wins over MACPrefix.
	MAC string
}

// RPFilter is rp_filter: the value of the pod's interfaces and, with veth, of the host end.
type RPFilter struct {
	SetHost bool // set_host, default false: of the node's interfaces too
	Value   int  // value, default 2: 0, 1 or 2 as in net.ipv4.conf.*.rp_filter
}

// IPConflict is ip_conflict.
type IPConflict struct {
	Enabled  bool          // enabled, default false
	Interval time.Duration // interval between probes, a string such as "1s", default 1s, up to 10s
	Retries  int           // retries: number of probes, default 3
}

// DecodeVeth decodes the configuration of the veth plugin, as DecodeVethHost does that of veth-host. The keys that only
// router has are accepted, and mean nothing: published configurations have them.
func DecodeVeth(data []byte) (*Underlay, error) { return decodeUnderlay(data, "veth") }

// DecodeRouter decodes the configuration of the router plugin.
func DecodeRouter(data []byte) (*Underlay, error) { return decodeUnderlay(data, "router") }

func decodeUnderlay(data []byte, plugin string) (*Underlay, error) {
	members, err := split(data, firstLine(data))
	if err != nil {
		return nil, err
	}
	c, errs := decodeUnderlayMembers(members, plugin)
	return c, errors.Join(errs...)
}

func decodeUnderlayMembers(members []member, plugin string) (*Underlay, []error) {
	c := newUnderlay(plugin)
	errs := decode("", members, c.keys())
	for _, all := range c.Hijack() { // each list for itself is valid by now
		if all.Bits() == 0 {
			errs = append(errs, &KeyError{
				Key: "service_hijack_subnet", Value: c.Service.String(), Problem: "together with the other subnets it is every address",
				Accepted: "subnets that leave something to the wire",
			})
		}
	}
	return c, errs
}

func newUnderlay(plugin string) *Underlay {
	return &Underlay{
		MigrateRoute:     MigrateByName,
		RPFilter:         RPFilter{Value: 2},
		LogOptions:       defaultLogOptions(plugin),
		IPConflict:       IPConflict{Interval: DefaultInterval, Retries: DefaultRetries},
		OverlayInterface: DefaultOverlayInterface,
		HostRuleTable:    DefaultHostRuleTable,
		SpoofCheck:       true,
		HostRoute:        true,
		RouteTableStart:  DefaultUnderlayTable,
		Firewall:         Auto,
	}
}

// routerKeys are the keys that mean something to router only.
func routerKeys() []string { return []string{"overlay_interface", "host_rule_table", "host_route"} }

// keys is the table of keys of the README, bound to the fields of c.
func (c *Underlay) keys() []key {
	return append([]key{
		{name: "overlay_hijack_subnet", value: &c.Overlay, required: true},
		{name: "service_hijack_subnet", value: &c.Service, required: true},
		{name: "additional_hijack_subnet", value: &c.Additional},
		{name: "migrate_route", value: &c.MigrateRoute},
		{name: "skip_call", value: (*boolean)(&c.SkipCall)},
		{name: "rp_filter", object: func() []key {
			return []key{
				{name: "set_host", value: (*boolean)(&c.RPFilter.SetHost)},
				{name: "value", value: integer{&c.RPFilter.Value, 0, 2}},
			}
		}},
		{name: "log_options", object: func() []key { return c.LogOptions.keys() }},
		{name: "ip_conflict", object: func() []key {
			return []key{
				{name: "enabled", value: (*boolean)(&c.IPConflict.Enabled)},
				{name: "interval", value: (*interval)(&c.IPConflict.Interval)},
				{name: "retries", value: integer{&c.IPConflict.Retries, 1, maxRetries}},
			}
		}},
		{name: "mac_prefix", value: &c.MACPrefix},
		{name: "only_op_mac", value: (*boolean)(&c.OnlyOpMAC)},
		{name: "overlay_interface", value: (*interfaceName)(&c.OverlayInterface)},
		{name: "host_rule_table", value: tableID{&c.HostRuleTable}},
		{name: "host_route", value: (*boolean)(&c.HostRoute)},
		{name: "route_table_start", value: tableID{&c.RouteTableStart}},
		{name: "firewall", value: &c.Firewall},
		{name: "spoof_check", value: (*boolean)(&c.SpoofCheck)},
		{name: "veth_link_address", value: &c.VethLinkAddress},
		{name: "runtimeConfig", value: runtimeMAC{&c.MAC}},
	}, cniKeys(&c.PluginConf)...)
}

// Hijack are all destinations that the pod reaches by the node, each address once.
func (c *Underlay) Hijack() Prefixes {
	var all Prefixes
	for _, list := range []Prefixes{c.Overlay, c.Service, Prefixes(c.Additional)} {
		all = append(all, list...)
	}
	return all.merge()
}

// SkipsCall tells whether a configuration says skip_call, whatever else it says.
func SkipsCall(data []byte) bool {
	members, err := split(data, 0)
	m, _ := find(members, "skip_call")
	return err == nil && string(m.raw) == "true"
}

// MigrateRoute is the value of migrate_route.
type MigrateRoute int

// The values of migrate_route.
const (
	MigrateByName MigrateRoute = -1 // where the interface's name does not come first: eth0, net1, net2
	MigrateNever  MigrateRoute = 0
	MigrateAlways MigrateRoute = 1
)

// UnmarshalJSON implements json.Unmarshaler.
func (m *MigrateRoute) UnmarshalJSON(raw []byte) error {
	n := int(*m)
	err := (integer{&n, int(MigrateByName), int(MigrateAlways)}).UnmarshalJSON(raw)
	*m = MigrateRoute(n)
	return err
}

func (*MigrateRoute) accepted() string { return "-1 (by name), 0 (never) or 1 (always)" }

// Addressees are Prefixes whose JSON may have addresses among them.
type Addressees Prefixes

// UnmarshalJSON implements json.Unmarshaler.
func (a *Addressees) UnmarshalJSON(raw []byte) error {
	all, err := unmarshalPrefixes(raw, func(s string) (netip.Prefix, error) {
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return parsePrefix(s)
		case addr.Is4In6():
			return netip.Prefix{}, errors.New(s + " is IPv4 written as IPv6")
		case addr.Zone() != "":
			return netip.Prefix{}, errors.New(quote(s) + " has a zone")
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	})
	if err == nil {
		*a = Addressees(all)
	}
	return err
}

func (*Addressees) accepted() string {
	return `addresses and address/length as in "169.254.25.10" or "10.30.0.0/16", or a list of such strings`
}

// LinkAddresses are addresses of one interface that never leave it: link-local ones.
type LinkAddresses []netip.Addr

// UnmarshalJSON implements json.Unmarshaler.
func (l *LinkAddresses) UnmarshalJSON(raw []byte) error {
	var all Addressees
	if err := all.UnmarshalJSON(raw); err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, p := range all {
		if !p.IsSingleIP() || !p.Addr().IsLinkLocalUnicast() {
			return errors.New(p.String() + " is not a link-local address")
		}
		addrs = append(addrs, p.Addr())
	}
	*l = addrs
	return nil
}

func (*LinkAddresses) accepted() string {
	return `addresses of 169.254.0.0/16 and fe80::/10 as in "169.254.100.1", or a list of such strings`
}

// interval is a positive duration.
type interval time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (i *interval) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	switch {
	case s == "":
		return errEmpty
	case err != nil:
		return errors.New("not a duration")
	case d <= 0 || d > maxInterval:
		return errOutOfRange
	}
	*i = interval(d)
	return nil
}

func (*interval) accepted() string {
	return `a duration greater than 0 and up to 10s, as in "1s" or "500ms"`
}

// tableID is the id of a routing table that is not one of the kernel's own.
type tableID struct{ to *int }

// UnmarshalJSON implements json.Unmarshaler.
func (t tableID) UnmarshalJSON(raw []byte) error {
	n := *t.to
	if err := (integer{&n, 1, maxTable}).UnmarshalJSON(raw); err != nil {
		return err
	}
	if 253 <= n && n <= 255 {
		return errors.New("a table of the kernel's own: default, main or local")
	}
	*t.to = n
	return nil
}

func (tableID) accepted() string {
	return "a whole number from 1 to 252, or from 256 to " + decimal(maxTable)
}

// runtimeMAC takes the mac of runtimeConfig. Whatever else is there is the runtime's business.
type runtimeMAC struct{ to *string }

// UnmarshalJSON implements json.Unmarshaler.
func (r runtimeMAC) UnmarshalJSON(raw []byte) error {
	members, _ := walk(raw, 0, '{')
	if m, ok := find(members, "mac"); ok {
		mac, err := unquote(m.raw)
		if err != nil {
			return errors.New("mac is no string")
		}
		*r.to = mac
	}
	return nil
}

func (runtimeMAC) accepted() string { return "an object with what the runtime asks for" }
