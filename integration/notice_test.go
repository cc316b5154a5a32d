package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
	"underlay-cni/plugin"
)

// TestTableNotices takes one piece of the design away in each world, and wants the rows that depend on it to fail: a
// table that passes whatever happens would prove nothing. What it breaks tells also what each piece is for.
func TestTableNotices(t *testing.T) {
	type piece struct {
		name, machine, take string
		fail                []int // rows, over TCP
		stack               lab.Stack
	}
	pieces := map[paths.Backend][]piece{
		paths.NFTables: {
			{"the pod's forward chain", "pod", "nft flush chain inet veth-host forward", []int{15}, lab.DualStack},
			{"the pod's masquerading", "pod", "nft flush chain inet veth-host postrouting", []int{3, 4, 6, 7}, lab.DualStack},
			{"the pod's marks on replies", "pod", "nft flush chain inet veth-host output", []int{11, 12}, lab.DualStack},
			{"the node's marks", "node", "nft flush chain inet veth-host-cni0 prerouting", []int{3, 6, 7}, lab.DualStack},
		},
		paths.IPTablesLegacy: {
			{"the pod's forward chain", "pod", "IPTABLES -t filter -F VETH-HOST-FWD", []int{15}, lab.DualStack},
			{"the pod's masquerading", "pod", "IPTABLES -t nat -F VETH-HOST-POST", []int{3, 4, 6, 7}, lab.DualStack},
			{"the pod's marks on replies", "pod", "IPTABLES -t mangle -F VETH-HOST-OUT", []int{11, 12}, lab.DualStack},
			{"the node's marks", "node", "IPTABLES -t mangle -F VETH-HOST-GROUP-POD", []int{3, 6, 7}, lab.DualStack},
			{"the node's translation", "node", "IPTABLES -t nat -F VETH-HOST-GROUP-POST", []int{3, 13}, lab.DualStack},
		},
	}
	for _, p := range []piece{
		{"the pod's rule for connections from the wire", "pod", "ip FAMILY rule del pref 512", []int{12}, lab.DualStack},
		{"the pod's rule for connections from the node", "pod", "ip FAMILY rule del pref 513", []int{11}, lab.DualStack},
		{"the pod's rule for what the node returns", "pod", "ip FAMILY rule del pref 1024", []int{7}, lab.DualStack},
		// For IPv6 the jump is there for its speed alone: nothing looks up the reverse path.
		{"the jump over the pods' rules", "node", "ip -4 rule del pref 1023", []int{8, 10, 11, 13}, lab.OnlyIPv4},
	} {
		for backend := range pieces {
			pieces[backend] = append(pieces[backend], p)
		}
	}
	for backend, pieces := range pieces {
		for _, piece := range pieces {
			t.Run(fmt.Sprintf("%s %s", backend, piece.name), func(t *testing.T) {
				t.Parallel()
				skipWithout(t, backend)
				w, err := paths.New(paths.Config{
					Backend: backend, Flavour: lab.NFT, IPMasq: true, Options: lab.Options{RPFilter: 1, Stack: piece.stack},
				})
				must(t, err)
				t.Cleanup(func() { must(t, w.Close()) })
				cases := map[int][]paths.Case{}
				for c := range w.Cases() {
					if c.Proto == lab.TCP && slices.Contains(piece.fail, c.Number) {
						must(t, c.Run(w))
						cases[c.Number] = append(cases[c.Number], c)
					}
				}
				equal(t, "rows", fmt.Sprint(piece.fail), fmt.Sprint(slices.Sorted(maps.Keys(cases))))
				machine := map[string]*lab.Namespace{"pod": w.A.Namespace, "node": w.N1.Namespace}[piece.machine]
				for _, f := range piece.stack {
					take := strings.NewReplacer(
						"FAMILY", fmt.Sprintf("-%d", f), "GROUP", fmt.Sprint(plugin.Group("cni0")),
						"IPTABLES", map[lab.Family]string{4: "iptables-legacy", 6: "ip6tables-legacy"}[f],
					).Replace(piece.take)
					words := strings.Fields(take)
					_, err := machine.Run(words[0], words[1:]...)
					must(t, err)
				}
				var running sync.WaitGroup // most of them wait for an answer that never comes
				for _, cases := range cases {
					for _, c := range cases {
						running.Go(func() {
							if c.Run(w) == nil {
								t.Errorf("row %d over %s works without %s", c.Number, c.Family, piece.name)
							}
						})
					}
				}
				running.Wait()
			})
		}
	}
}
