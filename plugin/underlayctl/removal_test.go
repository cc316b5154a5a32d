package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/firewall/lockfile"
	"underlay-cni/integration/lab"
)

// find is the removal about a host end, or an object.
func (r removals) find(t *testing.T, what string) removal {
	t.Helper()
	i := slices.IndexFunc(r.Removals, func(r removal) bool { return r.HostEnd == what || strings.Contains(r.Object, what) })
	if i < 0 {
		t.Fatalf("nothing about %q among %+v", what, r.Removals)
	}
	return r.Removals[i]
}

// forget makes the runtime forget a pod.
func (w *world) forget(t *testing.T, p *lab.Pod) {
	t.Helper()
	w.sh(t, nil, "rm /var/lib/cni/results/cni0-"+p.ContainerID()+"-eth0")
}

// TestGC: what belongs to pods that are gone is listed, goes with --yes, and all else stays.
func TestGC(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, w *world, p *lab.Pod)
		about string // the object, if it is not the host end
		gone  bool
		why   string
	}{
		{"a pod that a runtime knows", func(*testing.T, *world, *lab.Pod) {}, "", false, "a runtime knows it"},
		{"forgotten, and nobody in it", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
		}, "", true, "no runtime knows it, and its pod's network namespace has neither a name nor a process"},
		{"forgotten, with a process", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sleeper(t, p)
		}, "", false, "a process is in its pod"},
		{"forgotten, with a name", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sh(t, p, "mkdir -p /run/netns; touch /run/netns/x; mount --bind "+p.Path()+" /run/netns/x")
		}, "", true, "no runtime knows it, and no process is in its pod"},
		{"no results anywhere", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.sh(t, p, "rm -r /var/lib/cni/results")
		}, "", false, "no runtime keeps results where they were looked for"},
		{"being added", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.running(t, "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME=eth0")
		}, "", false, "a CNI plugin runs for it"},
		{"the interface is gone", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sh(t, p, "ip link del {host}")
		}, "rules of ", true, "the interface is gone"},
		{"an ADD was killed", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sh(t, p, "ip link set {host} alias ''")
		}, "", true, "has neither a name nor a process"},
		{"an ADD has just begun", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sh(t, p, "ip link set {host} alias ''")
			w.running(t, "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME=eth0")
		}, "", false, "a CNI plugin runs for it"},
		{"an ADD in a pod with a process", func(t *testing.T, w *world, p *lab.Pod) {
			t.Helper()
			w.forget(t, p)
			w.sh(t, p, "ip link set {host} alias ''")
			w.sleeper(t, p)
		}, "", false, "a process is in its pod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			other := w.added(t, "other")
			before := dump(t, w.n1.Namespace)
			p := w.added(t, "a")
			test.spoil(t, w, p)
			spoilt := dump(t, w.n1.Namespace)
			about := p.HostEnd()
			if test.about != "" {
				about = test.about
			}

			status := statusFine
			if test.gone {
				status = statusFound
			}
			dry := decode[removals](t, w.ctl(t, "gc", "-o", "json").want(t, status))
			if got := dry.find(t, about); !dry.DryRun || got.Remove != test.gone || !strings.Contains(got.Why, test.why) || test.gone != (len(got.Changes) > 0) || got.Done {
				t.Errorf("got %+v", got)
			}
			if got := dry.find(t, other.HostEnd()); got.Remove || got.ContainerID != other.ContainerID() {
				t.Errorf("got %+v", got)
			}
			same(t, "the node after a dry run", spoilt, dump(t, w.n1.Namespace))

			text := w.ctl(t, "gc", "-v").want(t, status).stdout
			if !strings.Contains(text, test.why) || test.gone != strings.Contains(text, "ip rule del pref 1024 iif "+p.HostEnd()) {
				t.Errorf("got\n%s", text)
			}
			w.ctl(t, "gc", "--yes").want(t, statusFine)
			if !test.gone {
				same(t, "the node after gc --yes", spoilt, dump(t, w.n1.Namespace))
				return
			}
			if again := decode[removals](t, w.ctl(t, "gc", "-o", "json")); slices.ContainsFunc(again.Removals, func(r removal) bool { return r.Remove }) {
				t.Errorf("a second gc: %+v", again.Removals)
			}
			same(t, "the node after gc --yes", before, dump(t, w.n1.Namespace))
			must(t, w.n1.Check(other))
		})
	}
}

