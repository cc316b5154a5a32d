package firewall

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// programs makes a PATH with these programs of iptables alone: the name, and what it is a link to or, with a blank, the
// script of. The namespace is asked by whole paths.
func programs(t *testing.T, all map[string]string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", startPath)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := filepath.Join(dir, name)
		if script, ok := strings.CutPrefix(all[name], "#!"); ok {
			must(t, os.WriteFile(path, []byte("#!"+script+"\n"), 0o755))
			continue
		}
		target, err := exec.LookPath(all[name])
		must(t, err)
		must(t, os.Symlink(target, path))
	}
	t.Setenv("PATH", dir)
}

// family is both families of programs: VARIANT of iptables by the names that a suffix makes.
func family(variant, suffix string) map[string]string {
	all := map[string]string{}
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, verb := range []string{"", "-restore", "-save"} {
			all[program+suffix+verb] = "xtables-" + variant + "-multi"
		}
	}
	return all
}

// mentions counts the lines about our chains in both variants and families, whatever is in PATH.
func mentions(t *testing.T, ns Namespace, variant string) int {
	t.Helper()
	path := os.Getenv("PATH")
	must(t, os.Setenv("PATH", startPath))
	defer func() { must(t, os.Setenv("PATH", path)) }()
	return strings.Count(saved(t, ns, variant), podChains)
}

var startPath = os.Getenv("PATH")

func iptablesNow() Firewall { return &sweeping{iptBackend{}, true} }
func nftablesNow() Firewall { return &sweeping{nftBackend{}, true} }

// TestSweepOwn: a sweep does not take the backend's own rules for those of the other variant.
func TestSweepOwn(t *testing.T) {
	for _, c := range []struct{ own, other string }{{"nft", "legacy"}, {"legacy", "nft"}} {
		t.Run("iptables is "+c.own, func(t *testing.T) {
			ns := newNamespace(t)
			// Somebody in a container has used the other one, which this machine has not.
			run(t, ns, "iptables-"+c.other, "-t", "mangle", "-N", "SOMEBODY")
			run(t, ns, "ip6tables-"+c.other, "-t", "mangle", "-N", "SOMEBODY")
			programs(t, family(c.own, ""))
			set := iptablesNow().Node(ns, node())
			must(t, set.Apply())
			if mentions(t, ns, c.own) == 0 {
				t.Error("Apply leaves nothing")
			}
			must(t, set.Verify())
		})
	}
}

// TestSweepForeignTable: a table of somebody else's that has the name of the nftables backend's is nothing left behind.
func TestSweepForeignTable(t *testing.T) {
	ns := newNamespace(t)
	run(t, ns, "nft", "table inet router { chain forward { type filter hook forward priority 0; policy drop; }; }")
	set := iptablesNow().Replies(ns, Replies{Owner: "router", By: "eth0", Mark: 0x1000, IPv4: true})
	must(t, set.Apply())
	must(t, set.Verify())
	run(t, ns, "nft", "list chain inet router forward")
}

// TestSweepUnknownVariant: an iptables that does not tell its variant is an error, and nothing is swept or left.
func TestSweepUnknownVariant(t *testing.T) {
	ns := newNamespace(t)
	all := family("nft", "")
	all["iptables"] = "#!/bin/sh\nexit 1"
	programs(t, all)
	if err := iptablesNow().Node(ns, node()).Apply(); err == nil || !strings.Contains(err.Error(), "iptables: exit status 1") {
		t.Errorf("got %v", err)
	}
}

