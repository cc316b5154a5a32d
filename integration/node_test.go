package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/nettest"
	"underlay-cni/integration/paths"
)

// stacks are the worlds of the tests that look at what is left behind.
var stacks = map[string]lab.Stack{"IPv4": lab.OnlyIPv4, "IPv6": lab.OnlyIPv6, "dual": lab.DualStack}

// TestDelLeavesTheNodeAsItWas compares everything that the node's kernel knows before the first ADD and after DEL.
// What the pods of a network share survives, and is compared with golden text.
func TestDelLeavesTheNodeAsItWas(t *testing.T) {
	for name, stack := range stacks {
		for _, flavour := range lab.Flavours {
			t.Run(fmt.Sprintf("%s %s", name, flavour), func(t *testing.T) {
				t.Parallel()
				if err := flavour.Supported(); err != nil {
					t.Skip("SKIPPED, NOT TESTED: ", err)
				}
				w := newWorld(t, lab.Options{Stack: stack})
				if err := w.N1.KubeProxy(flavour, nil); err != nil {
					t.Fatal(err)
				}
				nettest.Golden(t, "node-wide-"+name+".txt", shared(t, w).String())
			})
		}
	}
}

// TestDelLeavesNoIPTables is the same for iptables: all that stays are the chains that pods share.
func TestDelLeavesNoIPTables(t *testing.T) {
	ours := regexp.MustCompile(`^(rule6? (512|102[235]): |ip6?tables-(nft|legacy) (mangle|nat|filter): (.*VETH-HOST-\d+-|-P )).*`)
	for _, backend := range []paths.Backend{paths.IPTablesNFT, paths.IPTablesLegacy} {
		for name, stack := range stacks {
			t.Run(fmt.Sprintf("%s %s", backend, name), func(t *testing.T) {
				t.Parallel()
				skipWithout(t, backend)
				firewall, variant := splitBackend(backend)
				w := newWorld(t, lab.Options{Stack: stack, IPTables: variant, Edit: use(firewall)})
				for _, line := range shared(t, w) {
					if !ours.MatchString(line) {
						t.Errorf("left behind: %s", line)
					}
				}
			})
		}
	}
}

// shared is what the first pod leaves on the node for the next ones, after its DEL; a second one leaves no more.
func shared(t *testing.T, w *lab.World) lab.Dump {
	t.Helper()
	before := dump(t, w.N1.Namespace)
	p := newPod(t, w.N1, "a")
	must(t, w.N1.Add(p))
	must(t, w.N1.Del(p))
	after := dump(t, w.N1.Namespace)
	if lost := before.Since(after); len(lost) > 0 {
		t.Errorf("lost or changed:\n%s", lost)
	}
	second := newPod(t, w.N1, "b")
	must(t, w.N1.Add(second))
	must(t, w.N1.Del(second))
	same(t, "the node after a second pod", after, dump(t, w.N1.Namespace))
	return after.Since(before)
}

// TestDelNeedsNothing: DEL works twice, and whatever has become of the pod's network namespace.
func TestDelNeedsNothing(t *testing.T) {
	for name, netns := range map[string]func(*lab.Pod) string{
		"as ever":         (*lab.Pod).Path,
		"no netns":        func(*lab.Pod) string { return "" },
		"netns gone":      func(p *lab.Pod) string { path := p.Path(); must(t, p.Close()); return path },
		"the node itself": func(p *lab.Pod) string { return p.Node.Path() },
		// What is left of /run/netns/NAME when its mount has gone.
		"a plain file": func(*lab.Pod) string {
			path := filepath.Join(t.TempDir(), "netns")
			must(t, os.WriteFile(path, nil, 0o600))
			return path
		},
		"a file of proc":            func(*lab.Pod) string { return "/proc/self/status" },
		"another kind of namespace": func(*lab.Pod) string { return "/proc/self/ns/mnt" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			other := newPod(t, w.N1, "other") // makes what pods share
			must(t, w.N1.Add(other))
			before := dump(t, w.N1.Namespace)
			p := newPod(t, w.N1, "a")
			must(t, w.N1.Add(p))
			id, path := p.ContainerID(), netns(p)
			for range 2 {
				out, err := w.N1.Plugin("veth-host", w.N1.Conflist().Request("veth-host"),
					"CNI_COMMAND=DEL", "CNI_CONTAINERID="+id, "CNI_IFNAME="+p.IfName, "CNI_NETNS="+path)
				if err != nil || len(out) > 0 {
					t.Errorf("DEL: %v, printed %q", err, out)
				}
				same(t, "the node after DEL", before, dump(t, w.N1.Namespace))
			}
		})
	}
}

