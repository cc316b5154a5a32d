package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
	"underlay-cni/plugin/router/router"
	"underlay-cni/plugin/veth-host/vethhost"
	"underlay-cni/plugin/veth/veth"
)

// A Subject is a plugin with a configuration, and what may stay of it.
type Subject struct {
	Name    string
	Plugin  plugin.Plugin                  // computes the plans
	Options lab.Options                    // of the node: its Edit makes the configuration
	HostEnd func(plugin.Attachment) string // the name of the pod's interface on the node
	// Sign is what is in the node's Dump as long as there is anything of an attachment; nil: HostEnd.
	Sign func(plugin.Attachment) string
	// IfName is the pod's interface on the wire, where eth0 is an overlay's; "": it is eth0.
	IfName string
	// Table is the node's, for its routes to pods; "": main.
	Table string
	// Routed tells that a pod has a default route in each family at any time.
	Routed bool
	// TakenAway are more cases of TestTakenAway: scripts by their names.
	TakenAway map[string]string
	// Variants are the changes of the configuration with which the plan has other kinds of lines, the first of them
	// with the most.
	Variants []Variant
	// Shared are the lines of the node's Dump that the pods of a network share: they stay when the last of them goes.
	Shared *regexp.Regexp
	// Kept are the lines of a pod's Dump that stay in a pod that lives on: they name nothing but its own interfaces, or
	// are settings.
	Kept *regexp.Regexp
	// Unmissed are the lines of the plan that hold what only others knew: if somebody takes it away, nobody can tell.
	Unmissed *regexp.Regexp
	// Another makes the configuration that of another network, beside the name.
	Another func(config map[string]any)
	// LeftOut are the tests, and the cases of tests, that say nothing about the plugin, and why.
	LeftOut map[string]string
	// ByProgram tells that other programs write the firewall, as iptables(8) does.
	ByProgram bool
}

// A Variant is a change of the plugin's own configuration.
type Variant struct {
	Name string
	Edit func(config map[string]any)
}

// Subjects is all of them.
var Subjects = []Subject{
	vethHost("nftables", ""),
	vethHost("iptables", "nft"),
	vethHost("iptables", "legacy"),
	vethOnly("nftables", ""),
	vethOnly("iptables", "nft"),
	vethOnly("iptables", "legacy"),
	routerOnly("nftables", ""),
	routerOnly("iptables", "nft"),
	routerOnly("iptables", "legacy"),
}

// vethHost with a backend: see "once per network" of its specification.
func vethHost(firewall, variant string) Subject {
	return Subject{
		Name: strings.TrimSuffix("veth-host "+firewall+"-"+variant, "-"), Plugin: vethhost.Plugin(),
		Options: lab.Options{IPTables: variant, Firewall: firewall}, ByProgram: variant != "",
		HostEnd: plugin.Attachment.HostEnd,
		Variants: []Variant{
			{"ipMasq false", func(config map[string]any) { config["ipMasq"] = false }},
			{"ipMasq true", func(config map[string]any) { config["ipMasq"] = true }},
		},
		Another: func(config map[string]any) { config["serviceMark"], config["nodePortMark"] = "0x100000", "0x200000" },
		LeftOut: map[string]string{
			"TestRefusedDel": "a known gap: once the pair has gone no DEL tries again to put the pod's default routes back",
		},
		Shared: regexp.MustCompile(`^rule6? (512: from all fwmark 0x2000/0x2000 lookup main|` +
			`1022: from all fwmark 0x1000/0x1000 goto 1024( \[unresolved\])?|1023: from all fwmark 0/0x1000 goto 1025|1025: from all nop)$|` +
			`^nft inet veth-host-cni0: |^ip6?tables-(nft|legacy) (mangle|nat|filter): (-P |.*VETH-HOST-\d+-)`),
		Kept: regexp.MustCompile(`^(nft inet veth-host|ip6?tables-(nft|legacy) (mangle|nat|filter)): |^sysctl net/ipv[46]/conf/(all|default|eth0)/`),
	}
}

