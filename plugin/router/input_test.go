package main

import (
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
	ptp.BadWorld(t, WorldRow{Name: "the pod has no eth0", Script: "pod ip link del eth0", Code: 7, Msg: `overlay_interface: "eth0": the pod has no such interface`})
}

func TestSettles(t *testing.T) { ptp.Settles(t) }

func TestSkipCall(t *testing.T) { ptp.SkipCall(t) }

// TestRPFilter: the overlay's peer is the node's, as others are.
func TestRPFilter(t *testing.T) {
	ptp.RPFilter(t, []string{"all", "eth0", "net1"}, nil, []string{"vethptp0"})
}

func TestMAC(t *testing.T) { ptp.HardwareAddress(t) }

func TestConflict(t *testing.T) { ptp.Conflict(t) }
