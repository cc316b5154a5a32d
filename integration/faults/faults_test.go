package faults

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/integration/lab"
)

// eachSubject runs a test for every subject, at the same time.
func eachSubject(t *testing.T, test func(t *testing.T, s *Subject)) {
	t.Helper()
	name := t.Name()
	for _, s := range Subjects {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.takesIn(t, name)
			test(t, &s)
		})
	}
}

// eachPlugin runs a test for every plugin, with the backend that is a plugin's own work, at the same time.
func eachPlugin(t *testing.T, test func(t *testing.T, s *Subject)) {
	t.Helper()
	name := t.Name()
	for _, s := range Subjects {
		if s.ByProgram {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.takesIn(t, name)
			test(t, &s)
		})
	}
}

// takesIn skips a test, or a case of one, that is left out for the subject.
func (s *Subject) takesIn(t *testing.T, name string) {
	t.Helper()
	if why, out := s.LeftOut[name]; out {
		t.Skip("left out: ", why)
	}
}

// alone builds a node of the subject that is closed after the test.
func alone(t *testing.T, s *Subject) *lab.World {
	t.Helper()
	w, err := lab.Alone(s.Options)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

// plugged makes a pod with its own interface, and with the overlay's where the subject wants one.
func plugged(t *testing.T, s *Subject, n *lab.Node, number int) *lab.Pod {
	t.Helper()
	p, err := n.NewPod(fmt.Sprint("pod", number))
	must(t, err)
	if s.IfName != "" {
		p.IfName = s.IfName
	}
	must(t, n.Plug(p, number))
	if s.IfName != "" {
		overlay(t, p)
	}
	return p
}

// fresh is what the node and the first pod of a subject's world look like before anything happens; it is always the same.
func fresh(t *testing.T, s *Subject) (node, pod lab.Dump) {
	t.Helper()
	type dumps struct{ node, pod lab.Dump }
	if known, ok := worlds.Load(s.Name); ok {
		d, _ := known.(dumps)
		return d.node, d.pod
	}
	n := alone(t, s).N1
	node = dump(t, n.Namespace)
	pod = dump(t, plugged(t, s, n, 0).Namespace)
	worlds.Store(s.Name, dumps{node, pod})
	return node, pod
}

var worlds sync.Map // of dumps, by the subject's name

func dump(t *testing.T, n *lab.Namespace) lab.Dump {
	t.Helper()
	d, err := n.Dump()
	must(t, err)
	return d
}

// same compares dumps, and shows only the lines that differ.
func same(t *testing.T, what string, want, got lab.Dump) {
	t.Helper()
	if lost, more := want.Since(got), got.Since(want); len(lost)+len(more) > 0 {
		t.Errorf("%s has lost:\n%s%[1]s has in addition:\n%[3]s", what, lost, more)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f has nothing to complain of.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		complaint := f()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(complaint)
		}
	}
}

func jsonOf(t *testing.T, text []byte) (v any) {
	t.Helper()
	must(t, json.Unmarshal(text, &v))
	return v
}

// endsOf are the interfaces that a result lists behind the first.
func endsOf(t *testing.T, result []byte) []*types100.Interface {
	t.Helper()
	var r types100.Result
	must(t, json.Unmarshal(result, &r))
	return r.Interfaces[1:]
}
