package faults

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// strangers are addresses that a pod gives itself: of machines on the wire and outside, of the other node, of another pod.
var strangers = []string{"10.10.20.200", "198.51.100.53", "10.10.20.153", "10.10.20.99", "fd20::200", "2001:db8:53::53", "fd20::153", "fd20::99"}

// steal is a script that gives the pod's interface the strangers' addresses.
func steal(dev string) string {
	var script strings.Builder
	for _, addr := range strangers {
		if strings.Contains(addr, ":") {
			script.WriteString("POD ip addr add " + addr + "/128 dev " + dev + " nodad\n")
		} else {
			script.WriteString("POD ip addr add " + addr + "/32 dev " + dev + "\n")
		}
	}
	return script.String()
}

// TestTrust01OwnAddresses: what a pod gives itself is no difference in CHECK and makes nothing on the node, whether the pod has
// done so before the ADD (a race that it wins) or after it, and DEL leaves nothing.
func TestTrust01OwnAddresses(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		before, _ := fresh(t, s)
		p := plugged(t, s, n, 0)
		noStranger := func(when string) {
			t.Helper()
			for _, line := range dump(t, n.Namespace) {
				for _, addr := range strangers {
					if words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '/' || r == ',' }); slices.Contains(words, addr) {
						t.Errorf("%s the node has %s", when, line)
					}
				}
			}
		}
		run(t, s, p, steal(p.IfName))
		add(t, s, p)
		noStranger("after an ADD beside them")
		check(t, s, p)
		del(t, s, p)

		q := plugged(t, s, n, 1)
		add(t, s, q)
		node := dump(t, n.Namespace)
		run(t, s, q, steal(q.IfName))
		check(t, s, q)
		add(t, s, q)
		check(t, s, q)
		same(t, "the node after another ADD", node, dump(t, n.Namespace))
		noStranger("after another ADD")
		// The pod's own addresses away, and somebody else's there: DEL goes by what the node has.
		for _, addr := range []netip.Addr{q.Addr.V4, q.Addr.V6} {
			run(t, s, q, "POD ip addr del "+addr.String()+map[bool]string{false: "/24", true: "/64"}[addr.Is6()]+" dev "+q.IfName)
		}
		del(t, s, q)
		same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// TestTrust01OwnMAC: the node sends to the hardware address that it has chosen for the pair, whatever the pod's end has by now; and
// what a later interface has made on the node goes with it, whichever addresses the pod has moved where.
func TestTrust01OwnMAC(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		if s.Type() != "veth" {
			return // veth-host attaches one interface, and router has no pair
		}
		p, node, _ := later(t, s)
		run(t, s, p, "POD ip link set veth0 address 02:00:00:00:66:66")
		add(t, s, p)
		for _, line := range dump(t, p.Node.Namespace) {
			if strings.Contains(line, "02:00:00:00:66:66") {
				t.Errorf("the node has %s", line)
			}
		}
		run(t, s, p, "POD ip addr del 10.10.30.77/24 dev net1; POD ip addr add 10.10.20.50/32 dev net1; POD ip -6 addr del fd30::77/64 dev net1")
		del(t, s, p)
		same(t, "the node after DEL of the later interface", node, dump(t, p.Node.Namespace))
	})
}
