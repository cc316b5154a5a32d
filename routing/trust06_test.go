package routing_test

import (
	"fmt"
	"strings"
	"testing"

	"underlay-cni/routing"
)

// TestTrust06Routes: a question about the routes of one interface, or about one route, is not dearer for the routes that others
// have put into the same table by another interface; nor is what is asked about one table for those in others.
func TestTrust06Routes(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, pair)
			dev, eth := w.pod.Link("veth0"), w.pod.Link("eth0")
			route := &routing.Route{Table: w.pod.Table(routing.MainTable), Dst: f.all, Via: f.node, Dev: dev}
			w.sh(t, fmt.Sprintf("pod %s route add %s dev veth0; pod %[1]s route add default via %[2]s dev veth0; pod %[1]s route add %s dev eth0 table 512", f.ip, f.node, f.away))
			questions := map[string]func() error{
				"Verify":      route.Verify,
				"NoRoute":     func() error { return no((&routing.NoRoute{Route: route}).Verify()) },
				"Routes":      func() error { return some(w.pod.Routes(dev)) },
				"of table":    func() error { return some(w.pod.Routes(eth, 512)) },
				"HasDefault":  func() error { _, err := w.pod.HasDefault(f.v6, 99); return err },
				"other table": func() error { _, err := w.pod.Used(512); return err },
			}
			before := costs(t, questions)
			fill(t, w, f, "route add %s dev eth0", 20_000)
			for name, after := range costs(t, questions) {
				if most := before[name] * 2; after > most && name != "HasDefault" { // which the kernel does not pick by length
					t.Errorf("%s: %v allocations before and %v after", name, before[name], after)
				}
			}
			if n := len(strings.Split(w.sh(t, "pod "+f.ip+" route show dev eth0 | head -n 20001"), "\n")); n < 20_000 {
				t.Errorf("only %d routes are there: the test says nothing", n)
			}
		})
	}
}

// TestTrust06Rules: the rules are listed once for all questions, until one is changed.
func TestTrust06Rules(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, pair)
			rule := &routing.Rule{NS: w.pod, V6: f.v6, Pref: 512, Mark: 1, Mask: 1, Table: w.pod.Table(512)}
			must(t, rule.Apply())
			fill(t, w, f, "rule add from %s pref 1024 lookup 77", 5000)
			w.pod.KeepRules()
			must(t, rule.Verify())
			if got := testing.AllocsPerRun(5, func() { must(t, rule.Verify()) }); got > 10 {
				t.Errorf("the rules are listed again: %v allocations", got)
			}
			must(t, (&routing.NoRule{Rule: rule}).Apply())
			if rule.Verify() == nil {
				t.Error("a rule that has been deleted is still there")
			}
		})
	}
}

func no(err error) error {
	if err == nil {
		return fmt.Errorf("it is there")
	}
	return nil
}

func some(routes []*routing.Route, err error) error {
	if err == nil && len(routes) == 0 {
		err = fmt.Errorf("no routes")
	}
	return err
}

func costs(t *testing.T, questions map[string]func() error) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for name, ask := range questions {
		all[name] = testing.AllocsPerRun(3, func() { must(t, ask()) })
	}
	return all
}

// fill puts lines of ip(8) into the pod, each with another prefix.
func fill(t *testing.T, w *world, f family, line string, n int) {
	t.Helper()
	w.sh(t, fmt.Sprintf(`seq %d | awk -v six=%t '{ i = $1; p = six == "true" ? sprintf("2001:db8:1::%%x", i) : sprintf("172.%%d.%%d.%%d", 16 + int(i / 65536), int(i / 256) %% 256, i %% 256); print "%s" }' | pod %s -batch -`,
		n, f.v6, strings.Replace(line, "%s", `" p "`, 1), f.ip))
}