// TestLockedPod: while an ADD or a DEL is at work in a pod, nothing in it is changed; what only looks does not wait.
func TestLockedPod(t *testing.T) {
	const says = "another process has had the lock of this network namespace"
	const forget = "rm /var/lib/cni/results/*; mkdir -p /run/netns; touch /run/netns/x; mount --bind {path} /run/netns/x"
	for command, test := range map[string]struct {
		script string // before
		locked int    // the exit status
		waits  bool
	}{
		"diagnose":        {"{pod} ip rule del pref 512", statusFound, false},
		"diagnose --fix":  {"{pod} ip rule del pref 512", statusFound, true},
		"gc":              {forget, statusFound, false},
		"gc --yes":        {forget, statusFailed, true},
		"uninstall":       {":", statusFound, false},
		"uninstall --yes": {":", statusFailed, true},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.added(t, "a")
			w.sh(t, p, strings.ReplaceAll(test.script, "{path}", p.Path()))
			before, args := dump(t, p.Namespace), append(strings.Fields(command), "-o", "json")
			if args[0] == "diagnose" {
				args = append(args, "--netns", p.Path())
			}
			var stat unix.Stat_t
			must(t, unix.Stat(p.Path(), &stat))
			var release func()
			must(t, p.Node.OnThread(func() (err error) { // the node has a /run of its own
				release, err = lockfile.Take(lockfile.Pod, stat.Ino, time.Second)
				return err
			}))
			got := w.ctl(t, args...)
			release()
			if got.status != test.locked || test.waits != strings.Contains(got.stdout, says) {
				t.Errorf("got %+v", got)
			}
			same(t, "the pod", before, dump(t, p.Namespace))
			if test.waits {
				w.ctl(t, args...).want(t, statusFine)
			}
		})
	}
}

// foreign is what others may have that looks like ours.
const foreign = `
	ip rule add pref 512 fwmark 0x4/0x4 lookup main; ip -6 rule add pref 512 fwmark 0x4/0x4 lookup main
	ip rule add pref 1023 fwmark 0/0x1000 goto 1025; ip rule add pref 1024 iif veth00c0ffee lookup 300
	ip rule add pref 1025 nop; ip rule add pref 1024 from 192.0.2.1 lookup 301 protocol kernel
	ip link add veth0badcafe group 77 type veth peer name x; ip link set veth0badcafe alias a/b/c
	ip link add vethdeadbeef type veth peer name y
	nft add table inet veth; nft add table ip veth-host-x; nft 'table inet mine { chain veth-host { type filter hook input priority 0; }; }'
	iptables-legacy -t mangle -N VETH-HOSTS; iptables-legacy -t mangle -A PREROUTING -j VETH-HOSTS
	iptables-nft -t nat -N VETH-HOST-X-PRE; ip6tables-legacy -t filter -P FORWARD DROP`

