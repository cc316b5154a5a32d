package main

import (
	"slices"
	"strings"
	"testing"

	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth/veth"
)

// TestPlanIsAScript: a shell that runs the plans leaves both namespaces as ADD does, for a first interface and a later
// one.
func TestPlanIsAScript(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			nics := []*nic{eth0(s), net1(s)}
			byAdd, byHand := newWorld(t, s, "", nics...), newWorld(t, s, "", nics...)
			pairs := []any{"veth_link_address", "169.254.100.1", "rp_filter", map[string]any{"set_host": true, "value": 1}, "mac_prefix", "0a:1b"}
			for _, n := range nics {
				add(t, byAdd, n, pairs...)
				byHand.Sh(t, byHand.Plan(t, veth.Plugin(), plugin.Attachment{Network: n.network, ContainerID: n.container, IfName: n.name}, config(byHand, n, pairs...)))
			}
			// The kernel lists neighbours in any order; and nft adds the rules of the pod, which both share, a second time.
			show := func(w *World) []string {
				lines := w.Show(t)
				for i := range lines {
					lines[i] = strings.ReplaceAll(lines[i], w.Pod, "POD")
				}
				slices.Sort(lines)
				return slices.Compact(lines)
			}
			Same(t, "by hand", show(byAdd), show(byHand))
		})
	}
}
