package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// all are the findings of a diagnosis.
func (d diagnosis) all() []finding {
	all := slices.Clone(d.Node)
	for _, a := range d.Attachments {
		all = append(append(all, a.Objects...), a.Paths...)
	}
	return all
}

// has tells whether a finding of that verdict has all of the words.
func (d diagnosis) has(v verdict, words string) bool {
	return slices.ContainsFunc(d.all(), func(f finding) bool {
		text := fmt.Sprint(f.Object, " ", f.Expected, " ", f.Found, " ", f.Repair)
		return f.Verdict == v && !slices.ContainsFunc(strings.Split(words, "|"), func(word string) bool { return !strings.Contains(text, word) })
	})
}

func (d diagnosis) show() string {
	var s strings.Builder
	for _, f := range d.all() {
		if f.Verdict != fine {
			fmt.Fprintf(&s, "%s: %s: expected %s, found %s; %s\n", f.Verdict, f.Object, f.Expected, f.Found, f.Repair)
		}
	}
	for _, a := range d.Attachments {
		if a.Error != "" {
			fmt.Fprintln(&s, a.HostEnd, a.Error)
		}
	}
	return s.String()
}

// TestDiagnoseHealthy: nothing is wrong after ADD, in all families, with each backend, strict or not, and however the pod
// is named.
func TestDiagnoseHealthy(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			p := w.added(t, "a")
			w.added(t, "b")
			before := dump(t, w.n1.Namespace)
			for _, choice := range [][]string{{"--all"}, nil, {"--netns", p.Path()}, {"--container", p.ContainerID()}} {
				a := w.ctl(t, append([]string{"diagnose", "-o", "json"}, choice...)...)
				d := decode[diagnosis](t, a)
				if a.status != statusFine || a.stderr != "" {
					t.Fatalf("%v: status %d: %s%s", choice, a.status, a.stderr, d.show())
				}
				want := 1
				if len(choice) < 2 {
					want = 2
				}
				if len(d.Attachments) != want || len(d.all()) < 30*want {
					t.Errorf("%v: %d attachments with %d rows", choice, len(d.Attachments), len(d.all()))
				}
			}
			text := w.ctl(t, "diagnose", "--netns", p.Path()).want(t, statusFine).stdout
			for _, words := range []string{"attachment cni0/" + p.ContainerID() + "/eth0: host end " + p.HostEnd(), "OBJECT", "VERDICT", "rule 1023 "} {
				if !strings.Contains(text, words) {
					t.Errorf("%q is not in\n%s", words, text)
				}
			}
			w.ctl(t, "diagnose", "--fix").want(t, statusFine)
			same(t, "the node after diagnose", before, dump(t, w.n1.Namespace))
		})
	}
}

