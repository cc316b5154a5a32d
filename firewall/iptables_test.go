package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"underlay-cni/integration/nettest"
)

var must, same = nettest.Must, nettest.Same[string]

// variants are those of iptables, each a backend of its own here.
var variants = map[string]iptBackend{"nft": {variantNFT}, "legacy": {variantLegacy}}

// TestIPTablesRules compares what iptables-save shows with golden text.
func TestIPTablesRules(t *testing.T) {
	wire := node()
	wire.Masquerade, wire.NodePorts = false, []Ports{{30000, 32767}, {8080, 8080}}
	for variant, b := range variants {
		for name, change := range map[string]func(Namespace) Change{
			"node":           func(ns Namespace) Change { return b.Node(ns, node()) },
			"node-no-ipMasq": func(ns Namespace) Change { return b.Node(ns, wire) },
			"pod":            func(ns Namespace) Change { return b.Pod(ns, pod()) },
			"services":       func(ns Namespace) Change { return b.Services(ns, services()) },
			"replies": func(ns Namespace) Change {
				return b.Replies(ns, Replies{Owner: "veth", By: "veth0", Mark: 0x1000, IPv4: true, IPv6: true})
			},
		} {
			t.Run(variant+" "+name, func(t *testing.T) {
				t.Parallel()
				ns := newNamespace(t)
				c := change(ns)
				must(t, c.Apply())
				got := saved(t, ns, variant)
				nettest.Golden(t, "iptables-"+name+".txt", got)
				must(t, c.Verify())

				again := change(ns)
				must(t, again.Apply())
				same(t, "after a second Apply", got, saved(t, ns, variant))
				must(t, again.Revert())
				same(t, "after Revert of the second", got, saved(t, ns, variant))
				must(t, again.Verify())

				if name == "pod" || name == "replies" {
					must(t, c.Revert())
					if got := saved(t, ns, variant); strings.Contains(got, "VETH-") {
						t.Errorf("after Revert:\n%s", got)
					}
					must(t, c.Revert())
				}
			})
		}
	}
}

// TestIPTablesText: String is what a shell can run to the same effect.
func TestIPTablesText(t *testing.T) {
	for variant, b := range variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			applied, typed := newNamespace(t), newNamespace(t)
			must(t, b.Node(applied, node()).Apply())
			c := b.Node(typed, node())
			run(t, typed, "sh", "-c", c.String())
			must(t, c.Verify())
			same(t, "by hand", saved(t, applied, variant), saved(t, typed, variant))
		})
	}
}

// TestIPTablesAtOnce: fifty pods at once, on a node where nothing is there yet, make one rule set.
func TestIPTablesAtOnce(t *testing.T) {
	for variant, b := range variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			want, ns := newNamespace(t), newNamespace(t)
			must(t, b.Node(want, node()).Apply())
			var running sync.WaitGroup
			for range 50 {
				running.Go(func() {
					if err := b.Node(ns, node()).Apply(); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
			same(t, "fifty at once", saved(t, want, variant), saved(t, ns, variant))
		})
	}
}

// TestIPTablesConverges: whatever became of the jumps, the next Apply makes the rules what they should be, beside those of
// others, and Verify tells what was wrong. What Apply does not look at is right again after a removal.
func TestIPTablesConverges(t *testing.T) {
	other := node()
	other.Masquerade, other.ServiceMark = false, 0x100000
	for variant, b := range variants {
		for name, spoil := range map[string]string{
			"another configuration": "",
			"nat flushed":           "iptables -t nat -F; iptables -t nat -X",
			"a jump too many":       "iptables -t mangle -I PREROUTING -j VETH-HOST-7-PRE",
			"no jump":               "iptables -t mangle -F PREROUTING",
			"a rule too many":       "iptables -t filter -A VETH-HOST-7-FWD -j DROP",
			"a rule too few":        "iptables -t nat -D VETH-HOST-7-POST 1; iptables -t nat -F POSTROUTING",
			"half of it":            "iptables -t filter -F FORWARD; iptables -t filter -F VETH-HOST-7-FWD; iptables -t filter -X VETH-HOST-7-FWD",
			"flushed":               "iptables -F; iptables -t nat -F; iptables -t mangle -F",
			"others' rules":         "iptables -N KUBE; iptables -I FORWARD -j KUBE; iptables -t nat -F",
		} {
			t.Run(variant+" "+name, func(t *testing.T) {
				t.Parallel()
				ns := newNamespace(t)
				if spoil == "" {
					must(t, b.Node(ns, other).Apply())
				} else {
					must(t, b.Node(ns, node()).Apply())
					run(t, ns, "sh", "-c", strings.ReplaceAll(spoil, "iptables", "iptables-"+variant))
				}
				c := b.Node(ns, node())
				if c.Verify() == nil {
					t.Error("Verify sees nothing wrong")
				}
				if name == "a jump too many" || name == "a rule too many" { // not looked at: for CHECK to find
					must(t, b.node(ns, node()).each((*half).remove))
				}
				must(t, c.Apply())
				must(t, c.Verify())
				if name == "another configuration" {
					want := newNamespace(t)
					must(t, b.Node(want, node()).Apply())
					same(t, "after the change", saved(t, want, variant), saved(t, ns, variant))
				}
			})
		}
	}
}

