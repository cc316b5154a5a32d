package firewall_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"underlay-cni/firewall"
	"underlay-cni/integration/nettest"
)

var must = nettest.Must

// A namespace is a network namespace without a name, that lives as long as the test.
type namespace int

func newNamespace(t *testing.T) namespace {
	t.Helper()
	_, fd := nettest.Namespace(t)
	return namespace(fd)
}

// Do makes it a firewall.Namespace.
func (n namespace) Do(f func() error) error { return nettest.Within(int(n), f) }

// Command makes it a firewall.Namespace. The commands of a test run in the namespace, by sh.
func (n namespace) Command(line string) string { return line }

// sh runs a script in the namespace.
func (n namespace) sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := n.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, stderr.Bytes(), script)
	}
	return stdout.String()
}

// list is what an operator sees of all tables.
func (n namespace) list(t *testing.T) string {
	t.Helper()
	return n.sh(t, "nft list ruleset")
}

// generation is the number of transactions that nf_tables has seen.
func (n namespace) generation(t *testing.T) uint32 {
	t.Helper()
	var gen *nftables.Gen
	must(t, n.Do(func() error {
		c, err := nftables.New()
		if err == nil {
			gen, err = c.GetGen()
		}
		return err
	}))
	return gen.ID
}

func open(t *testing.T) firewall.Firewall {
	t.Helper()
	fw, err := firewall.Open(firewall.NFTables)
	must(t, err)
	return fw
}

// cni0 is the network of the example in IPv4, ready to be altered.
func cni0(alter ...func(*firewall.Node)) firewall.Node {
	n := firewall.Node{
		Network: "cni0", Group: 24301, HostInterface: "enp1s0", Addr4: netip.MustParseAddr("10.10.20.152"),
		NodePorts: []firewall.Ports{{First: 30000, Last: 32767}}, NodePortMark: 0x2000, ServiceMark: 0x1000, Masquerade: true,
		SpoofCheck: true,
	}
	for _, a := range alter {
		a(&n)
	}
	return n
}

func only6(n *firewall.Node)        { n.Addr4, n.Addr6 = netip.Addr{}, netip.MustParseAddr("fd20::152") }
func dual(n *firewall.Node)         { n.Addr6 = netip.MustParseAddr("fd20::152") }
func noMasquerade(n *firewall.Node) { n.Masquerade = false }

func serviceCIDRs(cidrs ...string) func(*firewall.Node) {
	return func(n *firewall.Node) {
		for _, c := range cidrs {
			n.ServiceCIDRs = append(n.ServiceCIDRs, netip.MustParsePrefix(c))
		}
	}
}

func ports(ranges ...firewall.Ports) func(*firewall.Node) {
	return func(n *firewall.Node) { n.NodePorts = ranges }
}

var examplePod = firewall.Pod{Interface: "eth0", Veth: "veth0", NodePortMark: 0x2000, ServiceMark: 0x1000}

var exampleServices = firewall.Services{
	SpoofCheck: true,
	Owner:      "veth", Network: "underlay", Group: 77, Addr4: netip.MustParseAddr("10.10.20.152"), Addr6: netip.MustParseAddr("fd20::152"),
	CIDRs: []netip.Prefix{netip.MustParsePrefix("172.96.0.0/18"), netip.MustParsePrefix("2001:4860:fd00::/108")},
}

var exampleReplies = firewall.Replies{Owner: "veth", By: "veth0", Mark: 0x1000, IPv4: true, IPv6: true}

func services(name string, s firewall.Services) description {
	return description{"services " + name, func(fw firewall.Firewall, ns firewall.Namespace) []firewall.Change {
		return []firewall.Change{fw.Services(ns, s)}
	}}
}

func replies(name string, r firewall.Replies) description {
	return description{"replies " + name, func(fw firewall.Firewall, ns firewall.Namespace) []firewall.Change {
		return []firewall.Change{fw.Replies(ns, r)}
	}}
}

type description struct {
	name string
	make func(firewall.Firewall, firewall.Namespace) []firewall.Change
}

