package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

func TestBadConfiguration(t *testing.T) {
	ptp.BadConfiguration(
		t,
		Bad("host_rule_table 0", "host_rule_table", 0, `host_rule_table: 0: out of range`),
		Bad("host_rule_table main", "host_rule_table", 254, `host_rule_table: 254: a table of the kernel's own: default, main or local`),
		Bad("overlay_interface missing in the pod", "overlay_interface", "eth7", `overlay_interface: "eth7": the pod has no such interface; accepted: the pod's interface that the overlay has made`),
		Bad("overlay_interface is the new one", "overlay_interface", "net1", `overlay_interface: "net1": it is the interface of CNI_IFNAME itself; accepted: `),
		Bad("overlay_interface without a peer", "overlay_interface", "lo", `overlay_interface: "lo": it is no veth with its other end on the node; accepted: one that is, or host_route false`),
	)
}

func TestBadWorld(t *testing.T) {
	ptp.BadWorld(
		t,
		WorldRow{Name: "the pod has no eth0", Script: "pod ip link del eth0", Code: 7, Msg: `overlay_interface: "eth0": the pod has no such interface`},
		WorldRow{
			Name: "the table has another's IPv6 default route, and the rule for it is IPv4's", Code: 7,
			Script: "ip rule add pref 1000 lookup 500 protocol kernel; ip -6 route add default via fd20::1 table 500",
			Msg:    "host_rule_table: 500: it has a route of others: default via fd20::1 dev enp20 ",
		},
		WorldRow{
			Name: "the table has another's IPv4 default route, and the rule for it is IPv6's", Code: 7,
			Script: "ip -6 rule add pref 1000 lookup 500 protocol kernel; ip route add default via 10.10.20.1 table 500",
			Msg:    "host_rule_table: 500: it has a route of others: default via 10.10.20.1 dev enp20 ",
		},
	)
}

// TestTableOfOthers: a default route of others in the table is no matter in a family that the pod does not have, or whose rule
// the node has already: no rule is added that would lead to it.
func TestTableOfOthers(t *testing.T) {
	for name, script := range map[string]string{
		"a family that the pod does not have": "",
		"the rule is there":                   "ip -6 rule add pref 1000 lookup 500 protocol kernel;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := Net1(Only4)
			if script != "" {
				n = Net1(Dual)
			}
			w := ptp.New(t, Dual, script+"ip -6 route add default via fd20::1 table 500", n)
			w.Add(t, n)
			w.Check(t, n)
			if out := w.Sh(t, "ip rule; ip -6 rule"); strings.Count(out, "1000:") != 1+strings.Count(script, "rule") {
				t.Error(out)
			}
		})
	}
}

func TestSettles(t *testing.T) { ptp.Settles(t) }

func TestSkipCall(t *testing.T) { ptp.SkipCall(t) }

// TestRPFilter: the overlay's peer is the node's, as others are.
func TestRPFilter(t *testing.T) {
	ptp.RPFilter(t, []string{"eth0", "net1"}, nil, []string{"vethptp0"})
}

func TestRPFilterOfAll(t *testing.T) { ptp.RPFilterOfAll(t) }

func TestMAC(t *testing.T) { ptp.HardwareAddress(t) }

func TestConflict(t *testing.T) { ptp.Conflict(t) }