// TestSweepAgain: what could not be swept is swept by the next Apply.
func TestSweepAgain(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", lock)
	ns := newNamespace(t)
	must(t, iptBackend{variantLegacy}.Node(ns, node()).Apply())
	f, err := os.Create(lock)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	set := nftablesNow().Node(ns, node())
	if err := set.Apply(); !errors.Is(err, ErrBusy) {
		t.Errorf("want ErrBusy, got %v", err)
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	must(t, set.Apply())
	if n := mentions(t, ns, "legacy"); n > 0 {
		t.Errorf("iptables-legacy still has %d lines", n)
	}
	must(t, set.Verify())
}

// TestSweepWithoutPrograms: what iptables-nft has left goes though the machine has it no more.
func TestSweepWithoutPrograms(t *testing.T) {
	for name, c := range map[string]struct{ ipt, nft func(Namespace) Change }{
		"node": {
			func(ns Namespace) Change { return iptBackend{variantNFT}.Node(ns, node()) },
			func(ns Namespace) Change { return nftablesNow().Node(ns, node()) },
		},
		"pod": {
			func(ns Namespace) Change { return iptBackend{variantNFT}.Pod(ns, pod()) },
			func(ns Namespace) Change { return nftablesNow().Pod(ns, pod()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNamespace(t)
			run(t, ns, "iptables-nft", "-t", "nat", "-N", "SOMEBODY")
			run(t, ns, "iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-j", "SOMEBODY")
			before := saved(t, ns, "nft")
			must(t, c.ipt(ns).Apply())
			programs(t, nil)
			set := c.nft(ns)
			if err := set.Verify(); err == nil || !strings.Contains(err.Error(), "is still there") {
				t.Errorf("Verify: %v", err)
			}
			must(t, set.Apply())
			must(t, set.Verify())
			t.Setenv("PATH", startPath)
			same(t, "what iptables-nft has", before, saved(t, ns, "nft"))
		})
	}
}

// TestAutoStays: what goes wrong around the rules of nftables is no reason to take iptables.
func TestAutoStays(t *testing.T) {
	ns := newNamespace(t)
	run(t, ns, "iptables-nft", "-P", "FORWARD", "DROP")
	all := family("nft", "-nft")
	all["iptables-nft-restore"] = "#!/nowhere"
	programs(t, all)
	fw, err := Open(Auto)
	must(t, err)
	set := fw.Node(ns, node())
	if err := set.Apply(); err == nil || !strings.Contains(err.Error(), "policy of FORWARD is DROP") {
		t.Errorf("got %v", err)
	}
	programs(t, family("nft", "-nft"))
	must(t, set.Apply())
	if set.Backend() != NFTables {
		t.Errorf("auto has chosen %s", set.Backend())
	}
	must(t, set.Verify())
}

// TestForwardClosed: a policy of DROP that nobody here can do anything about is an error that says what to do.
func TestForwardClosed(t *testing.T) {
	ns := newNamespace(t)
	run(t, ns, "iptables-nft", "-P", "FORWARD", "DROP")
	programs(t, nil)
	set := nftablesNow().Node(ns, node())
	for verb, err := range map[string]error{"Apply": set.Apply(), "Verify": set.Verify()} {
		if err == nil || !strings.Contains(err.Error(), "policy of FORWARD is DROP in iptables-nft, which is not here") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// TestForwardJump: the jump to our chain is gone, the chain is not.
func TestForwardJump(t *testing.T) {
	ns := newNamespace(t)
	run(t, ns, "iptables-nft", "-P", "FORWARD", "DROP")
	set := nftablesNow().Node(ns, node())
	must(t, set.Apply())
	run(t, ns, "iptables-nft", "-F", "FORWARD")
	if set.Verify() == nil {
		t.Error("Verify sees nothing wrong")
	}
	must(t, nftablesNow().Node(ns, node()).Apply())
	must(t, set.Verify())
}

// TestOneFamilyFails: a node with IPv6 and without ip6tables gets no half of the rules.
func TestOneFamilyFails(t *testing.T) {
	ns := newNamespace(t)
	all := family("nft", "")
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(name, "ip6") })
	programs(t, all)
	set := iptablesNow().Node(ns, node())
	if err := set.Apply(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("want ErrUnavailable, got %v", err)
	}
	if n := mentions(t, ns, "nft"); n > 0 {
		t.Errorf("%d lines are left", n)
	}
	onlyIPv4 := node()
	onlyIPv4.Addr6 = netip.Addr{}
	must(t, iptBackend{}.Probe(ns, onlyIPv4))
	must(t, iptBackend{}.Node(ns, onlyIPv4).Apply())
}

// TestForeignRule: a rule that iptables cannot read is not taken for a chain that is missing.
func TestForeignRule(t *testing.T) {
	ns := newNamespace(t)
	set := iptBackend{variantNFT}.Node(ns, node())
	must(t, set.Apply())
	run(t, ns, "nft", "add rule ip nat POSTROUTING numgen inc mod 2 0 counter")
	if err := set.Verify(); err == nil || !strings.Contains(err.Error(), "incompatible") {
		t.Errorf("got %v", err)
	}
}

// TestProbeRefuses: what Apply would refuse, Probe refuses.
func TestProbeRefuses(t *testing.T) {
	n := node()
	n.ServiceCIDRs = nil
	if err := iptablesNow().Probe(newNamespace(t), n); !errors.Is(err, ErrNoServiceCIDR) {
		t.Errorf("got %v", err)
	}
}
