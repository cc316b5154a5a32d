package plugintest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
)

// A MissingRow is a node that lacks a family which the interfaces of its pod have.
type MissingRow struct {
	Name               string
	Node, First, Later Stack
	Before             string // what the pod has before, if not what the subject has on such a node
}

// NodeLacksFamily tests a node without IPv4, or without IPv6, whose pods have it: the routes of their interfaces move as on a node that has
// both, nothing leads by the node, the log says so, and CHECK, DEL and GC work.
func (s *Subject) NodeLacksFamily(t *testing.T, more ...MissingRow) {
	t.Helper()
	for _, test := range append([]MissingRow{
		{Name: "a node with IPv4 only, interfaces with both", Node: Only4, First: Dual, Later: Dual},
		{Name: "a node with IPv6 only, interfaces with both", Node: Only6, First: Dual, Later: Dual},
		{Name: "a node with IPv4 only, interfaces with IPv6 only", Node: Only4, First: Only6, Later: Only6},
		{Name: "a node with IPv6 only, interfaces with IPv4 only", Node: Only6, First: Only4, Later: Only4},
		{Name: "a node with IPv4 only, interfaces with IPv4 and with IPv6", Node: Only4, First: Only4, Later: Only6},
		{Name: "a node with IPv4 only, interfaces with IPv6 and with both", Node: Only4, First: Only6, Later: Dual},
	}, more...) {
		for mode := -1; mode <= 1; mode++ {
			t.Run(fmt.Sprintf("%s, migrate_route %d", test.Name, mode), func(t *testing.T) {
				t.Parallel()
				s.nodeLacks(t, test, "migrate_route", mode)
			})
		}
	}
}

func (s *Subject) nodeLacks(t *testing.T, of MissingRow, pairs ...any) {
	t.Helper()
	if of.Before == "" {
		of.Before = s.Before(of.Node)
	}
	as := *s
	as.Before = func(Stack) string { return of.Before }
	flag, version := "-6", "IPv6"
	if of.Node.V6 {
		flag, version = "-4", "IPv4"
	}
	log := filepath.Join(t.TempDir(), "log")
	pairs = append(pairs, "log_options", map[string]any{"log_file": log})
	nics := []*NIC{s.First(of.First), s.Later(of.Later)}
	w, both := as.New(t, of.Node, ""), as.New(t, Dual, "")
	before := w.Show(t)
	attach := func(w *Trial) {
		t.Helper()
		for i, n := range nics {
			w.Sh(t, n.Make())
			for range 2 {
				w.Add(t, n, pairs...)
				for _, n := range nics[:i+1] {
					w.Check(t, n, pairs...)
				}
			}
		}
	}
	attach(w)
	said, err := os.ReadFile(log) //nolint:gosec // the test's own
	nettest.Must(t, err)
	for _, n := range nics {
		has := map[string]bool{"-4": n.V4, "-6": n.V6}[flag]
		if strings.Contains(string(said), "the node has no "+version+" address: "+n.Name+" ") != has {
			t.Errorf("the log about %s:\n%s", n.Name, said)
		}
	}
	attach(both)
	nettest.Same(t, "what is the wires'", both.ofWires(t, flag, nics), w.ofWires(t, flag, nics))
	byNode := w.Sh(t, strings.ReplaceAll(`pod ip FLAG rule show pref 512; pod ip FLAG route show table 512 || :; ip FLAG rule show pref 1000
		ip FLAG neigh show nud permanent; pod ip FLAG neigh show nud permanent
		ip FLAG route show table all | grep "10.10.[0-9]*.53\|fd[0-9]*::53" || :`, "FLAG", flag))
	if byNode != "" {
		t.Errorf("by a node that lacks the family:\n%s", byNode)
	}
	for i, n := range nics {
		w.Del(t, n, pairs...)
		w.Sh(t, "pod ip link del "+n.Name)
		for _, n := range nics[i+1:] {
			w.Check(t, n, pairs...)
		}
	}
	nettest.Same(t, "at the end", s.Lasting(before), s.Lasting(w.Show(t)))
	attach(w)
	for _, n := range slices.Backward(nics) {
		w.GC(t, n, []any{})
	}
	None(t, "on the node, after GC", w.onNode(t), s.Left...)
}

// ofWires are the pod's routes of one family by some interfaces, in all tables, and the rules by which those have moved.
func (w *Trial) ofWires(t *testing.T, flag string, nics []*NIC) (lines []string) {
	t.Helper()
	for line := range strings.Lines(w.Sh(t, "pod ip "+flag+" rule; pod ip "+flag+" -o route show table all")) {
		if strings.HasPrefix(line, "1024:") || slices.ContainsFunc(nics, func(n *NIC) bool { return strings.Contains(line, "dev "+n.Name+" ") }) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
