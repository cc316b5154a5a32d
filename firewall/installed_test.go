package firewall

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// backends are all of them, by what lists their rules.
func backends() map[string]Firewall {
	all := map[string]Firewall{"nftables": nftBackend{}}
	for variant, b := range variants {
		all["iptables-"+variant] = b
	}
	return all
}

// TestFindInstalled: the rule sets of each backend are found, with their network, and removed; others stay.
func TestFindInstalled(t *testing.T) {
	const foreign = `nft add table inet vethx; nft add table ip veth-host-x; nft add table ip veth.x; nft add table inet router.x; nft add table ip router; iptables-legacy -t mangle -N VETH-HOSTS
		iptables-legacy -t nat -N VETH-HOST-x-PRE; iptables-nft -t mangle -N VETH-HOST-PREX
		iptables-legacy -t mangle -N ROUTER-1-PRE; iptables-legacy -t filter -N ROUTER-FWD`
	for name, b := range backends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			run(t, ns, "sh", "-ec", foreign)
			other := node()
			other.Network, other.Group = "cni1", 4711
			show := func() string {
				return run(t, ns, "nft", "list", "tables") + saved(t, ns, "nft") + saved(t, ns, "legacy")
			}
			must(t, b.Pod(ns, pod()).Apply())
			must(t, b.Replies(ns, Replies{Owner: "veth", By: "veth0", Mark: 0x1000, IPv4: true, IPv6: true}).Apply())
			must(t, b.Replies(ns, Replies{Owner: "router", By: "eth0", Mark: 0x1000, IPv4: true, IPv6: true}).Apply())
			before := show()
			must(t, b.Node(ns, node()).Apply())
			must(t, b.Node(ns, other).Apply())
			must(t, b.Services(ns, services()).Apply())

			found, err := FindInstalled(ns)
			must(t, err)
			networks := map[string]int{}
			for _, f := range found {
				networks[f.Owner+" "+f.Network]++
				if f.InPod() != (f.Network == "") || f.Owner == "veth" && !f.InPod() && f.Backend() == IPTables && f.Group != services().Group {
					t.Errorf("%s is of network %q, group %d", f.Name(), f.Network, f.Group)
				}
			}
			each := 2 // one for each family
			if name == "nftables" {
				each = 1
			}
			want := map[string]int{
				"veth-host " + node().Network: each, "veth-host cni1": each, "veth-host ": each, "veth " + services().Network: each, "veth ": each,
				"router ": each,
			}
			if fmt.Sprint(networks) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", networks, want)
			}
			for i, f := range found {
				if f.Network == "" {
					continue
				}
				if f.Verify() == nil {
					t.Errorf("%s is said to be gone", f.Name())
				}
				if i%2 == 0 {
					must(t, f.Apply())
				} else {
					run(t, ns, "sh", "-ec", f.String())
				}
				must(t, f.Verify())
				must(t, f.Apply())
			}
			if found, err = FindInstalled(ns); err != nil || slices.ContainsFunc(found, func(i *Installed) bool { return i.Network != "" }) {
				t.Errorf("left: %v, %v", found, err)
			}
			if name == "nftables" { // iptables makes tables of its own
				same(t, "what others have", before, show())
			}
			after := run(t, ns, "sh", "-ec", "iptables-legacy -t mangle -S; iptables-legacy -t nat -S; iptables-nft -t mangle -S")
			if strings.Contains(show(), "veth-host "+node().Network) || !strings.Contains(after, "-N VETH-HOSTS\n") ||
				!strings.Contains(after, "-N VETH-HOST-x-PRE") || !strings.Contains(after, "-N VETH-HOST-PREX") {
				t.Errorf("left:\n%s", after)
			}
		})
	}
}

// TestFindInstalledMakesNothing: asking leaves no tables of iptables behind.
func TestFindInstalledMakesNothing(t *testing.T) {
	ns := newNamespace(t)
	found, err := FindInstalled(ns)
	users, err2 := MarkUsers(ns, 0x3000)
	if len(found) > 0 || len(users) > 0 || err != nil || err2 != nil {
		t.Errorf("got %v, %v, %v, %v", found, users, err, err2)
	}
	if text := run(t, ns, "nft", "list", "ruleset") + run(t, ns, "sh", "-c", "cat /proc/thread-self/net/ip_tables_names 2>&- || :"); text != "" {
		t.Errorf("made %s", text)
	}
}

// TestRepair: what Apply does not look at is repaired, in each backend.
func TestRepair(t *testing.T) {
	for name, test := range map[string]struct{ backend, spoil string }{
		"nftables, a policy":         {NFTables, "nft chain inet veth-host-cni0 postrouting '{ policy drop; }'"},
		"nftables, a flush":          {NFTables, "nft flush chain inet veth-host-cni0 from-pod"},
		"nftables, a rule":           {NFTables, "nft add rule inet veth-host-cni0 from-pod drop"},
		"nftables, the table":        {NFTables, "nft delete table inet veth-host-cni0"},
		"nftables, FORWARD":          {NFTables, "iptables-legacy -P FORWARD DROP; ip6tables-nft -P FORWARD DROP"},
		"auto, FORWARD":              {Auto, "iptables-nft -P FORWARD DROP"},
		"iptables, a flush":          {IPTables, "for c in $(iptables -t mangle -S | sed -n 's/-N //p'); do iptables -t mangle -F $c; done"},
		"iptables, a rule":           {IPTables, "c=$(iptables -t nat -S | sed -n 's/-N //p'); iptables -t nat -A $c -j RETURN"},
		"iptables, all of it":        {IPTables, "iptables -F; iptables -X; iptables -t mangle -F; iptables -t mangle -X; iptables -t nat -F; iptables -t nat -X"},
		"iptables, the other's DROP": {IPTables, "iptables-legacy -P FORWARD DROP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			n := node()
			n.Network = "cni0"
			change := func() Repairer {
				fw, err := Open(test.backend)
				must(t, err)
				r, ok := fw.Node(ns, n).(Repairer)
				if !ok {
					t.Fatalf("%T is no Repairer", fw.Node(ns, n))
				}
				return r
			}
			must(t, change().Apply())
			must(t, change().Verify())
			run(t, ns, "sh", "-ec", test.spoil)
			if change().Verify() == nil {
				t.Fatal("nothing is wrong")
			}
			must(t, change().Repair())
			must(t, change().Verify())
			text := run(t, ns, "nft", "list", "ruleset")
			must(t, change().Repair())
			same(t, "after a second Repair", text, run(t, ns, "nft", "list", "ruleset"))
		})
	}
}
