package faults

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/lab"
)

// TestKilledAdd: a runtime kills a plugin that is past its deadline. Wherever that happens, a DEL, with the pod or
// without it, leaves the node as it was before; and an ADD again makes what the first would have made.
func TestKilledAdd(t *testing.T) {
	eachChange(t, "ADD", func(t *testing.T, s *Subject, at int, _ Change) {
		t.Helper()
		n := alone(t, s).N1
		before, pod := fresh(t, s)

		p := plugged(t, s, n, 0)
		kill(t, s, "ADD", p, at)
		del(t, s, p)
		same(t, "the node after DEL", before, Without(dump(t, n.Namespace), s.Shared))
		same(t, "the pod after DEL", Without(pod, s.Kept), Without(dump(t, p.Namespace), s.Kept))

		p = plugged(t, s, n, 1)
		kill(t, s, "ADD", p, at)
		del(t, s, p, "CNI_NETNS=")
		same(t, "the node after DEL without a netns", before, Without(dump(t, n.Namespace), s.Shared))

		p = plugged(t, s, n, 2)
		kill(t, s, "ADD", p, at)
		add(t, s, p)
		check(t, s, p)
		del(t, s, p)
		same(t, "the node after another ADD and DEL", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// TestKilledDel: wherever a DEL is killed, the next one, with the pod or without it, finishes the job.
func TestKilledDel(t *testing.T) {
	eachChange(t, "DEL", func(t *testing.T, s *Subject, at int, _ Change) {
		t.Helper()
		n := alone(t, s).N1
		before, pod := fresh(t, s)

		p := plugged(t, s, n, 0)
		add(t, s, p)
		kill(t, s, "DEL", p, at)
		del(t, s, p)
		same(t, "the node after DEL", before, Without(dump(t, n.Namespace), s.Shared))
		same(t, "the pod after DEL", Without(pod, s.Kept), Without(dump(t, p.Namespace), s.Kept))

		add(t, s, p)
		kill(t, s, "DEL", p, at)
		del(t, s, p, "CNI_NETNS=")
		same(t, "the node after DEL without a netns", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// eachChange runs a test for every change of a verb, for every subject. Where other programs write the firewall, only
// their changes are of interest: all others are those of another subject.
func eachChange(t *testing.T, verb string, test func(t *testing.T, s *Subject, at int, c Change)) {
	t.Helper()
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		changes := changesOf(t, s, verb)
		for i, c := range changes {
			if !s.ByProgram || c.By != s.Type() {
				t.Run(fmt.Sprintf("change %02d of %d, %s", i+1, len(changes), c), func(t *testing.T) {
					t.Parallel()
					test(t, s, i+1, c)
				})
			}
		}
	})
}

// changesOf are the changes of a verb on a node where nothing has happened yet.
func changesOf(t *testing.T, s *Subject, verb string) []Change {
	t.Helper()
	p := plugged(t, s, alone(t, s).N1, 0)
	if verb != "ADD" {
		add(t, s, p)
	}
	o, err := s.Trace(verb, p, None, 0)
	must(t, err)
	least := map[string]int{"ADD": 10, "DEL": 5}[verb]
	if o.Status.ExitStatus() != 0 || len(o.Changes) < least {
		t.Fatalf("%s: status %d, %d changes: %s", verb, o.Status, len(o.Changes), o.Stdout)
	}
	return o.Changes
}

// kill runs a verb that is killed after a change, or ends before it.
func kill(t *testing.T, s *Subject, verb string, p *lab.Pod, at int) {
	t.Helper()
	o, err := s.Trace(verb, p, Kill, at)
	must(t, err)
	if len(o.Changes) >= at && (!o.Status.Signaled() || o.Status.Signal() != unix.SIGKILL || o.Stdout != "") {
		t.Fatalf("%s was not killed: status %#x, %s", verb, o.Status, o.Stdout)
	}
	routed(t, s, p, "once "+verb+" is killed")
}

func add(t *testing.T, s *Subject, p *lab.Pod) {
	t.Helper()
	_, err := s.Run("ADD", p)
	must(t, err)
}

func check(t *testing.T, s *Subject, p *lab.Pod) {
	t.Helper()
	if _, err := s.Run("CHECK", p); err != nil {
		t.Error(err)
	}
}

func del(t *testing.T, s *Subject, p *lab.Pod, other ...string) {
	t.Helper()
	if _, err := s.Run("DEL", p, other...); err != nil {
		t.Error(err)
	}
}
