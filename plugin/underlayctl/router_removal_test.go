package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"underlay-cni/integration/lab"
)

// noRouterNames takes the names that stand for attachments off the overlay's interface, and leaves those of their routes.
const noRouterNames = "for a in $(ip -d link show {peer} | grep -o 'router[.].*net[12]'); do ip link property del dev {peer} altname $a; done"

// runs is why gc keeps an attachment that is perhaps being added.
const runs = "a CNI plugin runs for it"

// gc runs it until all removals are such. Of a network that nobody knows, an attachment may be that of any plugin that runs without
// CNI_NETNS, and those of other packages' tests do.
func (w *world) gc(t *testing.T, such func(removal) bool) removals {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got := decode[removals](t, w.ctl(t, "gc", "--yes", "-o", "json").want(t, statusFine))
		if !slices.ContainsFunc(got.Removals, func(r removal) bool { return !such(r) }) || time.Now().After(deadline) {
			return got
		}
	}
}

// TestRouterGC: of a pod's attachments those go that nobody knows, also where nothing but further names on the node tell of them.
func TestRouterGC(t *testing.T) {
	for name, test := range map[string]struct {
		script     string
		net1, net2 bool // what is there afterwards
		routes     bool // and the routes of both
	}{
		"both are known":          {script: ":", net1: true, net2: true},
		"the later is not":        {script: "rm /var/lib/cni/results/rnet2-*", net1: true},
		"the first is not":        {script: "rm /var/lib/cni/results/rnet1-*", net2: true},
		"neither":                 {script: "rm /var/lib/cni/results/*"},
		"nor their networks":      {script: "rm /var/lib/cni/results/* " + confDir + "/*"},
		"no results are anywhere": {script: "rm -r /var/lib/cni/results", net1: true, net2: true},
		"only names of routes":    {script: "rm -r /var/lib/cni/results; " + noRouterNames},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.routed(t, "a", "net1", "net2")
			other := w.routed(t, "other", "net1")
			w.rsh(t, p, "mkdir /run/keep; mv /var/lib/cni/results/*"+other.ContainerID()+"* /run/keep; "+test.script+"; [ ! -e /var/lib/cni/results ] || mv /run/keep/* /var/lib/cni/results")
			before, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
			w.ctl(t, "gc")
			same(t, "the node after a dry run", before, dump(t, w.n1.Namespace))
			same(t, "the pod after a dry run", pod, dump(t, p.Namespace))
			w.gc(t, func(r removal) bool { return r.Why != runs })
			names, routes := w.altNames(t, p), w.rsh(t, p, "ip route show table 500; ip -6 route show table 500; ip neigh show dev {peer} nud permanent")
			for ifName, there := range map[string]bool{"net1": test.net1, "net2": test.net2} {
				addrs := map[string][]string{"net1": {"10.30.0.2", "fd30::2"}, "net2": {"10.40.0.2", "fd40::2"}}[ifName]
				left := strings.Count(routes, addrs[0]+" ") + strings.Count(routes, addrs[1]+" ")
				if strings.Contains(names, "."+ifName) != there || (left == 4) != there || (left == 0) == there {
					t.Errorf("%s: want %v\n%s%s", ifName, there, names, routes)
				}
			}
			if test.net1 != strings.Contains(names, "500.10.30.0.2") || test.net2 != strings.Contains(names, "500.fd40--2") {
				t.Error(names)
			}
			w.ctl(t, "diagnose", "--container", other.ContainerID()) // it may be unknown
			if out := w.rsh(t, other, "ip route get 10.30.0.3; ip -6 route get fd30::3"); strings.Count(out, other.peer) != 2 {
				t.Error(out)
			}
			again := decode[removals](t, w.ctl(t, "gc", "-o", "json").want(t, statusFine))
			if slices.ContainsFunc(again.Removals, func(r removal) bool { return r.Remove }) {
				t.Errorf("a second gc: %+v", again.Removals)
			}
		})
	}
}

