package faults

import (
	"fmt"
	"strings"
	"testing"
)

// TestTrust03Indexes: a pod makes a veth pair in its own namespace whose ends have the indexes of another pod's. It does not pass
// for that pod: ADD, DEL and CHECK change nothing of it.
func TestTrust03Indexes(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		victim := plugged(t, s, n, 0)
		add(t, s, victim)
		thief := plugged(t, s, n, 1)
		dev := "veth0"
		if s.Type() == "router" {
			dev = "eth0"
		}
		inside := strings.Fields(run(t, s, victim, "POD cat /proc/self/net/dev >/dev/null; POD ip -o link show dev "+dev))[0]
		outside := strings.Fields(run(t, s, victim, "ip -o link show dev HOST"))[0]
		indexes := []any{strings.Trim(inside, ":"), strings.Trim(outside, ":")}
		run(t, s, thief, "POD ip link del "+dev+" || true; "+fmt.Sprintf("POD ip link add "+dev+" index %s type veth peer name x index %s; POD ip link set "+dev+" up", indexes...))
		node, pod := dump(t, n.Namespace), dump(t, victim.Namespace)
		if out, err := s.Run("ADD", thief); err == nil {
			t.Errorf("ADD: %s", out)
		}
		same(t, "the node after ADD", node, dump(t, n.Namespace))
		del(t, s, thief)
		same(t, "the node after DEL", node, dump(t, n.Namespace))
		same(t, "the other pod", pod, dump(t, victim.Namespace))
		check(t, s, victim)
	})
}
