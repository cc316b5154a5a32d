package faults

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// TestCheckFinds everything: each line of the plan is broken in each way that is known for its kind, and a line of a
// kind that has none fails. CHECK names what is broken; the next ADD makes it good again.
func TestCheckFinds(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		for i, v := range s.Variants {
			if i > 0 && s.ByProgram {
				continue // no other kinds of rules
			}
			t.Run(v.Name, func(t *testing.T) {
				t.Parallel()
				s := s
				if s.ByProgram {
					alike := *s // the families have the same rules
					s, alike.Options.Stack = &alike, lab.OnlyIPv4
				}
				s = s.With(func(c *lab.Conflist) { v.Edit(c.Plugin(s.Type())) })
				n := alone(t, s).N1
				p := plugged(t, s, n, 0)
				for _, m := range mutations(t, s, p) {
					t.Run(m.Name, func(t *testing.T) { finds(t, s, p, m) })
				}
			})
		}
	})
}

// finds breaks one object.
func finds(t *testing.T, s *Subject, p *lab.Pod, m Mutation) {
	t.Helper()
	if out, err := p.Node.Run("sh", "-ec", m.Command); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := s.Run("CHECK", p)
	if err == nil {
		t.Errorf("CHECK finds nothing after %s", m.Command)
	} else {
		f, err := ParseFailure(string(out))
		must(t, err)
		if f.Code != plugin.CodeCheck || !strings.Contains(f.Msg+f.Details, m.Says) {
			t.Errorf("after %s\nCHECK says %+v\nwant %d %s", m.Command, *f, plugin.CodeCheck, m.Says)
		}
	}
	if m.Gone {
		return
	}
	for _, command := range []string{m.Repair, "ADD", m.After} {
		switch command {
		case "":
		case "ADD":
			add(t, s, p)
		default:
			_, err := p.Node.Run("sh", "-ec", command)
			must(t, err)
		}
	}
	check(t, s, p)
}

// mutations adds the pod and returns those of every line of the plan. Where other programs write the firewall, only
// those are of interest.
func mutations(t *testing.T, s *Subject, p *lab.Pod) (all []Mutation) {
	t.Helper()
	first := planOf(t, s, p, s.Plugin.Add)
	add(t, s, p)
	lines := planOf(t, s, p, s.Plugin.Check)
	// What CHECK plans is what ADD has planned, but for the names of tables and the routes that are gone by now.
	table := regexp.MustCompile(`(lookup|table) \S*\$\(.*\)\)`)
	for _, line := range first {
		line = table.ReplaceAllString(line, "$1 TABLE")
		known := slices.ContainsFunc(lines, func(l string) bool {
			return l == line || regexp.MustCompile(`(lookup|table) \d+`).ReplaceAllString(l, "$1 TABLE") == line
		})
		switch {
		case strings.Contains(line, "route del "), strings.Contains(line, "route replace default ") && strings.HasSuffix(line, " dev net1"):
			lines = append(lines, line) // done, and to be done again only if somebody undoes it
		case !known:
			t.Errorf("ADD plans %s, CHECK does not", line)
		}
	}
	for _, line := range lines {
		found, err := Mutations(line)
		if err != nil {
			t.Error(err)
		}
		if s.Unmissed != nil && s.Unmissed.MatchString(line) {
			continue
		}
		if !s.ByProgram || strings.Contains(line, "-restore ") {
			all = append(all, found...)
		}
	}
	for i, m := range all { // the overlay's interface on the node has addresses, too
		if s.IfName != "" && strings.Contains(m.Command, hostEnd(s, p)+"/disable_ipv6") {
			all[i].Gone = true
		}
	}
	slices.SortStableFunc(all, func(a, b Mutation) int { return a.late() - b.late() })
	return all
}

// planOf computes a plan in this process.
func planOf(t *testing.T, s *Subject, p *lab.Pod, compute func(*plugin.Request) (*plugin.Plan, error)) []string {
	t.Helper()
	self, err := routing.Self()
	must(t, err)
	defer self.Close()
	node, err := self.Open(p.Node.Path())
	must(t, err)
	defer node.Close()
	node.Path = "" // the lines are for the node
	pod, err := self.Open(p.Path())
	must(t, err)
	defer pod.Close()
	text, err := json.Marshal(s.Request(p))
	must(t, err)
	result := *p.Result
	plan, err := compute(&plugin.Request{
		Attachment: plugin.Attachment{Network: p.Node.Conflist().Name, ContainerID: p.ContainerID(), IfName: p.IfName},
		Verb:       "CHECK", Netns: p.Path(), Config: text, Version: "1.0.0", Result: &result, Node: node, Pod: pod,
	})
	must(t, err)
	return Lines(plan.String())
}

// TestMutationsOfNothing: a line of a kind that nobody has thought of is an error.
func TestMutationsOfNothing(t *testing.T) {
	for _, line := range []string{"", "ip tunnel add x mode gre", "ip xfrm policy add dir in", "tc qdisc add dev veth0 root tbf", "nsenter --net=/x bridge fdb add x dev y"} {
		if found, err := Mutations(line); err == nil {
			t.Errorf("%q has %v", line, found)
		}
	}
}

// TestCheckRightAfterAdd, as CRI-O does, a thousand times, with many pods at once, and after an ADD that found everything
// as after one that made it.
func TestCheckRightAfterAdd(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		const workers, rounds, adds = 8, 25, 5
		n := alone(t, s).N1
		var running sync.WaitGroup
		for i := range workers {
			p := plugged(t, s, n, i)
			running.Go(func() {
				for range rounds {
					for range adds {
						add(t, s, p)
						check(t, s, p)
					}
					del(t, s, p)
				}
			})
		}
		running.Wait()
	})
}
