package plugintest

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
	"underlay-cni/plugin"
)

// View is what an operator sees of the pod and of the node: the same commands in both, then more of each and more of the
// node alone. In a script NAME is who is asked.
func (w *World) View(t *testing.T, each, node string) string {
	t.Helper()
	facts := `
		echo "NAME # ip route show table all"; ip -4 route show table all | grep -v "^local\|^broadcast" || :
		echo "NAME # ip rule show"; ip -4 rule show
		echo "NAME # ip -6 route show table all"; ip -6 route show table all | grep -v "^local\|^multicast\|^anycast\|^fe80" || :
		echo "NAME # ip -6 rule show"; ip -6 rule show
		echo "NAME # ip neigh show nud permanent"; ip neigh show nud permanent | sort
		` + each + `
		echo`
	text := w.Sh(t, `pod sh -ec '`+strings.ReplaceAll(facts, "NAME", "pod ")+`'`+strings.ReplaceAll(facts+"\n"+node, "NAME", "node"))
	var lines []string
	for line := range strings.Lines(regexp.MustCompile(`\n\n+`).ReplaceAllString(text, "\n\n")) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n") + "\n"
}

// States compares the view with golden text after the ADD of each of the interfaces, which it makes.
func (w *Trial) States(t *testing.T, name string, view func(*testing.T, *Trial) string, nics ...*NIC) {
	t.Helper()
	for _, n := range nics {
		w.Come(t, n)
		w.Check(t, n)
		name += " " + n.Name
		nettest.Golden(t, strings.TrimSpace(name)+".txt", view(t, w))
	}
}

// DefaultsAndRules are the pod's default routes, of table 200 before those of main and of IPv4 before those of IPv6, and
// the rules of ours that choose by source. Which table a line is of, the order says and not the line.
func (w *World) DefaultsAndRules(t *testing.T) (lines []string) {
	t.Helper()
	got := w.Sh(t, `pod sh -ec 'for t in 200 main; do ip -o route show table $t || :; done | grep ^default;
		for t in 200 main; do ip -6 -o route show table $t || :; done | grep ^default; ip rule; ip -6 rule'`)
	for line := range strings.Lines(got) {
		line = strings.Join(strings.Fields(strings.ReplaceAll(line, "\\", " ")), " ")
		if strings.HasPrefix(line, "default") || strings.HasPrefix(line, "1024:") {
			lines = append(lines, line)
		}
	}
	return lines
}

// PlanIsAScript is a test of the plan: a shell that runs the plans leaves both namespaces as ADD does, for the first interface and for the
// later one, whose plan the shell gets by way of again: to ip(8) it may be an error if what both share is there.
func (s *Subject) PlanIsAScript(t *testing.T, again func(script string) string, pairs ...any) {
	t.Helper()
	pairs = append([]any{"rp_filter", map[string]any{"set_host": true, "value": 1}, "mac_prefix", "0a:1b"}, pairs...)
	for _, of := range Stacks() {
		t.Run(of.Name, func(t *testing.T) {
			t.Parallel()
			nics := []*NIC{s.First(of), s.Later(of)}
			byAdd, byHand := s.New(t, of, "", nics...), s.New(t, of, "", nics...)
			for _, n := range nics {
				byAdd.Add(t, n, pairs...)
				a := plugin.Attachment{Network: n.Network, ContainerID: n.Container, IfName: n.Name}
				byHand.Sh(t, again(byHand.Plan(t, s.Plugin, a, byHand.Request(n, pairs...))))
			}
			// nft adds the rules of the pod, which both share, a second time.
			nettest.Same(t, "by hand", slices.Compact(byAdd.sorted(t)), slices.Compact(byHand.sorted(t)))
		})
	}
}

// sorted is Show of a world to be compared with another one's: the kernel lists in any order, and the pods have paths of
// their own.
func (w *World) sorted(t *testing.T) []string {
	t.Helper()
	lines := w.Show(t)
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], w.Pod, "POD")
	}
	slices.Sort(lines)
	return lines
}
