package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// holders are where rules can be, each with the command that shows them and what they have in common there.
var holders = map[paths.Backend]struct{ show, mark string }{
	paths.NFTables:       {"nft list tables inet", "inet veth-host"},
	paths.IPTablesNFT:    {"iptables-nft-save; ip6tables-nft-save", "VETH-HOST"},
	paths.IPTablesLegacy: {"iptables-legacy-save; ip6tables-legacy-save", "VETH-HOST"},
}

// held lists the holders that have rules of veth-host in the namespace.
func held(t *testing.T, n *lab.Namespace) string {
	t.Helper()
	var found []string
	for _, backend := range paths.Backends {
		out, err := n.Run("sh", "-c", holders[backend].show)
		must(t, err)
		if strings.Contains(out, holders[backend].mark) {
			found = append(found, string(backend))
		}
	}
	return strings.Join(found, " and ")
}

// use makes the node's conflist use a backend.
func use(firewall string) func(*lab.Conflist) {
	return func(c *lab.Conflist) { c.Plugin("veth-host")["firewall"] = firewall }
}

func splitBackend(b paths.Backend) (firewall, variant string) {
	firewall, variant, _ = strings.Cut(string(b), "-")
	return firewall, variant
}

// TestBackend: each backend writes where it should and nowhere else, and CHECK finds it there. The second ADD of a pod
// changes nothing, and after its DEL the next pod can have its address.
func TestBackend(t *testing.T) {
	for _, backend := range paths.Backends {
		for name, stack := range stacks {
			t.Run(fmt.Sprintf("%s %s", backend, name), func(t *testing.T) {
				t.Parallel()
				skipWithout(t, backend)
				firewall, variant := splitBackend(backend)
				w := newWorld(t, lab.Options{Stack: stack, IPTables: variant, Edit: use(firewall)})
				p := newPod(t, w.N1, "a")
				must(t, w.N1.Add(p))
				for _, n := range []*lab.Namespace{w.N1.Namespace, p.Namespace} {
					equal(t, "holders in "+n.Name, string(backend), held(t, n))
				}
				must(t, w.N1.Check(p))
				node, pod := dump(t, w.N1.Namespace), dump(t, p.Namespace)
				must(t, addAgain(w.N1, p))
				same(t, "the node after the second ADD", node, dump(t, w.N1.Namespace))
				same(t, "the pod after the second ADD", pod, dump(t, p.Namespace))
				must(t, w.N1.Del(p))
				must(t, w.N1.Add(newPod(t, w.N1, "b")))
			})
		}
	}
}

// TestBackendChanges: after a change of the configuration, or of the node's iptables, the next ADD leaves nothing of the
// old rules, on the node or in the pod; what had been added before is deleted all the same.
func TestBackendChanges(t *testing.T) {
	for _, from := range paths.Backends {
		for _, to := range paths.Backends {
			if from == to {
				continue
			}
			t.Run(fmt.Sprintf("from %s to %s", from, to), func(t *testing.T) {
				t.Parallel()
				skipWithout(t, from)
				skipWithout(t, to)
				firewall, variant := splitBackend(from)
				edit := use(firewall)
				w := newWorld(t, lab.Options{IPTables: variant, Edit: func(c *lab.Conflist) { edit(c) }})
				old, again := newPod(t, w.N1, "old"), newPod(t, w.N1, "again")
				must(t, w.N1.Add(old))
				must(t, w.N1.Add(again))

				firewall, variant = splitBackend(to)
				edit = use(firewall)
				must(t, w.N1.ChooseIPTables(variant))
				must(t, addAgain(w.N1, again))
				equal(t, "holders on the node", string(to), held(t, w.N1.Namespace))
				equal(t, "holders in the pod", string(to), held(t, again.Namespace))
				must(t, w.N1.Check(again))
				must(t, w.N1.Del(old))
				must(t, w.N1.Del(again))
			})
		}
	}
}

// TestBackendAtOnce: whole ADDs of pods that start at once, the first ones of their node, make the rules once; and when
// all of them end at once, what they share stays.
func TestBackendAtOnce(t *testing.T) {
	for _, backend := range paths.Backends {
		t.Run(string(backend), func(t *testing.T) {
			t.Parallel()
			skipWithout(t, backend)
			firewall, variant := splitBackend(backend)
			alone := shared(t, newWorld(t, lab.Options{IPTables: variant, Edit: use(firewall)}))
			w := newWorld(t, lab.Options{IPTables: variant, Edit: use(firewall)})
			before := dump(t, w.N1.Namespace)
			pods := make([]*lab.Pod, 20)
			for i := range pods {
				pods[i] = newPod(t, w.N1, fmt.Sprint("p", i))
			}
			for _, verb := range []func(*lab.Pod) error{w.N1.Add, w.N1.Check, w.N1.Del} {
				errs := make([]error, len(pods))
				var running sync.WaitGroup
				for i, p := range pods {
					running.Go(func() { errs[i] = verb(p) })
				}
				running.Wait()
				must(t, errors.Join(errs...))
			}
			same(t, "what stays on the node", alone, dump(t, w.N1.Namespace).Since(before))
		})
	}
}