// TestDiagnose breaks one object after the other: each is found, --fix repairs it, and then nothing is found.
func TestDiagnose(t *testing.T) {
	for _, test := range []struct {
		name, spoil string
		want        []string // words of a finding that is wrong
		o           lab.Options
	}{
		{name: "rule of the pod", spoil: "ip rule del pref 1024", want: []string{"node rule 1024|rule is missing", "node: a Service packet, back to the pod"}},
		{name: "IPv6 rule of the pod", spoil: "ip -6 rule del pref 1024", want: []string{"node IPv6 rule 1024|rule is missing: ip -6"}},
		{name: "rule of the mark", spoil: "ip rule del pref 512", want: []string{"node rule 512|rule is missing", "rules for any other packet of the pod|512"}},
		{name: "jump", spoil: "ip rule del pref 1023", want: []string{"node rule 1023|rule is missing", "rules for a packet that is no pod's|asks 1023, 1025"}},
		{name: "jump to nowhere", spoil: "ip -6 rule del pref 1025", want: []string{"node IPv6 rule 1025|rule is missing", "IPv6 rules for a packet that is no pod's"}},
		{name: "all rules, as after a flush", spoil: "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default", want: []string{"rule 512|missing", "rule 1022|missing", "rule 1023|missing", "rule 1024|missing", "rule 1025|missing"}},
		{name: "a second rule of the pod", spoil: "ip rule add pref 1024 iif {host} lookup 9999 protocol kernel", want: []string{"old rules 1024|lookup 9999"}},
		{name: "neighbour changed", spoil: "ip neigh replace 10.10.20.50 lladdr 02:00:00:00:00:99 dev {host} nud permanent", want: []string{"node neighbour 10.10.20.50|02:00:00:00:00:99", "node: 10.10.20.50 on {host}|lladdr 02:00:00:00:00:99|which veth0 has"}},
		{name: "neighbour gone", spoil: "ip neigh del fd20::50 dev {host}", want: []string{"node neighbour fd20::50|missing"}},
		{name: "neighbour in the pod", spoil: "{pod} ip neigh replace 10.10.20.152 lladdr 02:00:00:00:00:99 dev veth0 nud permanent", want: []string{"pod neighbour 10.10.20.152|02:00:00:00:00:99", "pod: 10.10.20.152 on veth0|which {host} has"}},
		{name: "hardware address", spoil: "ip link set {host} address 02:00:00:00:00:99", want: []string{"veth pair|02:00:00:00:00:99"}},
		{name: "route to the pod", spoil: "ip route del 10.10.20.50", want: []string{"node route 10.10.20.50/32|missing", "node: node to pod|dev {host}"}},
		{name: "IPv6 route to the pod", spoil: "ip -6 route del fd20::50", want: []string{"node route fd20::50/128|missing"}},
		{name: "route of the pod's table", spoil: "ip route flush table $(ip rule | sed -n 's/.*iif {host} lookup //p')", want: []string{"node route 0.0.0.0/0|missing", "a Service packet, back to the pod"}},
		{name: "route in the pod", spoil: "{pod} ip route del default", want: []string{"pod route 0.0.0.0/0|missing"}},
		{name: "route of the wire is back", spoil: "{pod} ip route replace default via 10.10.20.1 dev eth0", want: []string{"pod route 0.0.0.0/0|missing", "old route 0.0.0.0/0|still there", "pod: pod to a Service|dev eth0"}},
		{name: "underlay table", spoil: "{pod} ip route flush table 512", want: []string{"pod route 0.0.0.0/0|missing", "answers to the wire"}},
		{name: "rule in the pod", spoil: "{pod} ip rule del pref 513", want: []string{"pod rule 513|missing"}},
		{name: "table flushed", spoil: "nft flush table inet veth-host-cni0", want: []string{"node firewall|missing or empty"}},
		{name: "table gone", spoil: "nft delete table inet veth-host-cni0", want: []string{"node firewall|missing or empty"}},
		{name: "policy of a chain", spoil: "nft chain inet veth-host-cni0 postrouting '{ policy drop; }'", want: []string{"node firewall|policy drop"}},
		{name: "table in the pod", spoil: "{pod} nft flush chain inet veth-host output", want: []string{"pod firewall|other rules in output"}},
		{name: "iptables-nft chain", o: lab.Options{Firewall: "iptables", IPTables: "nft"}, spoil: "iptables -t nat -F $(iptables -t nat -S | sed -n 's/-N \\(VETH-{host}.*\\)/\\1/p')", want: []string{"node firewall|is not as it should be"}},
		{name: "iptables-legacy jump", o: lab.Options{Firewall: "iptables", IPTables: "legacy"}, spoil: "iptables -t mangle -F PREROUTING", want: []string{"node firewall|0 jumps"}},
		{name: "link down", spoil: "ip link set {host} down", want: []string{"link {host}|is down"}},
		{name: "host end gone", spoil: "ip link del {host}", want: []string{"veth pair|no such interface"}},
		{name: "rp_filter in the pod", spoil: "{pod} sysctl -qw net.ipv4.conf.all.rp_filter=1", want: []string{"pod sysctl|rp_filter is 1, not 0"}},
		{name: "rp_filter without the mark", o: lab.Options{RPFilter: 1}, spoil: "sysctl -qw net.ipv4.conf.{host}.src_valid_mark=0", want: []string{"node sysctl|src_valid_mark is 0"}},
		{name: "forwarding", spoil: "sysctl -qw net.ipv4.conf.enp1s0.forwarding=0", want: []string{"node sysctl|net/ipv4/conf/enp1s0/forwarding is 0"}},
		{name: "IPv6 forwarding", spoil: "sysctl -qw net.ipv6.conf.all.forwarding=0", want: []string{"node sysctl|net/ipv6/conf/all/forwarding is 0"}},
		{name: "FORWARD DROP, iptables-nft", spoil: "iptables-nft -P FORWARD DROP", want: []string{"node firewall|policy of FORWARD is DROP in iptables-nft"}},
		{name: "FORWARD DROP, ip6tables-legacy", spoil: "ip6tables-legacy -P FORWARD DROP", want: []string{"node firewall|policy of FORWARD is DROP in ip6tables-legacy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.o)
			p := w.added(t, "a")
			w.sh(t, p, test.spoil)
			broken := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			for _, words := range test.want {
				if words = strings.ReplaceAll(words, "{host}", p.HostEnd()); !broken.has(wrong, words) {
					t.Errorf("%q is not among\n%s", words, broken.show())
				}
			}
			a := w.ctl(t, "diagnose", "-o", "json", "--fix")
			if d := decode[diagnosis](t, a); a.status != statusFine || len(test.want) > 0 && !d.has(repaired, "") {
				t.Errorf("--fix: status %d\n%s", a.status, d.show())
			}
			a = w.ctl(t, "diagnose", "-o", "json")
			if d := decode[diagnosis](t, a); a.status != statusFine || d.has(repaired, "") {
				t.Errorf("after --fix: status %d\n%s", a.status, d.show())
			}
			must(t, w.n1.Check(p))
		})
	}
}

