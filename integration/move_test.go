package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"underlay-cni/integration/lab"
)

// TestMove: a machine on the wire that knows a pod learns where its address is after it has moved to another node,
// without asking. With ipvlan the hardware address is then that of the other node.
func TestMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{NoGateway: true})
	if w.Options.Parent.Routed() {
		t.Skipf("SKIPPED, NOT TESTED: with %s nobody on the wire knows the pods' hardware addresses", w.Options.Parent)
	}
	first := newPod(t, w.N1, "a")
	must(t, w.N1.Add(first))
	addr := first.Addr
	for _, f := range w.Options.Stack {
		must(t, w.Client.Ping(addr.Of(f)))
	}
	must(t, w.N1.Del(first))

	second := newPod(t, w.N2, "b")
	second.Capabilities["ips"] = first.Capabilities["ips"]
	must(t, w.N2.Add(second))
	mac := second.Result.Interfaces[0].Mac
	for _, f := range w.Options.Stack {
		known := ""
		for deadline := time.Now().Add(lab.Patience); !strings.Contains(known, mac); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the client believes that %s is at %q, want %s", addr.Of(f), known, mac)
			}
			var err error
			known, err = w.Client.Run("ip", "neigh", "show", "to", fmt.Sprint(addr.Of(f)))
			must(t, err)
		}
		must(t, w.Client.Ping(addr.Of(f)))
	}
}
