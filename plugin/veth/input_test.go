package main

import (
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

func TestBadConfiguration(t *testing.T) { subject.BadConfiguration(t) }

func TestBadWorld(t *testing.T) {
	const foreign = "veth0: the pod has an interface of that name (index "
	subject.BadWorld(
		t,
		WorldRow{
			Name: "the node has no address", Script: "for i in 20 30 40; do ip addr flush dev enp$i; done", Code: 7,
			Msg: "the node has no address that a pod could reach it by; accepted: at least one in IPv4 or in IPv6, of an interface that is up",
		},
		WorldRow{Name: "a foreign veth0 that is no veth", Script: "pod ip link add link eth0 name veth0 type macvlan mode bridge", Code: 101, Msg: foreign},
		WorldRow{Name: "a foreign veth0 in the pod", Script: "pod ip link add veth0 type veth peer name other", Code: 101, Msg: foreign},
		WorldRow{Name: "a foreign veth0 with a peer on the node", Script: "ip link add vetha0e043dd type veth peer name veth0 netns $POD", Code: 101, Msg: foreign},
		WorldRow{
			Name: "a foreign interface has the name of the host end", Code: 101, Msg: "ip link add " + hostEnd(ID) + " ", Begun: true,
			Script: "ip link add " + hostEnd(ID) + " type veth peer name other",
		},
		WorldRow{
			Name: "mac_prefix with an address of the pod elsewhere", Code: 110, Msg: "10.10.20.53",
			Script: "ip addr add 10.10.20.53/32 dev lo",
			Pairs:  []any{"ip_conflict", map[string]any{"enabled": true, "interval": "10ms"}},
		},
	)
}

func TestSettles(t *testing.T) { subject.Settles(t) }

func TestSkipCall(t *testing.T) { subject.SkipCall(t) }

// TestRPFilter: our own host end is always set.
func TestRPFilter(t *testing.T) {
	subject.RPFilter(t, []string{"eth0", "veth0"}, []string{hostEnd(ID)}, nil)
}

func TestRPFilterOfAll(t *testing.T) { subject.RPFilterOfAll(t) }

func TestMAC(t *testing.T) { subject.HardwareAddress(t) }

func TestConflict(t *testing.T) { subject.Conflict(t) }
