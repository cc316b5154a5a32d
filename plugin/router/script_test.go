package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/router/router"
	"underlay-cni/routing"
)

// TestPlanIsAScript: a shell that runs the plans leaves both namespaces as ADD does, for net1 and for net2.
func TestPlanIsAScript(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			nics := []*nic{net1(s), net2(s)}
			byAdd, byHand := newWorld(t, s, calico, "", nics...), newWorld(t, s, calico, "", nics...)
			pairs := []any{"rp_filter", map[string]any{"set_host": true, "value": 1}, "mac_prefix", "0a:1b"}
			for _, n := range nics {
				add(t, byAdd, n, pairs...)
				// The rules that net1 and net2 share: to ip(8) it is an error if they are there.
				script := strings.ReplaceAll(plan(t, byHand, n, config(byHand, n, pairs...)), " protocol kernel\n", " protocol kernel || :\n")
				byHand.Sh(t, script)
			}
			// nft adds the rules of the pod, which both share, a second time.
			show := func(w *World) []string {
				lines := w.Show(t)
				for i := range lines {
					lines[i] = strings.ReplaceAll(lines[i], w.Pod, "POD")
				}
				return slices.Compact(sorted(lines))
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
	defer self.Close()
	node, err := self.Open(w.Node)
	Must(t, err)
	defer node.Close()
	node.Path = "" // the script runs there
	pod, err := self.Open(w.Pod)
	Must(t, err)
	defer pod.Close()
	text, err := json.Marshal(r)
	Must(t, err)
	var conf struct {
		PrevResult types100.Result `json:"prevResult"`
	}
	Must(t, json.Unmarshal(text, &conf))
	a := plugin.Attachment{Network: n.network, ContainerID: n.container, IfName: n.name}
	planned, err := router.Plugin().Add(plugin.NewRequest("ADD", a, text, &conf.PrevResult, node, pod))
	Must(t, err)
	return planned.String()
}