// TestAddTwice: the second ADD of a runtime that has lost the answer to the first finds everything as it should be.
func TestAddTwice(t *testing.T) {
	for name, stack := range stacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Stack: stack})
			p := newPod(t, w.N1, "a")
			alone := w.N1.Conflist()
			alone.Plugins = alone.Plugins[:1]
			must(t, w.N1.AddTo(alone, p))

			request := w.N1.Conflist().Request("veth-host")
			request["prevResult"] = p.Result
			var results []string
			var nodes, pods []lab.Dump
			for range 2 {
				out, err := w.N1.Plugin("veth-host", request,
					"CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME="+p.IfName, "CNI_NETNS="+p.Path())
				must(t, err)
				results = append(results, string(out))
				nodes = append(nodes, dump(t, w.N1.Namespace))
				pods = append(pods, dump(t, p.Namespace))
			}
			equal(t, "the result of the second ADD", results[0], results[1])
			same(t, "the node after the second ADD", nodes[0], nodes[1])
			same(t, "the pod after the second ADD", pods[0], pods[1])
		})
	}
}

// TestCheckAfterAdd: CRI-O runs CHECK of the whole chain right after ADD.
func TestCheckAfterAdd(t *testing.T) {
	for name, stack := range stacks {
		for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, lab.Options{Stack: stack, Edit: func(c *lab.Conflist) { c.CNIVersion = version }})
				p := newPod(t, w.N1, "a")
				must(t, w.N1.Add(p))
				must(t, w.N1.Check(p))
				must(t, w.N1.Del(p))
			})
		}
	}
}

// TestView is what an operator sees after ADD: runbooks are written against these lines.
func TestView(t *testing.T) {
	for name, stack := range stacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Stack: stack})
			p := newPod(t, w.N1, "a")
			must(t, w.N1.Add(p))
			hostEnd := p.HostEnd()
			rules, err := w.N1.Run("ip", "rule", "show")
			must(t, err)
			if stack[0] == lab.IPv6 {
				rules, err = w.N1.Run("ip", "-6", "rule", "show")
				must(t, err)
			}
			match := regexp.MustCompile(`iif ` + hostEnd + ` lookup (\d+)`).FindStringSubmatch(rules)
			if match == nil {
				t.Fatalf("no rule for the host end %q among:\n%s", hostEnd, rules)
			}
			table := match[1]

			var text strings.Builder
			view := func(n *lab.Namespace, prompt string, args ...string) {
				out, err := n.Run("ip", args...)
				must(t, err)
				fmt.Fprintf(&text, "%s # ip %s\n%s\n", prompt, strings.Join(args, " "), out)
			}
			for _, f := range stack {
				family := fmt.Sprintf("-%d", f)
				view(p.Namespace, "pod", family, "route", "show")
				view(p.Namespace, "pod", family, "rule", "show")
				view(p.Namespace, "pod", family, "neigh", "show", "nud", "permanent")
				view(w.N1.Namespace, "node", family, "route", "show")
				view(w.N1.Namespace, "node", family, "rule", "show")
				view(w.N1.Namespace, "node", family, "route", "show", "table", table)
				view(w.N1.Namespace, "node", family, "neigh", "show", "nud", "permanent")
			}
			shown := strings.NewReplacer(hostEnd, "HOSTEND", "lookup "+table, "lookup TABLE", "table "+table, "table TABLE").Replace(text.String())
			nettest.Golden(t, "view-"+name+".txt", regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`).ReplaceAllString(shown, "MAC"))
		})
	}
}

// newWorld builds a world that is closed after the test.
func newWorld(t *testing.T, o lab.Options) *lab.World {
	t.Helper()
	w, err := lab.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func newPod(t *testing.T, n *lab.Node, name string) *lab.Pod {
	t.Helper()
	p, err := n.NewPod(name)
	must(t, err)
	return p
}

func dump(t *testing.T, n *lab.Namespace) lab.Dump {
	t.Helper()
	d, err := n.Dump()
	must(t, err)
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares dumps, and shows only the lines that differ.
func same(t *testing.T, what string, want, got lab.Dump) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s has lost:\n%s%[1]s has in addition:\n%[3]s", what, want.Since(got), got.Since(want))
	}
}

func equal(t *testing.T, what, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