// TestRouterBeingAdded: while a plugin runs for the container, nothing of it goes. Of a network that nobody knows, an
// attachment does not tell its container: then the plugin's CNI_NETNS does, and where there is none the attachment stays.
func TestRouterBeingAdded(t *testing.T) {
	type pods struct{ a, other, stranger *lab.Pod }
	for name, test := range map[string]struct {
		known bool
		of    func(pods) (containerID, netns string)
		stays bool
	}{
		"known":              {true, func(p pods) (string, string) { return p.a.ContainerID(), p.a.Path() }, true},
		"unknown":            {false, func(p pods) (string, string) { return p.a.ContainerID(), p.a.Path() }, true},
		"unknown, no netns":  {false, func(pods) (string, string) { return "x", "" }, true},
		"another pod":        {false, func(p pods) (string, string) { return "x", p.other.Path() }, false},
		"another node's pod": {false, func(p pods) (string, string) { return "x", p.stranger.Path() }, false},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they see each other's processes
			w := newWorld(t, lab.Options{})
			p, other := w.routed(t, "a", "net1"), w.routed(t, "other", "net1")
			stranger, err := w.N2.NewPod("stranger")
			must(t, err)
			w.rsh(t, p, "rm /var/lib/cni/results/*")
			if !test.known {
				w.rsh(t, p, "rm "+confDir+"/*")
			}
			containerID, netns := test.of(pods{p.Pod, other.Pod, stranger})
			w.running(t, "CNI_CONTAINERID="+containerID, "CNI_IFNAME=net1", "CNI_NETNS="+netns)
			names := ""
			if test.stays {
				names = w.altNames(t, p)
			}
			got := w.gc(t, func(r removal) bool { return test.stays || r.HostEnd != p.peer || r.Why != runs }).find(t, p.peer)
			if got.Remove == test.stays || test.stays != (got.Why == runs) {
				t.Errorf("got %+v", got)
			}
			if left := w.altNames(t, p); left != names {
				t.Errorf("want %s, left: %s", names, left)
			}
		})
	}
}

// TestRouterUninstall: everything of router goes, in any state and with each backend; the node, and a pod that lives, are as
// before the first ADD but for sysctls, a second run finds nothing, and what others have stays.
func TestRouterUninstall(t *testing.T) {
	for name, o := range manyShapes() {
		for _, state := range []string{"pods live", "unknown", "eth0 is gone", "no host_route", "no host_route, unknown"} {
			if _, backend := backendShapes[name]; !backend && state != "pods live" {
				continue
			}
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, o)
				w.sh(t, nil, "nft add table inet router; nft add table inet router.x; iptables-legacy -N ROUTER-1-PRE; ip rule add pref 1000 lookup 500; ip rule add pref 1000 from 192.0.2.1 lookup 500 protocol kernel")
				// The tables that iptables makes for itself are there before.
				for _, program := range []string{"iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"} {
					w.sh(t, nil, program+" -t mangle -A PREROUTING -p 99; "+program+" -t mangle -D PREROUTING -p 99")
				}
				p := w.overlaid(t, "a")
				before, pod, tables := dump(t, w.n1.Namespace), dump(t, p.Namespace), w.saved(t)
				for _, ifName := range []string{"net1", "net2"} {
					p.IfName = ifName
					c := w.routerNetwork(ifName)
					if strings.HasPrefix(state, "no host_route") {
						c.Plugins[1]["host_route"] = false
					}
					must(t, w.n1.AddTo(c, p.Pod))
				}
				switch state {
				case "unknown", "no host_route, unknown":
					w.sh(t, nil, "rm /var/lib/cni/results/* "+confDir+"/*")
					w.sleeper(t, p.Pod)
				case "eth0 is gone":
					w.rsh(t, p, "ip link del {peer}")
				}
				added := dump(t, w.n1.Namespace)
				dry := decode[removals](t, w.ctl(t, "uninstall", "-o", "json").want(t, statusFound))
				same(t, "the node after a dry run", added, dump(t, w.n1.Namespace))
				if slices.ContainsFunc(dry.Removals, func(r removal) bool { return r.Done || r.Remove != (len(r.Changes) > 0) }) {
					t.Errorf("got %+v", dry.Removals)
				}
				done := decode[removals](t, w.ctl(t, "uninstall", "--yes", "-o", "json").want(t, statusFine))
				if len(done.Removals) != len(dry.Removals) || slices.ContainsFunc(done.Removals, func(r removal) bool { return !r.Done }) {
					t.Errorf("got %+v", done.Removals)
				}
				if text := w.ctl(t, "uninstall").want(t, statusFine).stdout; text != "nothing to remove\n" {
					t.Error(text)
				}
				if got := w.saved(t); got != tables {
					t.Errorf("iptables had\n%sand has\n%s", tables, got)
				}
				after := dump(t, w.n1.Namespace)
				if more := after.Since(before); len(lasting(more)) > 0 {
					t.Errorf("the node has in addition\n%s", lasting(more))
				}
				if lost := before.Since(after); state != "eth0 is gone" && len(lasting(lost)) > 0 {
					t.Errorf("the node has lost\n%s", lasting(lost))
				}
				left := w.rsh(t, p, "{pod} ip -d link; {pod} ip rule; {pod} ip -6 rule; {pod} nft list ruleset; {pod} iptables-legacy-save; {pod} ip route show table all; {pod} ip -6 route show table all")
				for _, word := range []string{"router", "ROUTER", "512:", "1024:", "proto static", " table 20", " table 512"} {
					if strings.Contains(left, word) {
						t.Errorf("%s is left", word)
					}
				}
				if state == "eth0 is gone" {
					return
				}
				// Of net1 and net2, their own interface and its connected routes are left; and empty tables of iptables.
				for _, line := range lasting(dump(t, p.Namespace).Since(pod)) {
					if !strings.Contains(line, "net1") && !strings.Contains(line, "net2") && !strings.Contains(line, "mangle: -P ") {
						t.Errorf("the pod has in addition %s", line)
					}
				}
				if lost := lasting(pod.Since(dump(t, p.Namespace))); len(lost) > 0 {
					t.Errorf("the pod has lost\n%s", lost)
				}
			})
		}
	}
}

