package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// view is what an operator sees of the pod and the node, with the names that are made up replaced.
func view(t *testing.T, w *Trial) string {
	t.Helper()
	text := w.View(t, "", `
		echo "node # ip link show"; ip -d link show type veth | sed -n "/^[0-9]*: veth/,\$p" | grep -o "^[0-9]*: veth.*mtu [0-9]*\|alias.*\|altname.*"`)
	text = regexp.MustCompile(`(?m)^\d+: (veth\w+)@if\d+: <[^>]*>`).ReplaceAllString(text, "$1")
	return regexp.MustCompile(`veth[0-9a-f]{8}`).ReplaceAllString(text, "vethXXXXXXXX")
}

// TestStates: what the kernel shows with one, two and three interfaces, in each family.
func TestStates(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			subject.New(t, s, "").States(t, s.Name, view, Eth0(s), Net1(s), Net2(s))
		})
	}
	t.Run("eth0 IPv4, net1 dual", func(t *testing.T) {
		t.Parallel()
		subject.New(t, Dual, "").States(t, "mixed", view, Eth0(Only4), Net1(Dual))
	})
}

// TestAddCheckDel, in each family: what ADD has made, CHECK finds; ADD twice is ADD once; DEL leaves the node and the pod
// as they were. Lessons 3 and 5.
func TestAddCheckDel(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			nics := []*NIC{Eth0(s), Net1(s), Net2(s)}
			w := subject.New(t, s, "")
			var states [][]string
			for _, n := range nics {
				w.Sh(t, n.Make())
				states = append(states, w.Show(t))
				w.AddTwice(t, n, nics[:len(states)]...)
			}
			for i, n := range slices.Backward(nics) {
				w.Del(t, n)
				left := withoutDefault(subject.Lasting(w.Show(t)))
				Same(t, "after DEL of "+n.Name, withoutDefault(subject.Lasting(states[i])), left)
				w.Del(t, n)
				Same(t, "after a second DEL of "+n.Name, left, withoutDefault(subject.Lasting(w.Show(t))))
				w.Sh(t, "pod ip link del "+n.Name)
				for _, n := range nics[:i] {
					w.Check(t, n)
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
	n := Eth0(Only4)
	w := subject.New(t, Only4, "pod sysctl -qw net.ipv4.ip_forward=1", n)
	// A neighbour that has the pod as its next hop to a Service.
	thief := w.NewPod(t)
	other := *n
	other.Addr4, other.MAC = "10.10.20.66", "02:00:00:00:66:66"
	thief.Sh(t, other.Make()+"pod ip route replace default via 10.10.20.53")
	// What the node gets by the host end, it counts.
	count := func() string { return w.Sh(t, "nft list chain ip count prerouting | grep -o 'packets [0-9]*'") }
	for _, forwarding := range []bool{false, true} {
		w.Add(t, n)
		w.Sh(t, "nft 'table ip count { chain prerouting { type filter hook prerouting priority raw; ip daddr 172.96.0.10 iifname \""+hostEnd(ID)+"\" counter; }; }'")
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

// TestPlanIsAScript: with the addresses of veth0 as well.
func TestPlanIsAScript(t *testing.T) {
	subject.PlanIsAScript(t, func(script string) string { return script }, "veth_link_address", "169.254.100.1")
}

// TestNoRouterForNode: the node does not take the pod for its router.
func TestNoRouterForNode(t *testing.T) {
	n := Eth0(Only4)
	w := subject.New(t, Only4, "", n)
	w.Add(t, n, "spoof_check", false) // which drops advertisements before anybody could believe them
	w.NoRouterForNode(t, "veth0")
	w.Check(t, n, "spoof_check", false)
}

// TestForwardingIsThePods: a pod that turns forwarding on afterwards, as KubeVirt does, is no difference for CHECK.
func TestForwardingIsThePods(t *testing.T) {
	n := Eth0(Only4)
	w := subject.New(t, Only4, "", n)
	w.Add(t, n)
	w.Sh(t, "pod sysctl -qw net/ipv4/conf/eth0/forwarding=1")
	w.Check(t, n)
}