func node(name string, nodes ...firewall.Node) description {
	return description{"node " + name, func(fw firewall.Firewall, ns firewall.Namespace) (changes []firewall.Change) {
		for _, n := range nodes {
			changes = append(changes, fw.Node(ns, n))
		}
		return changes
	}}
}

func pod(name string, p firewall.Pod) description {
	return description{"pod " + name, func(fw firewall.Firewall, ns firewall.Namespace) []firewall.Change {
		return []firewall.Change{fw.Pod(ns, p)}
	}}
}

var descriptions = []description{
	node("IPv4 ipMasq", cni0()),
	node("IPv4", cni0(noMasquerade)),
	node("IPv4 serviceCidr ipMasq", cni0(serviceCIDRs("172.20.252.0/22"))),
	node("IPv4 serviceCidr", cni0(serviceCIDRs("172.20.252.0/22"), noMasquerade)),
	node("IPv6 ipMasq", cni0(only6)),
	node("IPv6", cni0(only6, noMasquerade)),
	node("IPv6 serviceCidr ipMasq", cni0(only6, serviceCIDRs("fd00:20::/108"))),
	node("IPv6 serviceCidr", cni0(only6, serviceCIDRs("fd00:20::/108"), noMasquerade)),
	node("dual ipMasq", cni0(dual)),
	node("dual", cni0(dual, noMasquerade)),
	node("dual serviceCidr ipMasq", cni0(dual, serviceCIDRs("172.20.252.0/22", "fd00:20::/108"))),
	node("dual serviceCidr", cni0(dual, serviceCIDRs("172.20.252.0/22", "fd00:20::/108"), noMasquerade)),
	node("several serviceCidr", cni0(dual, serviceCIDRs("10.96.0.0/12", "172.20.252.7/32", "192.0.2.128/25", "fd00:20::1/128", "fd00:30::/61"))),
	node("several ports", cni0(ports(firewall.Ports{First: 80, Last: 80}, firewall.Ports{First: 30000, Last: 32767}, firewall.Ports{First: 40000, Last: 65535}))),
	node("every port", cni0(ports(firewall.Ports{First: 1, Last: 65535}))),
	node("other marks", cni0(func(n *firewall.Node) { n.NodePortMark, n.ServiceMark = 0x8000_0000, 0x60 })),
	node("names of interface and network", cni0(func(n *firewall.Node) {
		n.HostInterface, n.Network, n.Group = "eth0.100", "a-b_c.d", 0x7fffffff
	})),
	node("name of a network that is long", cni0(func(n *firewall.Node) { n.Network = strings.Repeat("n", 245) })), // as long as the name of a table may be
	node("two networks", cni0(), cni0(dual, noMasquerade, func(n *firewall.Node) {
		n.Network, n.Group, n.HostInterface, n.NodePortMark, n.ServiceMark = "cni1", 77, "enp2s0", 0x20000, 0x10000
	})),
	services("", exampleServices),
	services("IPv4", func() firewall.Services {
		s := exampleServices
		s.Addr6, s.CIDRs = netip.Addr{}, nil
		return s
	}()),
	{"services beside veth-host", func(fw firewall.Firewall, ns firewall.Namespace) []firewall.Change {
		other := exampleServices
		other.Network, other.Group, other.CIDRs = "host-cni0", 78, nil // whose table would have veth-host's name
		return []firewall.Change{fw.Node(ns, cni0(func(n *firewall.Node) { n.Network = "cni0" })), fw.Services(ns, exampleServices), fw.Services(ns, other)}
	}},
	replies("", exampleReplies),
	replies("by another interface", firewall.Replies{Owner: "router", By: "eth0", Mark: 0x60}),
	pod("", examplePod),
	pod("names and marks", firewall.Pod{Interface: "net1.7", Veth: "veth-host", NodePortMark: 0x8000_0000, ServiceMark: 0x60}),
}

