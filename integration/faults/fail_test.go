package faults

import (
	"regexp"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// TestRefused: the kernel has no memory for a change. The error names the change, the kernel's reason and what was
// undone; nothing is left on the node or in the pod but what pods share; and the runtime's next ADD succeeds.
func TestRefused(t *testing.T) { eachFailure(t, Refuse, "cannot allocate memory") }

// TestAnswerLost: a change is done, but the kernel has no memory to say so. What may have been done is undone too.
func TestAnswerLost(t *testing.T) { eachFailure(t, Lose, "no buffer space available") }

func eachFailure(t *testing.T, fault Fault, reason string) {
	t.Helper()
	eachChange(t, "ADD", func(t *testing.T, s *Subject, at int, c Change) {
		t.Helper()
		if fault == Lose && !c.Answered() {
			t.Skip("it has no answer that could get lost")
		}
		n := alone(t, s).N1
		p := plugged(t, s, n, 0)
		node, pod := fresh(t, s)

		o, err := s.Trace("ADD", p, fault, at)
		must(t, err)
		routed(t, s, p, "once ADD has failed")
		failed := nth(t, o, at)
		switch ok := o.Status.ExitStatus() == 0; {
		case ok && failed.What == "announcement": // what leaves no state fails no pod
		case ok && failed.By != s.Type(): // the program, or the plugin, has tried again
		default:
			named(t, o, failed, reason)
			same(t, "the node", node, Without(dump(t, n.Namespace), s.Shared))
			same(t, "the pod", withoutTables(s, pod), withoutTables(s, dump(t, p.Namespace)))
			add(t, s, p)
		}
		check(t, s, p)
	})
}

// TestRefusedDel: the kernel has no memory for a change of a DEL, or to say that it is done. The error names the change, all
// others are made, and the next DEL, with the pod or without it, finishes the job.
func TestRefusedDel(t *testing.T) {
	for fault, reason := range map[Fault]string{Refuse: "cannot allocate memory", Lose: "no buffer space available"} {
		eachChange(t, "DEL", func(t *testing.T, s *Subject, at int, c Change) {
			t.Helper()
			if fault == Lose && !c.Answered() {
				t.Skip("it has no answer that could get lost")
			}
			n := alone(t, s).N1
			before, pod := fresh(t, s)
			p := plugged(t, s, n, 0)
			add(t, s, p)
			refusedDel(t, s, p, fault, at, reason)
			del(t, s, p)
			same(t, "the node after DEL", before, Without(dump(t, n.Namespace), s.Shared))
			same(t, "the pod after DEL", Without(pod, s.Kept), Without(dump(t, p.Namespace), s.Kept))

			add(t, s, p)
			refusedDel(t, s, p, fault, at, reason)
			del(t, s, p, "CNI_NETNS=")
			same(t, "the node after DEL without a netns", before, Without(dump(t, n.Namespace), s.Shared))
		})
	}
}

func refusedDel(t *testing.T, s *Subject, p *lab.Pod, fault Fault, at int, reason string) {
	t.Helper()
	o, err := s.Trace("DEL", p, fault, at)
	must(t, err)
	routed(t, s, p, "once DEL has failed")
	if o.Status.ExitStatus() == 0 { // what was asked for is so all the same, or was tried again
		return
	}
	f, err := ParseFailure(o.Stdout)
	must(t, err)
	if nth(t, o, at).By == s.Type() && !strings.Contains(f.Msg, reason) {
		t.Errorf("DEL says %+v, want %s", *f, reason)
	}
}

// nth is the change that was refused, or lost its answer. A run of programs may have made fewer than the one that they were
// counted in.
func nth(t *testing.T, o *Outcome, at int) Change {
	t.Helper()
	if len(o.Changes) < at {
		t.Skipf("there were only %d changes this time", len(o.Changes))
	}
	return o.Changes[at-1]
}

// withoutTables leaves out, for iptables, the kernel's own tables, which come with the first rule and stay, empty.
func withoutTables(s *Subject, d lab.Dump) lab.Dump {
	if !s.ByProgram {
		return d
	}
	return Without(d, builtIn)
}

var builtIn = regexp.MustCompile(`^ip6?tables-(nft|legacy) (mangle|nat|filter): -P `)

// named makes sure that the error says which change failed, why, and what became of the others.
func named(t *testing.T, o *Outcome, failed Change, reason string) {
	t.Helper()
	f, err := ParseFailure(o.Stdout)
	must(t, err)
	command := "ip "
	var codes []uint
	switch what := failed.What; {
	case strings.HasSuffix(what, "LINKPROP"), strings.HasSuffix(what, "ADDR"):
		codes = []uint{101}
	case strings.HasSuffix(what, "LINK"): // of InetConf too, which is a line of sysctl
		command, codes = "", []uint{101, 105}
	case strings.HasSuffix(what, "ROUTE"):
		codes = []uint{102}
	case strings.HasSuffix(what, "RULE"):
		codes = []uint{103}
	case strings.HasSuffix(what, "NEIGH"):
		codes = []uint{104}
	case strings.HasPrefix(what, "sysctl"):
		command, codes = "sysctl ", []uint{105}
	default:
		command, codes, reason = "", []uint{106}, ""
	}
	line := strings.TrimPrefix(f.Msg, regexp.MustCompile(`^nsenter --net=\S+ `).FindString(f.Msg))
	known := false
	for _, c := range codes {
		known = known || f.Code == c
	}
	if o.Status.ExitStatus() != 1 || !known || !strings.HasPrefix(line, command) || !strings.Contains(f.Msg, reason) || !strings.HasPrefix(f.Details, "undone: ") || o.Stderr != "" {
		t.Errorf("%s failed: status %d, %+v, %q; want one of %v, %q…, %q", failed, o.Status.ExitStatus(), *f, o.Stderr, codes, command, reason)
	}
}

// TestNothingCanBeUndone: from some change on the kernel has no memory for anything. The error says what is left, and
// DEL removes it once the kernel can again.
func TestNothingCanBeUndone(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		changes := changesOf(t, s, "ADD")
		for at := 1; at < len(changes); at++ {
			if at > 1 && changes[at-1].What == changes[at-2].What || s.ByProgram && changes[at-1].By == s.Type() {
				continue // one of each run of equal ones
			}
			n := alone(t, s).N1
			before := dump(t, n.Namespace)
			p := plugged(t, s, n, 0)
			o, err := s.TraceMore("ADD", p, at)
			must(t, err)
			if o.Status.ExitStatus() == 0 { // a program has made fewer changes this time, and that was not enough
				continue
			}
			f, err := ParseFailure(o.Stdout)
			must(t, err)
			left := Without(dump(t, n.Namespace), s.Shared).Since(before)
			undone := strings.HasPrefix(f.Details, "undone: ")
			if undone == (len(left) > 0) || !undone && !strings.HasPrefix(f.Details, "could not be undone: ") {
				t.Errorf("from change %d, %s, on: says %+v, but left is:\n%s", at, changes[at-1], *f, left)
			}
			del(t, s, p)
			same(t, "the node after DEL", before, Without(dump(t, n.Namespace), s.Shared))
		}
	})
}
