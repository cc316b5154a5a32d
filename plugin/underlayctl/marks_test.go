package main

import (
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// TestVethMarks: who else uses the bits of veth's marks is found, where veth has them: in pods, and on the node with iptables.
func TestVethMarks(t *testing.T) {
	const nodeRule = "iptables-legacy -t mangle -A PREROUTING -m connmark --mark 0x40/0x40 -j ACCEPT"
	for _, test := range []struct {
		name, script string
		backend      string
		want         string // "": nothing is wrong
	}{
		{"in the pod", "{pod} iptables-nft -t mangle -A OUTPUT -j MARK --set-xmark 0x1000/0x1000", "nftables", "eth0|pod: bits of the mark|writes 0x1000"},
		{"a rule of the pod", "{pod} ip -6 rule add pref 300 fwmark 0x3000/0x3000 lookup 99", "nftables", "eth0|pod: bits of the mark|a rule of others: 300"},
		{"on the node, iptables", nodeRule, "iptables-legacy", "node|bits of the mark|reads 0x40"},
		{"a rule of the node, iptables", "ip rule add pref 300 fwmark 0x40/0x40 lookup 99", "iptables-nft", "node|bits of the mark|a rule of others: 300"},
		{"on the node, nftables", nodeRule, "nftables", ""},
		{"other bits", "{pod} iptables-nft -t mangle -A OUTPUT -j MARK --set-xmark 0x4000/0x4000", "nftables", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, backendShapes[test.backend])
			p := w.pod(t, "a")
			must(t, w.n1.AddTo(w.vethNetwork("vnet"), p))
			w.ctl(t, "diagnose").want(t, statusFine)
			w.sh(t, p, test.script)
			if test.want == "" {
				w.ctl(t, "diagnose").want(t, statusFine)
				return
			}
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			d.find(t, risk, test.want)
			if text := w.ctl(t, "diagnose").want(t, statusFound).stdout; !strings.Contains(text, "ours are fixed") {
				t.Error(text)
			}
		})
	}
}

// TestSideBySide: pods of all three plugins on one node, each of which diagnose finds as it should be.
func TestSideBySide(t *testing.T) {
	for name, o := range backendShapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ours, theirs := bothWorld(t, o)
			p := w.routed(t, "routed", "net2") // veth's pod has the addresses of net1
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFine))
			if len(d.Attachments) != 4 {
				t.Errorf("%d attachments", len(d.Attachments))
			}
			w.ctl(t, "uninstall", "--yes", "--network", "rnet2").want(t, statusFine)
			must(t, w.n1.Check(ours))
			theirs.IfName = "net1"
			_, err := w.n1.CNI("check", w.laterNetwork(), theirs)
			must(t, err)
			if names := w.altNames(t, p); names != "" {
				t.Error(names)
			}
			if out := w.sh(t, nil, "ip rule"); !strings.Contains(out, "1000:") {
				t.Error("the rule is shared, and goes with the last network: ", out)
			}
			w.ctl(t, "uninstall", "--yes").want(t, statusFine)
			if out := w.sh(t, nil, "ip rule; ip -6 rule"); strings.Contains(out, "1000:") {
				t.Error(out)
			}
		})
	}
}

// TestRouterByVethHost: the pod's overlay may be veth-host's own pair, whose host end then has attachments of both.
func TestRouterByVethHost(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.added(t, "a")
	host := p.HostEnd()
	c := w.routerNetwork("net1")
	c.Plugins[1]["overlay_interface"] = "veth0"
	p.IfName = "net1"
	must(t, w.n1.AddTo(c, p))
	d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json"))
	got := map[string]string{}
	for _, a := range d.Attachments {
		got[a.Network] = a.Plugin + " " + a.HostEnd
	}
	if got["cni0"] != "veth-host "+host || got["rnet1"] != "router "+host {
		t.Errorf("got %v", got)
	}
}

// TestWithoutNFTables: where auto takes iptables, plan prints that, diagnose expects that, and looks for its mark.
func TestWithoutNFTables(t *testing.T) {
	w := newWorld(t, lab.Options{NoNFTables: true, IPTables: "legacy"})
	a, b := w.wired(t, "a"), w.pod(t, "b")
	script := w.ctl(t, "plan", "--conf", conf, "--netns", a.Path(), "--container", a.ContainerID()).want(t, statusFine).stdout
	if strings.Contains(script, "nft ") || strings.Count(script, "iptables") < 2 {
		t.Errorf("plan:\n%s", script)
	}
	must(t, w.n1.AddTo(w.vethNetwork("vnet"), b))
	w.sh(t, nil, "iptables-legacy -t mangle -A PREROUTING -m connmark --mark 0x40/0x40 -j ACCEPT")
	found := false
	for _, f := range decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound)).all() {
		if strings.HasSuffix(f.Object, " firewall") && (f.Verdict != fine || strings.Contains(f.Expected, "nft ")) {
			t.Errorf("got %+v", f)
		}
		found = found || strings.Contains(f.Found, "reads 0x40")
	}
	if !found {
		t.Error("who reads 0x40 is not found")
	}
}