// TestTables: what nft(8) shows is in testdata, and it is the same whether Apply has written it or a shell has run the
// line of the change.
func TestTables(t *testing.T) {
	for _, d := range descriptions {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			ns, byHand := newNamespace(t), newNamespace(t)
			changes := d.make(open(t), ns)
			for _, c := range changes {
				if err := c.Verify(); err == nil {
					t.Error("Verify finds it in an empty namespace")
				}
				must(t, c.Apply())
			}
			for _, c := range changes {
				must(t, c.Verify())
				byHand.sh(t, c.String())
			}
			nettest.Golden(t, strings.TrimSpace(d.name)+".nft", ns.list(t))
			if diff := cmp.Diff(strings.Split(ns.list(t), "\n"), strings.Split(byHand.list(t), "\n")); diff != "" {
				t.Errorf("(-Apply +sh)\n%s", diff)
			}
		})
	}
}

// TestApplyTwice: what is there is not written again, by whatever process.
func TestApplyTwice(t *testing.T) {
	for _, d := range descriptions {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			for _, c := range d.make(open(t), ns) {
				must(t, c.Apply())
			}
			before, text := ns.generation(t), ns.list(t)
			for _, c := range d.make(open(t), ns) {
				must(t, c.Apply())
				must(t, c.Apply())
				must(t, c.Verify())
			}
			if after := ns.generation(t); after != before {
				t.Errorf("generation %d, then %d", before, after)
			}
			if diff := cmp.Diff(text, ns.list(t)); diff != "" {
				t.Errorf("(-first +second)\n%s", diff)
			}
		})
	}
}

// TestChangedConfiguration: another configuration takes the place of the old one in one transaction.
func TestChangedConfiguration(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(*firewall.Node)
	}{
		{"ipMasq", noMasquerade},
		{"serviceCidr", serviceCIDRs("172.20.252.0/22")},
		{"hostInterface", func(n *firewall.Node) { n.HostInterface = "enp2s0" }},
		{"address of hostInterface", func(n *firewall.Node) { n.Addr4 = netip.MustParseAddr("10.10.20.153") }},
		{"IPv6 added", dual},
		{"nodePorts", ports(firewall.Ports{First: 30000, Last: 30100})},
		{"one more range of nodePorts", ports(firewall.Ports{First: 30000, Last: 32767}, firewall.Ports{First: 80, Last: 80})},
		{"nodePortMark", func(n *firewall.Node) { n.NodePortMark = 0x20000 }},
		{"serviceMark", func(n *firewall.Node) { n.ServiceMark = 0x10000 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fw, ns, fresh := open(t), newNamespace(t), newNamespace(t)
			must(t, fw.Node(ns, cni0()).Apply())
			before := ns.generation(t)
			changed := fw.Node(ns, cni0(test.alter))
			if err := changed.Verify(); err == nil || err.Error() != "table inet veth-host-cni0 is of another configuration" {
				t.Errorf("Verify: %v", err)
			}
			must(t, changed.Apply())
			must(t, changed.Verify())
			if after := ns.generation(t); after != before+1 {
				t.Errorf("%d transactions", after-before)
			}
			must(t, fw.Node(fresh, cni0(test.alter)).Apply())
			if diff := cmp.Diff(fresh.list(t), ns.list(t)); diff != "" {
				t.Errorf("(-written at once +changed)\n%s", diff)
			}
		})
	}
}

