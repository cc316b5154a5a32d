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
				piece.noticed(t, paths.Config{
					Backend: backend, Flavour: lab.NFT, IPMasq: true, Options: lab.Options{RPFilter: 1, Stack: piece.stack},
				})
			})
		}
	}
}

// TestRouterTableNotices is the same for router, with macvlan: with ipvlan nothing of row 15 reaches the pod.
func TestRouterTableNotices(t *testing.T) {
	without := func(list *lab.Conflist) {
		list.Plugins = slices.DeleteFunc(list.Plugins, func(p map[string]any) bool { return p["type"] == "router" })
	}
	for _, test := range []struct {
		piece
		options lab.Options
	}{
		{piece: piece{"the node's rule for all pods", "node", "ip FAMILY rule del pref 1000", []int{1, 4, 5, 8, 10, 11, 18, 19}, lab.DualStack}},
		{piece: piece{"the node's routes to pods", "node", "ip FAMILY route flush table 500", []int{1, 4, 5, 8, 10, 11, 18, 19}, lab.DualStack}},
		{piece: piece{"the pod's rule for answers", "pod", "ip FAMILY rule del pref 512", []int{8, 10, 11}, lab.DualStack}},
		{piece: piece{"the pod's marks", "pod", "nft flush chain inet router prerouting", []int{8, 10, 11}, lab.DualStack}},
		{piece: piece{"the pod's marks on answers", "pod", "nft flush chain inet router output", []int{8, 10, 11}, lab.DualStack}},
		{piece: piece{"the pod's routes to the node", "pod", "ip FAMILY route del NODE", []int{1, 14}, lab.DualStack}},
		{piece: piece{"the pod's route to Services", "pod", "ip FAMILY route del SERVICES", []int{3, 4, 5, 6, 7, 20}, lab.DualStack}},
		{piece: piece{"the pod's route to the overlay", "pod", "ip FAMILY route del OVERLAY", []int{17}, lab.DualStack}},
		{piece: piece{"the pod's route to an additional subnet", "pod", "ip FAMILY route del FURTHER", []int{21}, lab.DualStack}},
		{piece: piece{"the rule from net1's address", "pod", "ip FAMILY rule del pref 1024 from NET1", []int{12}, lab.DualStack}, options: lab.Options{SecondWire: true}},
		// The overlay's part: answers from another node's pods on the wire come by another way than the requests took.
		{piece: piece{"the overlay's translation", "node", "nft flush chain inet overlay outgoing", []int{3, 7, 19, 21}, lab.DualStack}},
		// A pod forwards in IPv4 as its node does, unless somebody sees to it.
		{piece: piece{"that net1 does not forward", "pod", "sysctl -qw net.ipv4.conf.net1.forwarding=1", []int{15}, lab.OnlyIPv4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.options.Overlay, test.options.Parent, test.options.RPFilter, test.options.Stack = lab.Calico, lab.Macvlan, 1, test.stack
			test.noticed(t, paths.Config{Plugin: "router", Backend: paths.NFTables, Flavour: lab.NFT, Options: test.options})
		})
	}
	for _, overlay := range lab.Overlays {
		t.Run(fmt.Sprint("router itself, ", overlay), func(t *testing.T) {
			t.Parallel()
			w, err := paths.New(paths.Config{Plugin: "router", Flavour: lab.NFT, Options: lab.Options{Overlay: overlay, Parent: lab.Macvlan, RPFilter: 1, Edit: without}})
			must(t, err)
			t.Cleanup(func() { must(t, w.Close()) })
			want := []int{1, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 17, 18, 19, 20, 21}
			if overlay == lab.PTP {
				want = slices.DeleteFunc(want, func(row int) bool { return row == 5 }) // it has none
			}
			rows := map[int]bool{}
			var running sync.WaitGroup
			var mutex sync.Mutex
			for c := range w.Cases() {
				if c.Proto == lab.TCP && c.Family == lab.IPv4 {
					running.Go(func() {
						if c.Run(w) != nil {
							mutex.Lock()
							defer mutex.Unlock()
							rows[c.Number] = true
						}
					})
				}
			}
			running.Wait()
			equal(t, "rows that fail", fmt.Sprint(want), fmt.Sprint(slices.Sorted(maps.Keys(rows))))
		})
	}
}

// A piece of the design.
type piece struct {
	name, machine, take string
	fail                []int // rows, over TCP
	stack               lab.Stack
}

// noticed runs the rows with the piece and without it.
func (piece piece) noticed(t *testing.T, config paths.Config) {
	t.Helper()
	w, err := paths.New(config)
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
			"NODE", w.N1.Addr.Of(f).String(), "NET1", w.A.Addr.Of(f).String(), "SERVICES", lab.ServiceCIDR[f].String(),
			"OVERLAY", lab.OverlayCIDR[f].String(), "FURTHER", paths.Further.Of(f).String(),
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
}
