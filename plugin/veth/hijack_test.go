package main

import (
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// What these tests say is written at the methods of Subject.

func TestHijackOfAWire(t *testing.T) { subject.HijackOfAWire(t) }

func TestRivalOfAHijack(t *testing.T) { subject.RivalOfAHijack(t) }

func TestOwnHijacks(t *testing.T) { subject.OwnHijacks(t, Eth0(Dual), Net1(Dual), Net2(Dual)) }

// TestHeirOfHijacks: those of main become the later interface's when the first one goes.
func TestHeirOfHijacks(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			first, later := Eth0(s), Net1(s)
			w := subject.New(t, s, "", first)
			w.Add(t, first)
			w.Come(t, later)
			w.Del(t, first)
			w.Check(t, later)
			w.Sh(t, "pod ip link del eth0")
			w.Check(t, later)
		})
	}
}
