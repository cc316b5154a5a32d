package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// vethNetwork is a network of veth on the node's wire, with addresses of its own.
func (w *world) vethNetwork(name string) *lab.Conflist {
	c := w.n1.SecondConflist()
	firewall := c.Plugin("veth-host")["firewall"]
	c.Name = name
	hijack := []any{"172.20.252.0/22", "fd00:172:20::/112"}
	c.Plugins = []map[string]any{c.Plugins[0], {
		"type": "veth", "service_hijack_subnet": hijack, "overlay_hijack_subnet": []any{}, "firewall": firewall,
		"log_options": map[string]any{"log_file": "/dev/null"},
	}}
	return c
}

// laterNetwork is one for a second interface of the same pod.
func (w *world) laterNetwork() *lab.Conflist {
	c := w.vethNetwork("vlater")
	var ranges []any
	for _, subnet := range map[bool][]string{true: {"10.30.0.0/24"}, false: {"10.30.0.0/24", "fd30::/64"}}[len(w.Options.Stack) == 1] {
		ranges = append(ranges, []any{map[string]any{"subnet": subnet}})
	}
	c.Plugins[0]["ipam"] = map[string]any{"type": "host-local", "ranges": ranges}
	return c
}

// bothWorld is a node with a pod of veth-host, and one of veth that has two interfaces.
func bothWorld(t *testing.T, o lab.Options) (w *world, ours, theirs *lab.Pod) {
	t.Helper()
	w = newWorld(t, o)
	return w, w.added(t, "ours"), w.addedTwice(t, "theirs")
}

// addedTwice makes a pod with two attachments of veth.
func (w *world) addedTwice(t *testing.T, name string) *lab.Pod {
	t.Helper()
	p := w.pod(t, name)
	must(t, w.n1.AddTo(w.vethNetwork("vnet"), p))
	p.IfName = "net1"
	must(t, w.n1.AddTo(w.laterNetwork(), p))
	return p
}

// noAltNames takes the further names off a host end, as if an ADD had been killed before it gave it any.
const noAltNames = `for a in $(ip -o link show {host} | grep -o 'altname [^ \]*' | cut -d' ' -f2); do ip link property del dev {host} altname $a; done`

// backendShapes are the ways in which rules are kept.
var backendShapes = map[string]lab.Options{
	"nftables": {}, "iptables-nft": {Firewall: "iptables", IPTables: "nft"}, "iptables-legacy": {Firewall: "iptables", IPTables: "legacy"},
}

// manyShapes are nodes that a plan differs for.
func manyShapes() map[string]lab.Options {
	all := map[string]lab.Options{"IPv4": {Stack: lab.OnlyIPv4}, "IPv6": {Stack: lab.OnlyIPv6}}
	maps.Copy(all, backendShapes)
	return all
}

// TestBothPlugins: on a node with pods of both plugins each is told from the other, whatever of an ADD was killed.
func TestBothPlugins(t *testing.T) {
	for name, script := range map[string]string{
		"whole":            ":",
		"without an alias": "ip link set {host} alias ''",
		"without altnames": noAltNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ours, theirs := bothWorld(t, lab.Options{})
			if name == "whole" {
				d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
				got := map[string]string{}
				for _, a := range d.Attachments {
					got[a.Network+" "+a.IfName] = a.Plugin + " " + a.HostEnd
				}
				if len(d.Attachments) != 3 || got["cni0 eth0"] != "veth-host "+ours.HostEnd() || got["vnet eth0"] != "veth "+theirs.HostEnd() || got["vlater net1"] != "veth "+theirs.HostEnd() {
					t.Errorf("got %v", got)
				}
			}
			w.sh(t, theirs, script)
			w.sh(t, nil, "rm /var/lib/cni/results/*")
			before := dump(t, w.n1.Namespace)
			w.ctl(t, "gc", "--yes", "--network", "cni0").want(t, statusFine)
			if _, err := w.n1.Run("ip", "link", "show", ours.HostEnd()); err == nil {
				t.Error("veth-host's host end is still there")
			}
			if lost := dump(t, w.n1.Namespace); strings.Contains(before.Since(lost).String(), theirs.HostEnd()) {
				t.Errorf("veth has lost\n%s", before.Since(lost))
			}
			w.added(t, "ours2")
			before = dump(t, w.n1.Namespace)
			done := decode[removals](t, w.ctl(t, "gc", "--yes", "-o", "json").want(t, statusFine))
			if _, err := w.n1.Run("ip", "link", "show", theirs.HostEnd()); err == nil {
				t.Errorf("veth's host end is still there: %+v", done)
			}
			if lost := before.Since(dump(t, w.n1.Namespace)); strings.Contains(lost.String(), "veth-host") {
				t.Errorf("veth-host has lost\n%s", lost)
			}
			w.ctl(t, "diagnose").want(t, statusFine)
		})
	}
}