// vethOnly is veth with a backend, for a pod's first interface.
func vethOnly(firewall, variant string) Subject {
	return Subject{
		Name: strings.TrimSuffix("veth "+firewall+"-"+variant, "-"), Plugin: veth.Plugin(),
		Options: lab.Options{IPTables: variant, Firewall: firewall, Edit: func(c *lab.Conflist) {
			config := c.Plugin("veth-host")
			services := config["serviceCidr"]
			clear(config)
			maps.Copy(config, map[string]any{
				"type": "veth", "firewall": firewall, "log_options": map[string]any{"log_file": "/dev/null"},
				"service_hijack_subnet": services, "overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/96"},
			})
		}},
		ByProgram: variant != "", Routed: true,
		// Of all attachments of a container.
		HostEnd: func(a plugin.Attachment) string {
			return plugin.Attachment{Network: "veth", ContainerID: a.ContainerID}.HostEnd()
		},
		Variants: []Variant{
			{"with addresses of its own", func(config map[string]any) {
				config["mac_prefix"], config["veth_link_address"] = "0a:1b", []any{"169.254.7.7", "fe80::7"}
			}},
		},
		Unmissed: regexp.MustCompile(`/forwarding=0$`), // what the pod may turn on
		Another:  func(map[string]any) {},
		LeftOut: map[string]string{
			"TestTakenAway/the pod's rules on the node":                     "it has none",
			"TestTakenAway/all rules, as a restart of systemd-networkd may": "it has none on the node",
			"TestAfterOtherPlugins/tuning of rp_filter":                     "rp_filter of the pod's interface is a key of its own",
			"TestTableTaken":                     "it has no table on the node",
			"TestGCGoesOn":                       "lo, which the kernel does not delete, is no veth, and so never its own",
			"TestRefusedDel":                     "a known gap: once the pair has gone no DEL tries again to take the rule for answers out of the pod",
			"TestStatus":                         "it has no hostInterface: TestStatus of plugin/veth",
			"TestRaceInOneNetns/two attachments": "another container's id is how a runtime attaches a pod's later interface: TestLesson07 of plugin/veth",
		},
		Shared: regexp.MustCompile(`^nft inet veth\.cni0: |^ip6?tables-(nft|legacy) (mangle|nat|filter): (-P |.*VETH-\d+-)`),
		Kept:   regexp.MustCompile(`^(nft inet veth|ip6?tables-(nft|legacy) (mangle|nat|filter)): |^sysctl net/ipv[46]/conf/(all|default|eth0)/`),
	}
}

// overlayEnd is the name of the overlay's interface on the node, of which no plugin here knows but by the pod's eth0.
func overlayEnd(a plugin.Attachment) string {
	return plugin.Attachment{Network: "overlay", ContainerID: a.ContainerID}.HostEnd()
}

// routerOnly is router with a backend, for net1 of a pod whose eth0 is an overlay's.
func routerOnly(firewall, variant string) Subject {
	const eth0s = "eth0 and its other end are the overlay's: without them there is no ADD, see TestBadWorld of plugin/router"
	return Subject{
		Name: strings.TrimSuffix("router "+firewall+"-"+variant, "-"), Plugin: router.Plugin(),
		Options: lab.Options{IPTables: variant, Firewall: firewall, Edit: func(c *lab.Conflist) {
			config := c.Plugin("veth-host")
			services := config["serviceCidr"]
			clear(config)
			maps.Copy(config, map[string]any{
				"type": "router", "firewall": firewall, "log_options": map[string]any{"log_file": "/dev/null"},
				"service_hijack_subnet": services, "overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/96"},
			})
		}},
		ByProgram: variant != "", Routed: true, IfName: "net1", Table: "500", HostEnd: overlayEnd,
		// The name of a host end, had it one: of the further names of the overlay's interface.
		Sign: func(a plugin.Attachment) string {
			return "." + strings.TrimPrefix(a.HostEnd(), plugin.HostEndPrefix) + "."
		},
		Variants: []Variant{
			{"with a hardware address of its own", func(config map[string]any) { config["mac_prefix"] = "0a:1b" }},
		},
		Unmissed: regexp.MustCompile(` default via \S+ dev eth0 .*table 200|/forwarding=0$`), // the overlay's own default route; what the pod may turn on
		Another:  func(map[string]any) {},
		TakenAway: map[string]string{
			"the shared rule":                         "ip rule del pref 1000; ip -6 rule del pref 1000",
			"the routes to the pod":                   "ip route flush table 500; ip -6 route flush table 500",
			"the name in the pod":                     "POD ip link property del dev net1 altname $(POD ip link show net1 | grep -o 'router[.]pod.*')",
			"the pod's ways to the node and Services": "POD ip route flush dev eth0 proto static table all; POD ip -6 route flush dev eth0 proto static table all",
			"the new default route":                   "POD ip route del default dev net1; POD ip -6 route del default dev net1",
		},
		LeftOut: map[string]string{
			"TestTakenAway/the host end":                 eth0s,
			"TestTakenAway/the pod's end":                eth0s,
			"TestTakenAway/the routes of the host end":   eth0s,
			"TestTakenAway/the pod's routes to the node": eth0s,
			"TestTakenAway/the pod's rules on the node":  "it has none of a pod's own",
			"TestAfterOtherPlugins/tuning of rp_filter":  "rp_filter of the pod's interfaces is a key of its own",
			"TestAfterOtherPlugins/sbr":                  "sbr takes out of main what router has put there: net1's default route",
			"TestForeignInterface":                       "it makes no interface",
			"TestTableTaken":                             "all pods share its table on the node",
			"TestGCGoesOn":                               "it deletes no interface, and the kernel deletes all else: TestGCRefused",
			"TestStatus":                                 "it has no hostInterface: TestStatus of plugin/router",
			"TestRaceInOneNetns/two attachments":         "another container's id is how a runtime attaches a pod's later interface",
		},
		// The shared rule; and what is the overlay's.
		Shared: regexp.MustCompile(`^rule6? 1000: from all lookup 500$|^link veth\S+ |^addr \d+: veth\S+ |^sysctl net/ipv[46]/conf/veth|` +
			`^route6? (local |multicast |anycast )?(10\.244\.|fd00:10:244:|ff00::)\S* dev veth`),
		Kept: regexp.MustCompile(`^(nft inet router|ip6?tables-(nft|legacy) (mangle|nat|filter)): |^sysctl net/ipv[46]/conf/(all|default|eth0|net1)/`),
	}
}

