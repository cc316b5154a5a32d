package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// withoutShared leaves out what the pods of a network share, and what stays in a pod that lives on: the firewall's tables,
// and sysctls.
func withoutShared(lines []string) (rest []string) {
	inTable := false
	for i, line := range lines {
		inTable = inTable || strings.HasPrefix(line, "table inet veth")
		if !inTable && !strings.HasPrefix(line, "ipv4/conf/") && !strings.HasPrefix(line, "ipv6/conf/") {
			rest = append(rest, line)
		}
		// A table ends with a brace behind that of its last chain.
		inTable = inTable && (line != "}" || i == 0 || lines[i-1] != "}")
	}
	return rest
}

var hosts = regexp.MustCompile(`veth[0-9a-f]{8}`)

// view is what an operator sees of the pod and the node, with the names that are made up replaced.
func view(t *testing.T, w *World) string {
	t.Helper()
	const facts = `
		echo "NAME # ip route show table all"; ip -4 route show table all | grep -v "^local\|^broadcast" || :
		echo "NAME # ip rule show"; ip -4 rule show
		echo "NAME # ip -6 route show table all"; ip -6 route show table all | grep -v "^local\|^multicast\|^anycast\|^fe80" || :
		echo "NAME # ip -6 rule show"; ip -6 rule show
		echo "NAME # ip neigh show nud permanent"; ip neigh show nud permanent | sort
		echo`
	text := w.Sh(t, `pod sh -ec '`+strings.ReplaceAll(facts, "NAME", "pod ")+`'`+strings.ReplaceAll(facts, "NAME", "node")+`
		echo "node # ip link show"; ip -d link show type veth | sed -n "/^[0-9]*: veth/,\$p" | grep -o "^[0-9]*: veth.*mtu [0-9]*\|alias.*\|altname.*"`)
	text = regexp.MustCompile(`(?m)^\d+: (veth\w+)@if\d+: <[^>]*>`).ReplaceAllString(text, "$1")
	var lines []string
	for line := range strings.Lines(hosts.ReplaceAllString(text, "vethXXXXXXXX")) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n") + "\n"
}

// TestStates: what the kernel shows with one, two and three interfaces, in each family.
func TestStates(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s, "")
			name := s.name
			for _, n := range []*nic{eth0(s), net1(s), net2(s)} {
				w.Sh(t, n.make())
				add(t, w, n)
				check(t, w, n)
				name += " " + n.name
				golden(t, name, view(t, w))
			}
		})
	}
	t.Run("eth0 IPv4, net1 dual", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, dual, "")
		for _, n := range []*nic{eth0(only4), net1(dual)} {
			w.Sh(t, n.make())
			add(t, w, n)
			check(t, w, n)
		}
		golden(t, "mixed eth0 net1", view(t, w))
	})
}

// TestAddCheckDel, in each family: what ADD has made, CHECK finds; ADD twice is ADD once; DEL leaves the node and the pod
// as they were. Lessons 3 and 5.
func TestAddCheckDel(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			nics := []*nic{eth0(s), net1(s), net2(s)}
			w := newWorld(t, s, "")
			var states [][]string
			for _, n := range nics {
				w.Sh(t, n.make())
				states = append(states, w.Show(t))
				first := add(t, w, n)
				added := w.Show(t)
				if again := add(t, w, n); again != first {
					t.Errorf("a second ADD says\n%s\nthe first\n%s", again, first)
				}
				Same(t, "after a second ADD", added, w.Show(t))
				for _, n := range nics[:len(states)] {
					check(t, w, n)
				}
			}
			for i, n := range slices.Backward(nics) {
				del(t, w, n)
				left := withoutDefault(withoutShared(w.Show(t)))
				Same(t, "after DEL of "+n.name, withoutDefault(withoutShared(states[i])), left)
				del(t, w, n)
				Same(t, "after a second DEL of "+n.name, left, withoutDefault(withoutShared(w.Show(t))))
				w.Sh(t, "pod ip link del "+n.name)
				for _, n := range nics[:i] {
					check(t, w, n)
				}
			}
		})
	}
}

// withoutDefault leaves out the moved default routes of an interface that its own plugin deletes next.
func withoutDefault(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		return strings.Contains(line, " dev net") || strings.Contains(line, "net1@") || strings.Contains(line, "net2@")
	})
}

// TestNoRouter: in the pod, what comes in by the wire is not handed on to the node, though a new network namespace has
// forwarding on where the node has it.
func TestNoRouter(t *testing.T) {
	n := eth0(only4)
	w := newWorld(t, only4, "pod sysctl -qw net.ipv4.ip_forward=1", n)
	// A neighbour that has the pod as its next hop to a Service.
	thief := w.NewPod(t)
	other := *n
	other.addr4, other.mac = "10.10.20.66", "02:00:00:00:66:66"
	thief.Sh(t, other.make()+"pod ip route replace default via 10.10.20.53")
	// What the node gets by the host end, it counts.
	count := func() string { return w.Sh(t, "nft list chain ip count prerouting | grep -o 'packets [0-9]*'") }
	for _, forwarding := range []bool{false, true} {
		add(t, w, n)
		w.Sh(t, "nft 'table ip count { chain prerouting { type filter hook prerouting priority raw; ip daddr 172.96.0.10 iifname \""+hostEnd(id)+"\" counter; }; }'")
		if forwarding { // the proof that the way is there
			w.Sh(t, "pod sysctl -qw net.ipv4.conf.eth0.forwarding=1")
		}
		thief.Sh(t, `pod bash -c "echo x >/dev/udp/172.96.0.10/9; echo x >/dev/tcp/10.10.20.53/9" 2>&- || :`) // the second is refused, so the first has met its end
		if got, want := count(), map[bool]string{false: "packets 0\n", true: "packets 1\n"}[forwarding]; got != want {
			t.Errorf("forwarding %t: got %s", forwarding, got)
		}
		w.Sh(t, "nft delete table ip count")
	}
}