// TestVethUninstall: everything of both plugins goes, or of one network only, whatever the backend.
func TestVethUninstall(t *testing.T) {
	for name, o := range backendShapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ours, theirs := bothWorld(t, o)
			w.sh(t, nil, "nft add table inet veth") // of somebody who likes the name
			w.ctl(t, "uninstall", "--yes", "--network", "vlater").want(t, statusFine)
			must(t, w.n1.Check(ours))
			theirs.IfName = "eth0"
			_, err := w.n1.CNI("check", w.vethNetwork("vnet"), theirs)
			must(t, err)
			w.ctl(t, "uninstall", "--yes", "--network", "cni0").want(t, statusFine)
			_, err = w.n1.CNI("check", w.vethNetwork("vnet"), theirs)
			must(t, err)
			must(t, w.n1.AddTo(w.n1.Conflist(), w.pod(t, "again")))
			w.addedTwice(t, "theirs again")

			dry := decode[removals](t, w.ctl(t, "uninstall", "-o", "json").want(t, statusFound))
			done := decode[removals](t, w.ctl(t, "uninstall", "--yes", "-o", "json").want(t, statusFine))
			if len(done.Removals) != len(dry.Removals) || slices.ContainsFunc(done.Removals, func(r removal) bool { return !r.Done }) {
				t.Errorf("got %+v", done.Removals)
			}
			if text := w.ctl(t, "uninstall").want(t, statusFine).stdout; text != "nothing to remove\n" {
				t.Error(text)
			}
			left := w.sh(t, theirs, "ip link; ip rule; nft list tables; {pod} ip rule; {pod} ip link; {pod} nft list ruleset; {pod} iptables-legacy-save") + w.saved(t)
			if strings.Contains(left, "VETH") || strings.Contains(left, "veth.") || strings.Contains(left, "veth0") || strings.Contains(left, "512:") || strings.Count(left, "table inet veth") != 1 {
				t.Errorf("left\n%s", left)
			}
		})
	}
}

// TestVethUninstallScript: the commands that are shown do the same, in their order.
func TestVethUninstallScript(t *testing.T) {
	w, _, _ := bothWorld(t, lab.Options{})
	w.uninstallByHand(t)
}

// attachTo runs the ADD of a network's second plugin alone.
func (w *world) attachTo(t *testing.T, c *lab.Conflist, p *lab.Pod) {
	t.Helper()
	if p.IfName != "net0" {
		for _, ip := range p.Result.IPs {
			ip.Gateway = nil // plan asks the kernel, which does not know one by which there is no default route
		}
	}
	typ, _ := c.Plugins[1]["type"].(string)
	request := c.Request(typ)
	request["prevResult"] = p.Result
	_, err := w.n1.Plugin(typ, request, "CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME="+p.IfName, "CNI_NETNS="+p.Path())
	must(t, err)
}

// planned makes an interface of a pod and attaches it by the script that plan prints: plan itself changes nothing, and ADD has
// nothing to do any more.
func (w *world) planned(t *testing.T, c *lab.Conflist, p *lab.Pod) {
	t.Helper()
	alone := *c
	alone.Plugins = c.Plugins[:1]
	must(t, w.n1.AddTo(&alone, p))
	must(t, w.n1.Write(c))
	node, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
	plan := []string{"--conf", confDir + "/" + c.Name + ".conflist", "--netns", p.Path(), "--container", p.ContainerID(), "--ifname", p.IfName}
	script := w.ctl(t, append([]string{"plan"}, plan...)...).want(t, statusFine).stdout
	same(t, "the node after plan", node, dump(t, w.n1.Namespace))
	same(t, "the pod after plan", pod, dump(t, p.Namespace))
	w.script(t, script)
	d := decode[diagnosis](t, w.ctl(t, append([]string{"diagnose", "-o", "json"}, plan...)...))
	for _, f := range d.all() { // rules of nftables that are typed lack the digest
		if f.Verdict == wrong && (!strings.HasSuffix(f.Object, " firewall") || w.Options.Firewall == "iptables") {
			t.Errorf("after the script of %s: %+v", p.IfName, f)
		}
	}
	const names = "{ {pod} ip -d link; ip -d link; } | grep altname || true"
	node, pod, before := dump(t, w.n1.Namespace), dump(t, p.Namespace), w.sh(t, p, names)
	w.attachTo(t, c, p)
	same(t, "the node after ADD", node, dump(t, w.n1.Namespace))
	same(t, "the pod after ADD", pod, dump(t, p.Namespace))
	if got := w.sh(t, p, names); got != before {
		t.Errorf("the script has made\n%sADD makes\n%s", before, got)
	}
	w.ctl(t, append([]string{"diagnose"}, plan...)...).want(t, statusFine)
}

// TestVethPlan: a shell that runs the plans of both interfaces leaves the node and the pod as ADD does, and plan itself changes
// nothing.
func TestVethPlan(t *testing.T) {
	for name, o := range manyShapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			p := w.pod(t, "a")
			for i, c := range []*lab.Conflist{w.vethNetwork("vnet"), w.laterNetwork()} {
				p.IfName = fmt.Sprintf("net%d", i)
				w.planned(t, c, p)
			}
		})
	}
}