// TestDiagnoseOthers: what others on the node do is found, and left to the operator.
func TestDiagnoseOthers(t *testing.T) {
	for _, test := range []struct {
		name, spoil, mend string
		v                 verdict
		want              string
	}{
		{"a rule in front of the jump", "ip rule add pref 1000 fwmark 0x1000/0x1000 goto 1025", "ip rule del pref 1000", wrong, "rules for a Service packet of the pod|1000: from all fwmark 0x1000/0x1000 goto 1025|ip rule del pref 1000"},
		{"a look-up in front of all", "ip rule add pref 100 lookup 100", "ip rule del pref 100", risk, "asks 100 first"},
		{"Cilium's place for the local table", "ip rule add pref 100 lookup local; ip rule del pref 0", "ip rule add pref 0 lookup local; ip rule del pref 100", fine, "rules for a Service packet of the pod"},
		{"a rule with a bit of ours", "ip -6 rule add pref 2000 fwmark 0x3000/0xf000 lookup 99", "ip -6 rule del pref 2000", risk, "bits of the mark|fwmark 0x3000/0xf000"},
		{"nft writes a bit of ours", "nft 'table inet x { chain y { type filter hook prerouting priority 0; meta mark set meta mark or 0x2001; }; }'", "nft delete table inet x", risk, "table inet x, chain y|writes 0x2001"},
		{"nft writes the mark", "nft 'table ip x { chain y { type filter hook prerouting priority 0; ct mark set meta mark; }; }'", "nft delete table ip x", risk, "table ip x, chain y|writes the whole mark"},
		{"nft reads a bit of ours", "nft 'table ip x { chain y { meta mark and 0x1000 == 0x1000 drop; }; }'", "nft delete table ip x", risk, "table ip x, chain y|reads 0x1000"},
		{"nft compares the mark", "nft 'table ip x { chain y { meta mark 0x77 drop; }; }'", "nft delete table ip x", note, "table ip x, chain y|reads the whole mark"},
		{"nft writes other bits", "nft 'table ip x { chain y { meta mark set meta mark or 0x4000; ct mark set ct mark and 0xffff3fff; }; }'", "nft delete table ip x", fine, "bits of the mark"},
		{"iptables-nft", "iptables-nft -t mangle -A PREROUTING -j MARK --set-xmark 0x2000/0x2000", "iptables-nft -t mangle -F PREROUTING", risk, "table ip mangle, chain PREROUTING|writes 0x2000"},
		{"ip6tables-legacy", "ip6tables-legacy -t mangle -A OUTPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT", "ip6tables-legacy -t mangle -F OUTPUT", risk, "ip6tables-legacy -t mangle -A OUTPUT|reads 0x1000"},
		{"kube-proxy's bit", "iptables-legacy -t nat -A POSTROUTING -j MARK --set-xmark 0x4000/0x4000", "iptables-legacy -t nat -F POSTROUTING", fine, "bits of the mark"},
		{"portmap", "iptables-nft -t nat -N CNI-HOSTPORT-MASQ; iptables-nft -t nat -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE", "iptables-nft -t nat -F", note, "CNI-HOSTPORT-MASQ|portmap"},
		{"a route of others", "ip rule add pref 300 to 10.10.20.50 lookup 300; ip route add 10.10.20.50 dev enp1s0 table 300", "ip rule del pref 300", wrong, "node: node to pod|dev enp1s0 table 300"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{})
			p := w.added(t, "a")
			w.sh(t, p, test.spoil)
			before := dump(t, w.n1.Namespace)
			a := w.ctl(t, "diagnose", "-o", "json", "--fix")
			status := statusFound
			if test.v == note || test.v == fine {
				status = statusFine
			}
			if d := decode[diagnosis](t, a); a.status != status || !d.has(test.v, test.want) {
				t.Errorf("status %d, no %s %q among\n%s", a.status, test.v, test.want, d.show())
			}
			same(t, "the node after --fix", before, dump(t, w.n1.Namespace))
			w.sh(t, p, test.mend)
			w.ctl(t, "diagnose").want(t, statusFine)
		})
	}
}

