package main

import (
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// What these tests say is written at the methods of Subject.

func TestHijackOfAWire(t *testing.T) { calico.HijackOfAWire(t) }

// TestRivalOfAHijack: also of one that moves itself, so that its routes are copied.
func TestRivalOfAHijack(t *testing.T) { ptp.RivalOfAHijack(t, NewNIC("a1", 20, Dual)) }

func TestOwnHijacks(t *testing.T) {
	ptp.OwnHijacks(t, Net1(Dual), Net2(Dual), NewNIC("net3", 20, Dual))
}
