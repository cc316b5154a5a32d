package main

import (
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// TestTables: router's table, which all packets of the node ask first, and those of veth-host's pods, which have a default route
// each, never are the same one, whoever comes first.
func TestTables(t *testing.T) {
	const next = 496 // the node's next interface has the index 4
	outside := func(t *testing.T, w *world) {
		t.Helper()
		if out := w.sh(t, nil, "ip route get 192.0.2.9; ip -6 route get 2001:db8::9"); strings.Count(out, "dev enp1s0") != 2 {
			t.Errorf("%s%s", out, w.sh(t, nil, "ip rule; ip route show table 500"))
		}
	}
	t.Run("router first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Options{})
		p := w.routed(t, "a", "net1")
		must(t, w.n1.DelFrom(w.routerNetwork("net1"), p.Pod))
		c, q := w.n1.Conflist(), w.pod(t, "b")
		c.Plugin("veth-host")["routeTableStart"] = next
		must(t, w.n1.AddTo(c, q))
		outside(t, w)
		if out := w.sh(t, q, "ip rule"); !strings.Contains(out, "iif "+q.HostEnd()+" lookup 501") {
			t.Error(out)
		}
		_, err := w.n1.CNI("check", c, q)
		must(t, err)
	})
	t.Run("another's table", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Options{})
		w.sh(t, nil, "ip -6 route add default via fd20::1 table 500; ip route add 10.30.0.9 dev enp1s0 table 500")
		p := w.overlaid(t, "a")
		before := dump(t, w.n1.Namespace)
		c := w.routerNetwork("net1")
		p.IfName = "net1"
		if err := w.n1.AddTo(c, p.Pod); err == nil || !strings.Contains(err.Error(), "host_rule_table: 500: it has a route of others: default via fd20::1 dev enp1s0 metric 1024 table 500; accepted: ") {
			t.Error(err)
		}
		outside(t, w)
		same(t, "the node", before, dump(t, w.n1.Namespace))
		must(t, w.n1.DelFrom(c, p.Pod)) // macvlan's part
		c.Plugins[1]["host_rule_table"] = 501
		must(t, w.n1.AddTo(c, p.Pod))
		outside(t, w)
	})
}