// TestSpoilt: Verify sees what somebody else has altered, and Apply heals it, whoever of the network's pods comes next.
func TestSpoilt(t *testing.T) {
	lastOf := func(chain string) string {
		return "handle $(nft -a list chain TABLE " + chain + " | sed -n 's/.* # handle //p' | tail -1)"
	}
	for _, test := range []struct{ name, line, says string }{
		{"table deleted", "nft delete table TABLE", "table TABLE is missing or empty"},
		{"table flushed", "nft flush table TABLE", "table TABLE is missing or empty"},
		{"all flushed", "nft flush ruleset", "table TABLE is missing or empty"},
		{"a chain flushed", "nft flush chain TABLE prerouting", "table TABLE has other rules in prerouting"},
		{"the last chain flushed", "nft flush chain TABLE postrouting", "table TABLE has other rules in postrouting"},
		{"two chains flushed", "nft flush chain TABLE prerouting; nft flush chain TABLE postrouting", "table TABLE has other rules in prerouting, postrouting"},
		{"a chain deleted", "nft flush chain TABLE postrouting; nft delete chain TABLE postrouting", "table TABLE has other rules in postrouting"},
		{"a rule deleted", "nft delete rule TABLE postrouting " + lastOf("postrouting"), "table TABLE has other rules in postrouting"},
		{"a rule added behind", "nft add rule TABLE prerouting counter drop", "table TABLE has other rules in prerouting"},
		{"a rule added before", "nft insert rule TABLE prerouting counter accept", "table TABLE has other rules in prerouting"},
		{"a rule replaced", "nft replace rule TABLE prerouting " + lastOf("prerouting") + " counter", "table TABLE has other rules in prerouting"},
		{
			"a rule replaced by one that looks the same",
			"nft replace rule TABLE postrouting " + lastOf("postrouting") + ` $(nft list chain TABLE postrouting | tail -3 | head -1 | sed 's/ comment .*//')`,
			"table TABLE has other rules in postrouting",
		},
	} {
		for _, kind := range []struct {
			name, table string
			make        func(firewall.Firewall, firewall.Namespace) firewall.Change
		}{
			{"node", "inet veth-host-cni0", func(fw firewall.Firewall, ns firewall.Namespace) firewall.Change { return fw.Node(ns, cni0()) }},
			{"pod", "inet veth-host", func(fw firewall.Firewall, ns firewall.Namespace) firewall.Change { return fw.Pod(ns, examplePod) }},
		} {
			t.Run(kind.name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				fw, ns := open(t), newNamespace(t)
				must(t, kind.make(fw, ns).Apply())
				right := ns.list(t)
				ns.sh(t, strings.ReplaceAll(test.line, "TABLE", kind.table))
				says := strings.ReplaceAll(test.says, "TABLE", kind.table)
				if err := kind.make(fw, ns).Verify(); err == nil || err.Error() != says {
					t.Errorf("Verify: %v\nwant: %s", err, says)
				}
				must(t, kind.make(fw, ns).Apply())
				must(t, kind.make(fw, ns).Verify())
				if diff := cmp.Diff(right, ns.list(t)); diff != "" {
					t.Errorf("after Apply (-want +got)\n%s", diff)
				}
			})
		}
	}
}