// TestAuto: nftables where it works, whatever else the node has; iptables on a node without it; and the same at every
// ADD, CHECK and DEL.
func TestAuto(t *testing.T) {
	for name, c := range map[string]struct {
		without bool // nf_tables
		want    paths.Backend
	}{
		"nf_tables":    {false, paths.NFTables},
		"no nf_tables": {true, paths.IPTablesLegacy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			skipWithout(t, c.want)
			w := newWorld(t, lab.Options{IPTables: "legacy", NoNFTables: c.without, Edit: use("auto")})
			must(t, status(w.N1))
			for _, name := range []string{"a", "b"} {
				p := newPod(t, w.N1, name)
				must(t, w.N1.Add(p))
				must(t, w.N1.Check(p))
				must(t, addAgain(w.N1, p))
				equal(t, "holders in the pod", string(c.want), outside(t, p.Namespace))
				must(t, w.N1.Del(p))
			}
			equal(t, "holders on the node", string(c.want), outside(t, w.N1.Namespace))
			must(t, status(w.N1))
		})
	}
}

// outside is held, asked by programs that are not of the node.
func outside(t *testing.T, n *lab.Namespace) string {
	t.Helper()
	return held(t, n.Outsider())
}

// TestNoBackend: an ADD and a STATUS that cannot work say what was tried and what to do, and leave nothing but the rules
// that pods share.
func TestNoBackend(t *testing.T) {
	for name, c := range map[string]struct {
		firewall string
		script   string // in place of every program of iptables
		options  lab.Options
		want     []string
	}{
		"nftables on a kernel without it": {"nftables", "", lab.Options{NoNFTables: true}, []string{"no such firewall backend works", "protocol not supported"}},
		"neither":                         {"auto", "exit 3", lab.Options{NoNFTables: true}, []string{"tried nftables", "protocol not supported", "tried iptables", "exit status 3"}},
		"iptables fails":                  {"iptables", "echo it rains >&2; exit 3", lab.Options{}, []string{"iptables", "it rains"}},
		"iptables hangs":                  {"iptables", "sleep 1000", lab.Options{}, []string{"iptables", "no answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.script != "" {
				c.options.Shims = t.TempDir()
				for _, program := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore"} {
					must(t, os.WriteFile(filepath.Join(c.options.Shims, program), []byte("#!/bin/sh\n"+c.script+"\n"), 0o755))
				}
			}
			c.options.Edit = use(c.firewall)
			w := newWorld(t, c.options)
			p := newPod(t, w.N1, "a")
			must(t, macvlanAlone(w.N1, p))
			node, pod := dump(t, w.N1.Outsider()), dump(t, p.Namespace)
			for verb, err := range map[string]error{"ADD": addAgain(w.N1, p), "STATUS": status(w.N1)} {
				for _, want := range c.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: want %q in the error, got %v", verb, want, err)
					}
				}
			}
			same(t, "the pod after ADD", pod, dump(t, p.Namespace))
			for _, line := range dump(t, w.N1.Outsider()).Since(node) {
				if !strings.HasPrefix(line, "rule") || strings.Contains(line, "iif") {
					t.Errorf("left behind on the node: %s", line)
				}
			}
		})
	}
}

// TestServiceCIDRMissing: the iptables backend cannot do without serviceCidr.
func TestServiceCIDRMissing(t *testing.T) {
	for name, options := range map[string]lab.Options{
		"iptables": {Edit: use("iptables")},
		"auto":     {Edit: use("auto"), NoNFTables: true, IPTables: "legacy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit := options.Edit
			options.Edit = func(c *lab.Conflist) { edit(c); delete(c.Plugin("veth-host"), "serviceCidr") }
			w := newWorld(t, options)
			err := w.N1.Add(newPod(t, w.N1, "a"))
			for verb, err := range map[string]error{"ADD": err, "STATUS": status(w.N1)} {
				if err == nil || !strings.Contains(err.Error(), "serviceCidr: missing") {
					t.Errorf("%s: want an error about serviceCidr, got %v", verb, err)
				}
			}
		})
	}
}