// lasting leaves out sysctls, which stay.
func lasting(d lab.Dump) (rest lab.Dump) {
	for _, line := range d {
		if !strings.HasPrefix(line, "sysctl ") {
			rest = append(rest, line)
		}
	}
	return rest
}

// TestRouterUninstallScript: the commands that are shown do the same, in their order.
func TestRouterUninstallScript(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net2", "net1")
	w.uninstallByHand(t)
	if out := w.rsh(t, p, "{pod} ip route show default; {pod} ip -6 route show default; {pod} ip rule"); strings.Count(out, "dev eth0") != 2 || strings.Contains(out, "1024:") {
		t.Error(out)
	}
}

// TestRouterUninstallNetwork: with --network, the other interface keeps what it needs.
func TestRouterUninstallNetwork(t *testing.T) {
	for _, o := range backendShapes {
		for gone, stays := range map[string]string{"net1": "net2", "net2": "net1"} {
			w := newWorld(t, o)
			p := w.routed(t, "a", "net1", "net2")
			w.ctl(t, "uninstall", "--yes", "--network", "r"+gone).want(t, statusFine)
			p.IfName = stays
			_, err := w.n1.CNI("check", w.routerNetwork(stays), p.Pod)
			must(t, err)
			if names := w.altNames(t, p); strings.Contains(names, "."+gone) || !strings.Contains(names, "."+stays) {
				t.Error(names)
			}
			if out := w.sh(t, nil, "ip rule; ip -6 rule"); strings.Count(out, "1000:") != 2 {
				t.Error(out)
			}
		}
	}
}

// TestRouterUninstallStrangers: routes of others stay, and are listed.
func TestRouterUninstallStrangers(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net1")
	w.rsh(t, p, "ip route add 10.30.0.99 dev {peer} table 500; ip -6 route add fd77::/64 via fd20::1 table 500")
	done := decode[removals](t, w.ctl(t, "uninstall", "--yes", "-o", "json").want(t, statusFine))
	for _, route := range []string{"route 10.30.0.99 dev " + p.peer + " table 500", "route fd77::/64 via fd20::1 dev enp1s0 metric 1024 table 500"} {
		if got := done.find(t, route); got.Remove || !strings.Contains(got.Why, "no altname tells that it is ours") {
			t.Errorf("got %+v", got)
		}
	}
	if out := w.rsh(t, p, "ip rule; ip route show table 500; ip -6 route show table 500"); strings.Contains(out, "1000:") || strings.Count(out, "\n") != 5 {
		t.Error(out)
	}
}