// TestForeignTable: a table of somebody else's that has our name stays as it is, and Apply says why; one that is ours, whoever
// has written it, is healed.
func TestForeignTable(t *testing.T) {
	const foreign = ": it is somebody else's: no rule of it is ours; accepted: none of that name, an empty one or ours"
	for _, test := range []struct {
		name, script string // instead of TABLE
		says         string
	}{
		{"a chain that drops", "nft 'table TABLE { chain mine { type filter hook forward priority 0; policy drop; }; }'", foreign},
		{"a set", "nft 'table TABLE { set mine { type ipv4_addr; }; }'", foreign},
		{"an object", "nft 'table TABLE { counter mine { }; }'", foreign},
		{"a rule", "nft 'table TABLE { chain mine { counter; }; }'", foreign},
		{"a rule in a chain of our name", "nft 'table TABLE { chain prerouting { counter comment \"mine\"; }; }'", foreign},
		{"chains of ours and another", "nft 'table TABLE { chain prerouting { }; chain mine { }; }'", foreign},
		{"nothing", "nft add table TABLE", ""},
		{"chains of ours", "nft flush table TABLE", ""},
		{"saved and restored", "nft list ruleset >saved; nft flush ruleset; nft -f saved; rm saved", ""},
		{"of another configuration", "OTHER", ""},
	} {
		for name, of := range map[string]func(firewall.Firewall, firewall.Namespace, bool) firewall.Change{
			"inet veth-host-cni0": func(fw firewall.Firewall, ns firewall.Namespace, other bool) firewall.Change {
				return fw.Node(ns, cni0(func(n *firewall.Node) { n.Masquerade = !other }))
			},
			"inet veth.underlay": func(fw firewall.Firewall, ns firewall.Namespace, other bool) firewall.Change {
				s := exampleServices
				if other {
					s.CIDRs = nil
				}
				return fw.Services(ns, s)
			},
			"inet veth": func(fw firewall.Firewall, ns firewall.Namespace, other bool) firewall.Change {
				r := exampleReplies
				r.There = other
				return fw.Replies(ns, r)
			},
			"inet router": func(fw firewall.Firewall, ns firewall.Namespace, other bool) firewall.Change {
				return fw.Replies(ns, firewall.Replies{Owner: "router", By: map[bool]string{true: "eth7", false: "eth0"}[other], Mark: 0x1000, IPv4: true, There: true})
			},
		} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				fw, ns := open(t), newNamespace(t)
				if test.says == "" {
					must(t, of(fw, ns, test.script == "OTHER").Apply())
				}
				if test.script != "OTHER" {
					ns.sh(t, "cd "+t.TempDir()+"; "+strings.ReplaceAll(test.script, "TABLE", name))
				}
				before, change := ns.list(t), of(fw, ns, false)
				err := change.Apply()
				if test.says == "" {
					must(t, err)
					must(t, change.Verify())
					return
				}
				if want := "table " + name + test.says; err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				must(t, change.Revert())
				if diff := cmp.Diff(before, ns.list(t)); diff != "" {
					t.Errorf("the table of somebody else (-before +after)\n%s", diff)
				}
			})
		}
	}
}

