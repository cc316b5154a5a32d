package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth/veth"
	"underlay-cni/routing"
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
				byHand.Sh(t, plan(t, byHand, n, config(byHand, n, pairs...)))
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

// plan is what ADD would do, as a script.
func plan(t *testing.T, w *World, n *nic, r request) string {
	t.Helper()
	self, err := routing.Self()
	Must(t, err)
	t.Cleanup(self.Close)
	node, err := self.Open(w.Node)
	Must(t, err)
	t.Cleanup(node.Close)
	node.Path = "" // the script runs there
	pod, err := self.Open(w.Pod)
	Must(t, err)
	t.Cleanup(pod.Close)
	text, err := json.Marshal(r)
	Must(t, err)
	prev, err := json.Marshal(r["prevResult"])
	Must(t, err)
	var result types100.Result
	Must(t, json.Unmarshal(prev, &result))
	planned, err := veth.Plugin().Add(&plugin.Request{
		Attachment: plugin.Attachment{Network: n.network, ContainerID: n.container, IfName: n.name}, Verb: "ADD", Netns: w.Pod,
		Config: text, Version: "1.0.0", Result: &result, Node: node, Pod: pod,
	})
	Must(t, err)
	return planned.String()
}