// TestDiagnoseNetworkd: systemd-networkd that is in use and not told to leave things alone is a risk, and --fix tells it.
func TestDiagnoseNetworkd(t *testing.T) {
	const (
		running = "run/systemd/netif/links"
		enabled = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
	)
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // of a risk; "": none
	}{
		{"not in use", map[string]string{"etc/systemd/networkd.conf": "[Network]\n"}, ""},
		{"running, by default", map[string]string{running: ""}, "deletes rules (ManageForeignRoutingPolicyRules) and routes (ManageForeignRoutes)|systemctl restart"},
		{"starts at boot", map[string]string{enabled: "", "etc/systemd/networkd.conf": "[Network]\n#ManageForeignRoutes=no\n"}, "deletes rules"},
		{"rules only", map[string]string{running: "", "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n"}, "deletes rules (ManageForeignRoutingPolicyRules) that"},
		{"told to leave them", map[string]string{running: "", "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes = false\nManageForeignRoutingPolicyRules=0\n"}, ""},
		{"a later drop-in wins", map[string]string{running: "", "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n", "usr/lib/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutes=yes\n"}, "deletes routes"},
		{"a drop-in is hidden", map[string]string{running: "", "run/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutes=yes\n", "etc/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"}, ""},
		{"another section", map[string]string{running: "", "etc/systemd/networkd.conf": "[DHCPv4]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"}, "deletes rules"},
		{"claims host ends", map[string]string{running: "", "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n", "etc/systemd/network/20-all.network": "[Match]\nName=en* veth*\n[Network]\nDHCP=yes\n"}, "20-all.network matches"},
		{"claims another name", map[string]string{running: "", "etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n", "etc/systemd/network/20.network": "[Match]\nName=!veth*\n[Network]\nDHCP=yes\n"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Stack: lab.OnlyIPv4})
			w.added(t, "a")
			for file, text := range test.files {
				path := filepath.Join(w.systemd, file)
				must(t, os.MkdirAll(filepath.Dir(path), 0o755))
				must(t, os.WriteFile(path, []byte(text), 0o644))
			}
			if test.want == "" {
				w.ctl(t, "diagnose").want(t, statusFine)
				return
			}
			d := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json").want(t, statusFound))
			if !d.has(risk, "systemd-networkd|"+test.want) {
				t.Errorf("no %q among\n%s", test.want, d.show())
			}
			w.ctl(t, "diagnose", "--fix").want(t, statusFine)
			w.ctl(t, "diagnose").want(t, statusFine)
		})
	}
}

