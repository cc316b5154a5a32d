package faults

import (
	"os/exec"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// inhabit starts a process in a pod, which ends with the test or when the function that it returns is called.
func inhabit(t *testing.T, p *lab.Pod) (leave func()) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "nsenter", "--net="+p.Path(), "sh", "-c", "echo; exec sleep 600")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	leave = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	t.Cleanup(leave)
	_, err = out.Read(make([]byte, 1)) // it is there
	must(t, err)
	return leave
}

// TestTrust02Living: an address that a living pod has is not taken from it. The error says who has it, nothing has changed, and the
// DEL of the pod that wanted it takes nothing. When no process is in the other pod any more, the address is free.
func TestTrust02Living(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		before, _ := fresh(t, s)
		victim := plugged(t, s, n, 0)
		add(t, s, victim)
		leave := inhabit(t, victim)
		node, inside := dump(t, n.Namespace), dump(t, victim.Namespace)
		thief := plugged(t, s, n, 0)
		now := dump(t, n.Namespace)
		out, err := s.Run("ADD", thief)
		if err == nil || !strings.Contains(string(out), `"code": 110`) || !strings.Contains(string(out), hostEnd(s, victim)) && s.Type() != "router" {
			t.Errorf("ADD: %v, %s", err, out)
		}
		if s.Type() != "router" && !strings.Contains(string(out), victim.ContainerID()) {
			t.Errorf("ADD does not name the container of the other pod: %s", out)
		}
		same(t, "the node after ADD", now, dump(t, n.Namespace))
		del(t, s, thief)
		same(t, "the node after DEL", now, dump(t, n.Namespace))
		same(t, "the other pod", inside, dump(t, victim.Namespace))
		if s.Type() != "router" { // whose overlay has added lines of its own
			same(t, "the node", node, dump(t, n.Namespace))
		}
		check(t, s, victim)
		leave()
		add(t, s, thief)
		check(t, s, thief)
		del(t, s, victim)
		check(t, s, thief)
		del(t, s, thief)
		same(t, "the node at the end", before, Without(dump(t, n.Namespace), s.Shared))
	})
}