// saved is what the programs of iptables show, which Dump does not ask.
func (w *world) saved(t *testing.T) string {
	t.Helper()
	text := w.sh(t, nil, "for p in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do echo $p; $p-save; done 2>&1")
	return regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`).ReplaceAllString(text, "")
}

// TestUninstall: everything of ours goes, whatever the backend and whether pods live; the node is as it was before the
// first ADD, what others have is still there, and a second run finds nothing.
func TestUninstall(t *testing.T) {
	for name, o := range map[string]lab.Options{
		"nftables": {}, "IPv4": {Stack: lab.OnlyIPv4}, "IPv6": {Stack: lab.OnlyIPv6},
		"iptables-nft":    {Firewall: "iptables", IPTables: "nft"},
		"iptables-legacy": {Firewall: "iptables", IPTables: "legacy"},
	} {
		for _, state := range []string{"pods live", "pods are gone", "host ends are gone"} {
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, o)
				w.sh(t, nil, foreign)
				// The tables that iptables makes for itself are there before.
				for _, program := range []string{"iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"} {
					for _, rule := range []string{"PREROUTING -t mangle", "FORWARD -t mangle", "POSTROUTING -t nat", "FORWARD -t filter"} {
						w.sh(t, nil, fmt.Sprintf("%s -A %s -p 99; %[1]s -D %[2]s -p 99", program, rule))
					}
				}
				before, tables := dump(t, w.n1.Namespace), w.saved(t)
				a, b := w.added(t, "a"), w.pod(t, "b")
				must(t, w.n1.AddTo(w.n1.SecondConflist(), b))
				for _, p := range []*lab.Pod{a, b} {
					switch state {
					case "pods are gone":
						must(t, p.Close())
						w.await(t, p.HostEnd())
					case "host ends are gone":
						w.sh(t, p, "ip link del {host}")
					}
				}
				added := dump(t, w.n1.Namespace)

				dry := decode[removals](t, w.ctl(t, "uninstall", "-o", "json").want(t, statusFound))
				same(t, "the node after a dry run", added, dump(t, w.n1.Namespace))
				if slices.ContainsFunc(dry.Removals, func(r removal) bool { return !r.Remove || r.Done || len(r.Changes) == 0 }) {
					t.Errorf("got %+v", dry.Removals)
				}
				done := decode[removals](t, w.ctl(t, "uninstall", "--yes", "-o", "json").want(t, statusFine))
				if len(done.Removals) != len(dry.Removals) || slices.ContainsFunc(done.Removals, func(r removal) bool { return !r.Done }) {
					t.Errorf("got %+v", done.Removals)
				}
				same(t, "the node after uninstall", before, dump(t, w.n1.Namespace))
				if got := w.saved(t); got != tables {
					t.Errorf("iptables had\n%sand has\n%s", tables, got)
				}
				for _, args := range [][]string{{"uninstall"}, {"uninstall", "--yes"}} {
					if text := w.ctl(t, args...).want(t, statusFine).stdout; text != "nothing to remove\n" {
						t.Errorf("%v: %s", args, text)
					}
				}
				if state == "pods live" {
					if left := w.sh(t, a, "{pod} ip rule; {pod} ip link; {pod} nft list ruleset; {pod} iptables-legacy-save"); strings.Contains(left, "veth") || strings.Contains(left, "VETH-HOST") || strings.Contains(left, "513:") {
						t.Errorf("the pod has\n%s", left)
					}
				}
			})
		}
	}
}

// uninstallByHand runs the commands that uninstall shows.
func (w *world) uninstallByHand(t *testing.T) {
	t.Helper()
	dry := decode[removals](t, w.ctl(t, "uninstall", "-o", "json").want(t, statusFound))
	for _, r := range dry.Removals {
		for _, change := range r.Changes {
			w.script(t, change.Command)
		}
	}
	if text := w.ctl(t, "uninstall").want(t, statusFine).stdout; text != "nothing to remove\n" {
		t.Error(text)
	}
}

// TestUninstallScript: the commands that -v shows do the same.
func TestUninstallScript(t *testing.T) {
	for name, o := range map[string]lab.Options{"nftables": {}, "iptables": {Firewall: "iptables", IPTables: "nft"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			w.added(t, "a")
			w.uninstallByHand(t)
		})
	}
}

// TestUninstallNetwork: another network stays as it is, and works.
func TestUninstallNetwork(t *testing.T) {
	for name, o := range map[string]lab.Options{"nftables": {}, "iptables": {Firewall: "iptables", IPTables: "nft"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			a, b := w.added(t, "a"), w.pod(t, "b")
			must(t, w.n1.AddTo(w.n1.SecondConflist(), b))
			w.ctl(t, "uninstall", "--yes", "--network", "cni0").want(t, statusFine)
			if _, err := w.n1.Run("ip", "link", "show", a.HostEnd()); err == nil {
				t.Error("the host end is still there")
			}
			_, err := w.n1.CNI("check", w.n1.SecondConflist(), b)
			must(t, err)
			if got := decode[removals](t, w.ctl(t, "uninstall", "-o", "json")); slices.ContainsFunc(got.Removals, func(r removal) bool { return r.Network == "cni0" }) {
				t.Errorf("got %+v", got.Removals)
			}
		})
	}
}