// TestDiagnoseLost: an attachment whose host end has gone and that no runtime knows is repaired when all of it is named.
func TestDiagnoseLost(t *testing.T) {
	w := newWorld(t, lab.Options{})
	p := w.added(t, "a")
	node, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
	w.sh(t, p, "ip link del {host}; rm -r /var/lib/cni/results")
	w.ctl(t, "diagnose", "--netns", p.Path()).want(t, statusUsage)
	name := []string{"diagnose", "--netns", p.Path(), "--container", p.ContainerID(), "--ifname", "eth0", "--conf", confDir + "/cni0.conflist"}
	w.ctl(t, name...).want(t, statusFound)
	w.ctl(t, append(name, "--fix")...).want(t, statusFine)
	// The index is a new one, and so are the table and the place of the rule.
	if len(dump(t, w.n1.Namespace)) != len(node) || len(dump(t, p.Namespace)) != len(pod) {
		t.Errorf("node has in addition\n%spod has in addition\n%s", dump(t, w.n1.Namespace).Since(node), dump(t, p.Namespace).Since(pod))
	}
	w.ctl(t, name...).want(t, statusFine)
}

// TestDiagnoseSources: the configuration is the operator's, the node's, or the one that the runtime keeps, as Multus's; a
// pod that only its host end tells of cannot be looked at, and that is an error.
func TestDiagnoseSources(t *testing.T) {
	w := newWorld(t, lab.Options{Stack: lab.OnlyIPv4})
	p := w.added(t, "a")
	mine := filepath.Join(t.TempDir(), "mine.conflist")
	must(t, os.WriteFile(mine, []byte(w.sh(t, nil, "cat "+conf)), 0o600))
	for _, test := range []struct {
		name, script string
		args         []string
		config, err  string
	}{
		{name: "the node's", config: conf},
		{name: "the operator's", args: []string{"--conf", mine}, config: mine},
		{name: "by a process", args: []string{"--pid", w.sleeper(t, p)}, config: conf},
		{name: "by the beginning of the container id", args: []string{"--container", p.ContainerID()[:12]}, config: conf},
		{name: "the runtime's", script: "rm " + conf, config: "the runtime's"},
		{name: "none", script: "rm -r /var/lib/cni/results", err: "network cni0: no configuration of it is known; accepted: --conf FILE"},
		{name: "a broken one", script: "echo '{' >" + conf, err: "no configuration of it is known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.sh(t, nil, test.script)
			a := w.ctl(t, append([]string{"diagnose", "-o", "json"}, test.args...)...)
			d := decode[diagnosis](t, a)
			if len(d.Attachments) != 1 || d.Attachments[0].Config != test.config || !strings.Contains(d.Attachments[0].Error, test.err) || (d.Attachments[0].Error == "") != (test.err == "") ||
				a.status != map[bool]int{true: statusFine, false: statusFound}[test.err == ""] {
				t.Errorf("status %d, %s%+v", a.status, a.stderr, d.Attachments)
			}
			if warned := strings.Contains(a.stderr, "warning: "+conf); warned != (test.name == "a broken one") {
				t.Errorf("said %q", a.stderr)
			}
		})
	}
}