// TestVethDiagnose: what is spoilt is found, in the attachment that it belongs to, and --fix repairs it: the node and the pod are
// as before.
func TestVethDiagnose(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"host end's route", "ip route del 10.30.0.2 dev {host}", "net1|route 10.30.0.2/32"},
		{"host end's neighbour", "ip neigh replace 10.30.0.2 lladdr 02:00:00:00:00:01 dev {host}", "net1|node: 10.30.0.2 on "},
		{"an altname", "ip link property del dev {host} altname $(ip -o link show {host} | grep -o 'veth[0-9a-f]*[.][0-9a-f]*[.]net1')", "net1|altname veth"},
		{"the host end is down", "ip link set {host} down", "eth0|link veth"},
		{"the node's neighbour in the pod", "{pod} ip neigh del 10.10.20.152 dev veth0", "eth0|neighbour 10.10.20.152"},
		{"a hijacked route", "{pod} ip route del 172.20.252.0/22", "eth0|pod to what is behind the node"},
		{"the rule for answers", "{pod} ip rule del pref 512", "eth0|answers to what came in by the node"},
		{"a later interface's rule", "{pod} ip rule del pref 1024", "net1|rule 1024"},
		{"the pod's table", "{pod} nft delete table inet veth", "eth0|firewall"},
		{"the node's table", "nft delete table inet veth.vnet", "eth0|firewall"},
		{"the pair", "ip link del {host}", "eth0|veth pair"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.addedTwice(t, "a")
			w.ctl(t, "diagnose").want(t, statusFine)
			node, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
			w.sh(t, p, test.script)
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			ifName, object, _ := strings.Cut(test.want, "|")
			if !slices.ContainsFunc(d.Attachments, func(a diagnosed) bool {
				return a.IfName == ifName && slices.ContainsFunc(slices.Concat(a.Objects, a.Paths), func(f finding) bool {
					return f.Verdict == wrong && strings.Contains(f.Object, object)
				})
			}) {
				t.Errorf("nothing about %s among\n%s", test.want, d.show())
			}
			w.ctl(t, "diagnose", "--fix")
			w.ctl(t, "diagnose").want(t, statusFine)
			if test.name == "the pair" { // another index is another place in every list
				return
			}
			same(t, "the node", node, dump(t, w.n1.Namespace))
			same(t, "the pod", pod, dump(t, p.Namespace))
		})
	}
}

// TestVethGC: of a pod's attachments those go that nobody knows, the pair with the last of them, also where nothing but the further
// names of the host end tells of them.
func TestVethGC(t *testing.T) {
	for name, test := range map[string]struct {
		script     string
		eth0, net1 bool // what is there afterwards
	}{
		"both are known":           {":", true, true},
		"the later is not":         {"rm /var/lib/cni/results/vlater-*", true, false},
		"the first is not":         {"rm /var/lib/cni/results/vnet-*", false, true},
		"neither":                  {"rm /var/lib/cni/results/*", false, false},
		"nor their networks":       {"rm /var/lib/cni/results/* " + confDir + "/*", false, false},
		"nor does the alias tell":  {"rm /var/lib/cni/results/* " + confDir + "/*; ip link set {host} alias ''", false, false},
		"no results are anywhere":  {"rm -r /var/lib/cni/results", true, true},
		"no further names, either": {"rm /var/lib/cni/results/*; " + noAltNames, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.addedTwice(t, "a")
			w.sh(t, p, test.script)
			before := dump(t, w.n1.Namespace)
			w.ctl(t, "gc")
			same(t, "the node after a dry run", before, dump(t, w.n1.Namespace))
			w.ctl(t, "gc", "--yes").want(t, statusFine)
			links := w.sh(t, nil, "ip link")
			if strings.Contains(links, ".eth0") != test.eth0 || strings.Contains(links, ".net1") != test.net1 || strings.Contains(links, p.HostEnd()) != (test.eth0 || test.net1) {
				t.Error(links)
			}
			again := decode[removals](t, w.ctl(t, "gc", "-o", "json").want(t, statusFine))
			if slices.ContainsFunc(again.Removals, func(r removal) bool { return r.Remove }) {
				t.Errorf("a second gc: %+v", again.Removals)
			}
		})
	}
}

// TestVethBeingAdded: while a plugin runs for the container, nothing of its pair goes.
func TestVethBeingAdded(t *testing.T) {
	for name, script := range map[string]string{"named": ":", "killed": "ip link set {host} alias ''; " + noAltNames} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.addedTwice(t, "a")
			w.sh(t, p, "rm /var/lib/cni/results/*; "+script)
			w.running(t, "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME=net1")
			before := dump(t, w.n1.Namespace)
			got := decode[removals](t, w.ctl(t, "gc", "--yes", "-o", "json").want(t, statusFine)).find(t, p.HostEnd())
			if got.Remove || got.Why != "a CNI plugin runs for it" {
				t.Errorf("got %+v", got)
			}
			same(t, "the node", before, dump(t, w.n1.Namespace))
		})
	}
}