// TestIPTablesFaults: each fault is an error that says what to do, and leaves nothing.
func TestIPTablesFaults(t *testing.T) {
	path := os.Getenv("PATH")
	for name, fault := range map[string]struct {
		script string // in place of iptables-restore; "": missing
		wrap   error
		said   string
	}{
		"missing":     {"", ErrUnavailable, "iptables-restore: no such program in PATH"},
		"failing":     {"echo it rains >&2; exit 3", nil, "iptables-restore: exit status 3: it rains"},
		"hanging":     {"sleep 1000", nil, "iptables-restore: no answer in "},
		"not for us":  {"#!/nowhere", ErrUnavailable, "iptables-restore"},
		"nat refused": {natRefused, nil, "iptables-restore: exit status 2: line "},
	} {
		t.Run(name, func(t *testing.T) {
			ns, dir := newNamespace(t), t.TempDir()
			before := saved(t, ns, "nft")
			for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
				if fault.script == "" {
					continue
				}
				script := fault.script
				if !strings.HasPrefix(script, "#!") {
					script = "#!/bin/sh\n" + script
				}
				must(t, os.WriteFile(filepath.Join(dir, program), []byte(script+"\n"), 0o755))
			}
			t.Setenv("PATH", dir)
			if name != "missing" {
				t.Setenv("PATH", dir+":"+path)
			}
			for _, c := range []Change{iptBackend{}.Node(ns, node()), iptBackend{}.Pod(ns, pod())} {
				err := c.Apply()
				if err == nil || !strings.Contains(err.Error(), fault.said) || fault.wrap != nil && !errors.Is(err, fault.wrap) {
					t.Errorf("want an error about %q, got %v", fault.said, err)
				}
				if name != "hanging" {
					_ = c.Revert()
				}
			}
			t.Setenv("PATH", path)
			same(t, "after the fault", before, saved(t, ns, "nft"))
		})
	}
}

// natRefused does as it is told until it comes to the table nat.
const natRefused = `in=$(cat) real=$(basename "$0" -restore)-nft-restore
case "$in" in *"*nat"*) ;; *) printf '%s\n' "$in" | exec $real "$@";; esac
printf '%s\n' "$in" | sed '/^[*]nat/,$d' | $real "$@" || exit 1
echo line $(printf '%s\n' "$in" | grep -n '^[*]nat' | cut -d: -f1) failed >&2
exit 2`

// TestIPTablesLock: somebody holds the lock of iptables-legacy for longer than a pod should wait for it.
func TestIPTablesLock(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", lock)
	f, err := os.Create(lock)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	ns := newNamespace(t)
	if err := (iptBackend{variantLegacy}).Node(ns, node()).Apply(); !errors.Is(err, ErrBusy) {
		t.Errorf("want ErrBusy, got %v", err)
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	if got := saved(t, ns, "legacy"); strings.Contains(got, podChains) {
		t.Errorf("left behind:\n%s", got)
	}
}

func node() Node {
	return Node{
		Network: "cni0", Group: 7, HostInterface: "enp1s0",
		Addr4: netip.MustParseAddr("10.10.20.152"), Addr6: netip.MustParseAddr("fd20::152"),
		NodePorts:    []Ports{{30000, 32767}},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.20.252.0/22"), netip.MustParsePrefix("fd00:10:96::/108")},
		NodePortMark: 0x2000, ServiceMark: 0x1000, Masquerade: true, SpoofCheck: true,
	}
}

func services() Services {
	return Services{
		SpoofCheck: true,
		Owner:      "veth", Network: "underlay", Group: 77, Addr4: netip.MustParseAddr("10.10.20.152"), Addr6: netip.MustParseAddr("fd20::152"),
		CIDRs: []netip.Prefix{netip.MustParsePrefix("172.96.0.0/18"), netip.MustParsePrefix("2001:4860:fd00::/108")},
	}
}

func pod() Pod {
	return Pod{Interface: "eth0", Veth: "veth0", NodePortMark: 0x2000, ServiceMark: 0x1000, IPv4: true, IPv6: true}
}

// newNamespace makes a network namespace for the test.
func newNamespace(t *testing.T) Namespace {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := netns.Get()
	must(t, err)
	ns, err := netns.New()
	must(t, err)
	must(t, netns.Set(self))
	t.Cleanup(func() { ns.Close(); self.Close() })
	return scratchNamespace{ns, self}
}

// run runs a program in the namespace.
func run(t *testing.T, ns Namespace, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := errors.Join(ns.Do(cmd.Start), cmd.Wait()); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

var noise = regexp.MustCompile(`(?m)^#.*\n|^:.* (ACCEPT|-) \[.*\n|^COMMIT\n`)

// saved is what both iptables-save of a variant show of the three tables, without what differs from run to run.
func saved(t *testing.T, ns Namespace, variant string) string {
	t.Helper()
	var text strings.Builder
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"mangle", "nat", "filter"} {
			out := run(t, ns, fmt.Sprintf("%s-%s-save", program, variant), "-t", table)
			fmt.Fprintf(&text, "%s-save -t %s\n%s", program, table, noise.ReplaceAllString(out, ""))
		}
	}
	return text.String()
}