// Type is the name of the plugin's binary.
func (s *Subject) Type() string { return s.Plugin.Name }

// With is the subject with another configuration.
func (s *Subject) With(edit func(*lab.Conflist)) *Subject {
	other, before := *s, s.Options.Edit
	other.Options.Edit = func(c *lab.Conflist) {
		if before != nil {
			before(c)
		}
		edit(c)
	}
	return &other
}

// Request is the plugin's standard input for the pod.
func (s *Subject) Request(p *lab.Pod) map[string]any {
	r := p.Node.Conflist().Request(s.Type())
	if p.Result != nil {
		r["prevResult"] = p.Result
	}
	return r
}

// Run runs a verb of the plugin on the pod as libcni does, and returns what it prints.
func (s *Subject) Run(verb string, p *lab.Pod, other ...string) ([]byte, error) {
	return p.Node.Plugin(s.Type(), s.Request(p), p.Variables(verb, other...)...)
}

// Trace runs a verb of the plugin on the pod with a fault at a change.
func (s *Subject) Trace(verb string, p *lab.Pod, fault Fault, at int) (*Outcome, error) {
	return s.trace(verb, p, Command{Fault: fault, At: at})
}

// TraceMore runs a verb of the plugin on the pod with all changes refused from one on.
func (s *Subject) TraceMore(verb string, p *lab.Pod, from int) (*Outcome, error) {
	return s.trace(verb, p, Command{Fault: Refuse, At: from, More: true})
}

func (s *Subject) trace(verb string, p *lab.Pod, c Command) (*Outcome, error) {
	c.Env = p.Node.Environ(p.Variables(verb)...)
	var err error
	if c.Path, err = p.Node.Find(s.Type()); err != nil {
		return nil, err
	}
	if c.Stdin, err = json.Marshal(s.Request(p)); err != nil {
		return nil, fmt.Errorf("write the input of %s: %w", s.Type(), err)
	}
	var o *Outcome
	err = p.Node.OnThread(func() (err error) {
		o, err = Trace(c)
		return err
	})
	return o, err
}

// Without leaves out of a dump the lines that match.
func Without(d lab.Dump, lines *regexp.Regexp) lab.Dump {
	return slices.DeleteFunc(slices.Clone(d), lines.MatchString)
}

// A Failure is the error object that a plugin prints.
type Failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// ParseFailure reads the one JSON object that a plugin prints when it fails.
func ParseFailure(text string) (*Failure, error) {
	var f Failure
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("parse an error object: %w: %q", err, text)
	}
	if d.More() {
		return nil, fmt.Errorf("%w: %q", errSecondObject, text)
	}
	return &f, nil
}

var errSecondObject = errors.New("more than one JSON object")