// macvlanAlone attaches the pod to the network without veth-host.
func macvlanAlone(n *lab.Node, p *lab.Pod) error {
	c := n.Conflist()
	c.Plugins = c.Plugins[:1]
	return n.AddTo(c, p)
}

// addAgain runs the ADD of veth-host alone.
func addAgain(n *lab.Node, p *lab.Pod) error {
	request := n.Conflist().Request("veth-host")
	prev := *p.Result
	prev.Interfaces = prev.Interfaces[:1]
	if len(p.Result.Interfaces) > 1 { // of an ADD of the whole chain: macvlan lists but the pod's interface
		prev.Interfaces = p.Result.Interfaces[:1]
	}
	request["prevResult"] = &prev
	_, err := n.Plugin("veth-host", request,
		"CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME="+p.IfName, "CNI_NETNS="+p.Path())
	return err
}

func status(n *lab.Node) error {
	request := n.Conflist().Request("veth-host")
	request["cniVersion"] = "1.1.0"
	_, err := n.Plugin("veth-host", request, "CNI_COMMAND=STATUS")
	return err
}

func skipWithout(t *testing.T, b paths.Backend) {
	t.Helper()
	if err := b.Supported(); err != nil {
		t.Skip("SKIPPED, NOT TESTED: ", err)
	}
}

// TestForwardDrop: on a node whose policy drops what nobody accepts, pods' traffic passes and that of others does not.
func TestForwardDrop(t *testing.T) {
	for _, backend := range paths.Backends {
		for _, policy := range []paths.Backend{paths.IPTablesNFT, paths.IPTablesLegacy} {
			for _, ipMasq := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s policy of %s ipMasq %t", backend, policy, ipMasq), func(t *testing.T) {
					t.Parallel()
					skipWithout(t, backend)
					skipWithout(t, policy)
					c := paths.Config{Backend: backend, Flavour: lab.Flavour(policy), IPMasq: ipMasq, Options: lab.Options{RPFilter: 1}}
					c.Prepare = func(n *lab.Node) error { return dropForwarded(n, policy) }
					runRows(t, c)
				})
			}
		}
	}
}

func dropForwarded(n *lab.Node, policy paths.Backend) error {
	var errs []error
	for _, program := range []string{string(policy), strings.Replace(string(policy), "ip", "ip6", 1)} {
		_, err := n.Run(program, "-P", "FORWARD", "DROP")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TestForwardDropLater: a policy that somebody sets when there are pods already. CHECK tells, and the next ADD lets
// pods' traffic pass; the one after it changes nothing. Where the policy is iptables-legacy's, telling would cost every
// ADD a process.
func TestForwardDropLater(t *testing.T) {
	for _, backend := range paths.Backends {
		t.Run(string(backend), func(t *testing.T) {
			t.Parallel()
			skipWithout(t, backend)
			skipWithout(t, paths.IPTablesNFT)
			firewall, variant := splitBackend(backend)
			w := newWorld(t, lab.Options{IPTables: variant, Edit: use(firewall)})
			first := newPod(t, w.N1, "first")
			must(t, w.N1.Add(first))
			must(t, dropForwarded(w.N1, paths.IPTablesNFT))
			if err := w.N1.Check(first); backend != paths.IPTablesNFT && (err == nil || !strings.Contains(err.Error(), "policy of FORWARD is DROP")) {
				t.Errorf("CHECK: %v", err)
			}
			must(t, w.N1.Add(newPod(t, w.N1, "second")))
			must(t, w.N1.Check(first))
			after := dump(t, w.N1.Namespace)
			third := newPod(t, w.N1, "third")
			must(t, w.N1.Add(third))
			must(t, w.N1.Del(third))
			same(t, "the node after a third pod", after, dump(t, w.N1.Namespace))
		})
	}
}

// runRows builds a world and runs the whole table in it.
func runRows(t *testing.T, c paths.Config) {
	t.Helper()
	w, err := paths.New(c)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	for row, err := range w.Verdicts() {
		if err != nil {
			t.Errorf("row %d: %v", row.Number, err)
		}
	}
	// What is no pod's: the node is no router for the wire.
	must(t, w.Client.IP("route replace default via "+w.N1.Addr.V4.String()))
	if err := w.Client.Ping(w.Outside.Addr.V4); err == nil {
		t.Error("the node forwards for a machine that is no pod")
	}
}