// TestPolicy: a chain whose policy somebody has turned to drop is seen by Verify.
func TestPolicy(t *testing.T) {
	fw, ns := open(t), newNamespace(t)
	must(t, fw.Pod(ns, examplePod).Apply())
	ns.sh(t, "nft 'chain inet veth-host forward { policy drop; }'")
	const want = "chain inet veth-host forward has policy drop, not accept"
	if err := fw.Pod(ns, examplePod).Verify(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestAtOnce: of many processes that find nothing, each succeeds, and the rules are there once.
func TestAtOnce(t *testing.T) {
	const count = 50
	for _, d := range []description{node("", cni0(dual)), pod("", examplePod)} {
		t.Run(d.name, func(t *testing.T) {
			ns, alone := newNamespace(t), newNamespace(t)
			for _, c := range d.make(open(t), alone) {
				must(t, c.Apply())
			}
			errs := make([]error, count)
			var wg sync.WaitGroup
			for i := range count {
				wg.Go(func() {
					for _, c := range d.make(open(t), ns) {
						errs[i] = errors.Join(errs[i], c.Apply(), c.Verify())
					}
				})
			}
			wg.Wait()
			must(t, errors.Join(errs...))
			if diff := cmp.Diff(alone.list(t), ns.list(t)); diff != "" {
				t.Errorf("(-one +fifty)\n%s", diff)
			}
		})
	}
}

// TestAtOnceAnew: the same when an old configuration has to go.
func TestAtOnceAnew(t *testing.T) {
	const count = 10
	fw, ns, alone := open(t), newNamespace(t), newNamespace(t)
	must(t, fw.Node(alone, cni0(dual)).Apply())
	must(t, fw.Node(ns, cni0(noMasquerade)).Apply())
	errs := make([]error, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() { errs[i] = open(t).Node(ns, cni0(dual)).Apply() })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	if diff := cmp.Diff(alone.list(t), ns.list(t)); diff != "" {
		t.Errorf("(-one +ten)\n%s", diff)
	}
}

// TestRevert: a pod's table goes if Apply has made it, and only then; a network's stays, others may rely on it.
func TestRevert(t *testing.T) {
	const foreign = "nft add table inet foreign"
	t.Run("pod", func(t *testing.T) {
		fw, ns := open(t), newNamespace(t)
		ns.sh(t, foreign)
		before := ns.list(t)
		c := fw.Pod(ns, examplePod)
		must(t, c.Revert())
		must(t, c.Apply())
		must(t, fw.Pod(ns, examplePod).Revert()) // has made nothing
		must(t, c.Verify())
		must(t, c.Revert())
		must(t, c.Revert())
		if diff := cmp.Diff(before, ns.list(t)); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
	})
	t.Run("pod, found there", func(t *testing.T) {
		fw, ns := open(t), newNamespace(t)
		must(t, fw.Pod(ns, examplePod).Apply())
		c := fw.Pod(ns, examplePod)
		must(t, c.Apply())
		must(t, c.Revert())
		must(t, c.Verify())
	})
	t.Run("pod, gone meanwhile", func(t *testing.T) {
		fw, ns := open(t), newNamespace(t)
		c := fw.Pod(ns, examplePod)
		must(t, c.Apply())
		ns.sh(t, "nft flush ruleset")
		must(t, c.Revert())
	})
	t.Run("node", func(t *testing.T) {
		fw, ns := open(t), newNamespace(t)
		c := fw.Node(ns, cni0())
		must(t, c.Apply())
		must(t, c.Revert())
		must(t, c.Verify())
	})
}

// TestNetworksApart: one network's table is nothing to the other, even if the name of one begins with the other's.
func TestNetworksApart(t *testing.T) {
	fw, ns := open(t), newNamespace(t)
	longer := func(n *firewall.Node) { n.Network = "cni01" }
	for _, n := range []firewall.Node{cni0(), cni0(longer)} {
		must(t, fw.Node(ns, n).Apply())
	}
	must(t, fw.Pod(ns, examplePod).Apply())
	must(t, fw.Node(ns, cni0(longer, noMasquerade)).Apply())
	must(t, fw.Node(ns, cni0()).Verify())
	must(t, fw.Pod(ns, examplePod).Verify())
	if names := strings.Join(regexp.MustCompile(`table inet \S+`).FindAllString(ns.list(t), -1), "\n"); names != "table inet veth-host-cni0\ntable inet veth-host\ntable inet veth-host-cni01" {
		t.Error(names)
	}
}

func TestOpen(t *testing.T) {
	for _, test := range []struct{ name, is string }{
		{firewall.NFTables, firewall.NFTables}, {firewall.Auto, firewall.NFTables}, {firewall.IPTables, firewall.IPTables}, {"ebpf", ""}, {"", ""},
	} {
		t.Run(fmt.Sprintf("%q", test.name), func(t *testing.T) {
			fw, err := firewall.Open(test.name)
			if test.is == "" {
				if !errors.Is(err, firewall.ErrUnavailable) || !strings.Contains(err.Error(), test.name) {
					t.Errorf("got %v", err)
				}
				return
			}
			must(t, err)
			if c := fw.Pod(namespace(-1), examplePod); c.Backend() != test.is {
				t.Errorf("got %s", c.Backend())
			}
		})
	}
}

func TestProbe(t *testing.T) {
	ns := newNamespace(t)
	before := ns.generation(t)
	must(t, open(t).Probe(ns, cni0()))
	if ns.generation(t) != before || ns.list(t) != "" {
		t.Error("it has changed something")
	}
}

// TestNoNamespace: a namespace that cannot be entered is an error of every verb.
func TestNoNamespace(t *testing.T) {
	fw, ns := open(t), namespace(-1)
	for _, c := range []firewall.Change{fw.Node(ns, cni0()), fw.Pod(ns, examplePod)} {
		if err := c.Apply(); !errors.Is(err, unix.EBADF) {
			t.Errorf("Apply: %v", err)
		}
		if err := c.Verify(); !errors.Is(err, unix.EBADF) {
			t.Errorf("Verify: %v", err)
		}
	}
	if err := fw.Probe(ns, cni0()); !errors.Is(err, unix.EBADF) {
		t.Errorf("Probe: %v", err)
	}
}

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
