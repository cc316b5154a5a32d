package acd_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin/acd"
)

// runs is how often a conflict must be found, and found again.
const runs = 20

// A rival is somebody else with the pod's address.
type rival struct {
	name  string
	addr  netip.Addr
	begin func(t *testing.T, w *world) // before the first run
	each  func(t *testing.T, w *world) // before each run, in place of giving the address to the pod
	onAsk func(w *world, p *port)      // on the other machine, at each probe that it hears
	mac   string                       // that the error names; "" for unknown
	says  string                       // that the error has beside address, interface and hardware address
}

// TestConflict: 20 of 20, whoever the other is and whatever he does.
func TestConflict(t *testing.T) {
	const nodeMAC = "0a:00:00:00:01:52"
	other := otherMAC.String()
	add4 := func(t *testing.T, w *world) { t.Helper(); add(t, w.pod, pod4, "eth0") }
	add6 := func(t *testing.T, w *world) { t.Helper(); add(t, w.pod, pod6, "eth0") }
	otherHas := func(addr netip.Addr) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { t.Helper(); add(t, w.other, addr, "eth0") }
	}
	otherSays := func(frames ...[]byte) func(*world, *port) {
		return func(_ *world, p *port) {
			for _, f := range frames {
				_ = p.send(f)
			}
		}
	}
	local := func(owner func(*world) *lab.Namespace, dev string, addr netip.Addr) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { t.Helper(); add(t, owner(w), addr, dev, "nodad") }
	}
	node := func(w *world) *lab.Namespace { return w.node }
	// The kernel of the pod detects as well: it is at it when Check begins.
	tentative := func(t *testing.T, w *world) { t.Helper(); detect(t, w.pod, "eth0"); add(t, w.pod, pod6, "eth0") }

	for _, r := range []rival{
		{name: "IPv4: a neighbour that answers", addr: pod4, begin: otherHas(pod4), mac: other},
		{
			name: "IPv4: a neighbour that answers for another of its interfaces", addr: pod4, mac: other,
			begin: func(t *testing.T, w *world) { t.Helper(); add(t, w.other, pod4, "lo") },
		},
		{name: "IPv4: a neighbour that only announces, by a request", addr: pod4, onAsk: otherSays(arp(1, otherMAC, pod4, broadcast, pod4)), mac: other},
		{name: "IPv4: a neighbour that only announces, by a reply", addr: pod4, onAsk: otherSays(arp(2, otherMAC, pod4, broadcast, pod4)), mac: other},
		{name: "IPv4: a neighbour that asks for others", addr: pod4, onAsk: otherSays(arp(1, otherMAC, pod4, broadcast, netip.MustParseAddr("10.10.20.1"))), mac: other},
		{name: "IPv4: a neighbour that probes", addr: pod4, onAsk: otherSays(arp(1, otherMAC, nobody, broadcast, pod4)), mac: other},
		{name: "IPv4: the node, on the parent", addr: pod4, begin: local(node, "enp1s0", pod4), mac: nodeMAC, says: "enp1s0 of the node"},
		{name: "IPv4: the node, on lo", addr: pod4, begin: local(node, "lo", pod4), says: "lo of the node"},
		{
			name: "IPv4: the node, by a route of type local", addr: pod4, says: "the node has it",
			begin: func(t *testing.T, w *world) { t.Helper(); must(t, w.node.IP("route add local 10.10.20.48/28 dev lo")) },
		},
		{
			name: "IPv4: another interface of the pod", addr: pod4, mac: "0a:00:00:00:00:51", says: "net1 of the pod",
			begin: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.pod.IP("link add net1 address 0a:00:00:00:00:51 type veth peer name x"))
				add(t, w.pod, pod4, "net1")
			},
		},

		{name: "IPv6: a neighbour that answers", addr: pod6, begin: otherHas(pod6), mac: other},
		{name: "IPv6: a neighbour that answers, nodad", addr: pod6, begin: otherHas(pod6), mac: other, each: func(t *testing.T, w *world) {
			t.Helper()
			detect(t, w.pod, "eth0")
			add(t, w.pod, pod6, "eth0", "nodad")
		}},
		{name: "IPv6: a neighbour that answers, while the kernel detects", addr: pod6, begin: otherHas(pod6), each: tentative, mac: other},
		{
			name: "IPv6: a neighbour that answers, while the kernel detects and the address is in use", addr: pod6, begin: otherHas(pod6), mac: other,
			each: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.pod.Sysctl(map[string]string{"net/ipv6/conf/eth0/optimistic_dad": "1"}))
				tentative(t, w)
			},
		},
		{
			name: "IPv6: a neighbour that answers, while the kernel only waits", addr: pod6, begin: otherHas(pod6), mac: other,
			each: func(t *testing.T, w *world) {
				t.Helper()
				detect(t, w.pod, "eth0")
				must(t, w.pod.Sysctl(map[string]string{"net/ipv6/conf/eth0/dad_transmits": "0"}))
				add(t, w.pod, pod6, "eth0")
			},
		},
		{
			name: "IPv6: a neighbour that answers, when the kernel has found it", addr: pod6, begin: otherHas(pod6), mac: other,
			each: func(t *testing.T, w *world) { t.Helper(); tentative(t, w); w.awaitSettled(t) },
		},
		{
			name: "IPv6: a neighbour that has gone again, when the kernel has found it", addr: pod6, says: "hardware address unknown",
			each: func(t *testing.T, w *world) {
				t.Helper()
				add(t, w.other, pod6, "eth0")
				tentative(t, w)
				w.awaitSettled(t)
				del(t, w.other, pod6, "eth0")
			},
		},
		{name: "IPv6: a neighbour that only announces", addr: pod6, onAsk: otherSays(nd(136, otherMAC, pod6, pod6, targetMAC(otherMAC)...)), mac: other},
		{name: "IPv6: a neighbour that only announces, without an option", addr: pod6, onAsk: otherSays(nd(136, otherMAC, pod6, pod6)), mac: other},
		{
			name: "IPv6: a neighbour whose kernel detects at the same moment", addr: pod6, mac: other,
			begin: func(t *testing.T, w *world) { t.Helper(); detect(t, w.other, "eth0") },
			onAsk: func(w *world, _ *port) {
				_ = w.other.IP("addr del fd20::50/64 dev eth0")
				_ = w.other.IP("addr add fd20::50/64 dev eth0")
			},
		},
		{
			name: "IPv6: a neighbour whose kernel detects at the same moment, as does the pod's", addr: pod6, mac: other, each: tentative,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				detect(t, w.other, "eth0")
				must(t, w.pod.Sysctl(map[string]string{"net/ipv6/neigh/eth0/retrans_time_ms": "2000"})) // two programs run in it
			},
			onAsk: func(w *world, _ *port) {
				_ = w.other.IP("addr del fd20::50/64 dev eth0")
				_ = w.other.IP("addr add fd20::50/64 dev eth0")
			},
		},
		{name: "IPv6: the node, on the parent", addr: pod6, begin: local(node, "enp1s0", pod6), mac: nodeMAC, says: "enp1s0 of the node"},
		{name: "IPv6: the node, on lo", addr: pod6, begin: local(node, "lo", pod6), says: "lo of the node"},
		{
			name: "IPv6: another interface of the pod", addr: pod6, mac: "0a:00:00:00:00:51", says: "net1 of the pod",
			begin: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.pod.IP("link add net1 address 0a:00:00:00:00:51 up type veth peer name x"))
				add(t, w.pod, pod6, "net1", "nodad")
			},
		},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if r.each == nil {
				r.each = map[bool]func(*testing.T, *world){true: add4, false: add6}[r.addr.Is4()]
			}
			r.run(t)
		})
	}
}

func (r rival) run(t *testing.T) {
	t.Helper()
	w := newWorld(t, onMacvlan)
	if r.begin != nil {
		r.begin(t, w)
	}
	if r.onAsk != nil {
		stop := answer(w, openPort(t, w.other, "eth0"), r)
		defer stop()
	}
	found := 0
	for range runs {
		r.each(t, w)
		err := w.check(patient)
		if c, ok := errors.AsType[*acd.Conflict](err); ok {
			found++
			mac := net.HardwareAddr.String(c.MAC)
			if c.Addr != r.addr || c.Link != "eth0" || mac != r.mac || !strings.Contains(err.Error(), r.says) {
				t.Errorf("%v, want the hardware address %q and %q", err, r.mac, r.says)
			}
		} else {
			t.Logf("not found: %v", err)
		}
		del(t, w.pod, r.addr, "eth0")
	}
	if found != runs {
		t.Errorf("%d of %d found", found, runs)
	}
}

// answer has the other machine do something at each probe for the address, until stop.
func answer(w *world, p *port, r rival) (stop func()) {
	return repeat(func() {
		if f := p.hear(); asks(f, r.addr) && bytes.Equal(f[6:12], podMAC) {
			r.onAsk(w, p)
		}
	})
}

// TestTwoPods: two pods with the same address, at the same moment: neither gets it.
func TestTwoPods(t *testing.T) {
	for _, addr := range []netip.Addr{pod4, pod6} {
		t.Run(addr.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, onMacvlan)
			two := newWorld(t, onMacvlan) // its pod moves to the first wire
			must(t, two.pod.IP("link del eth0"))
			w.plug(t, two.pod, "eth0", "0a:00:00:00:00:51")
			two.eth0 = two.podNS.Link("eth0")
			add(t, w.pod, addr, "eth0", "nodad")
			add(t, two.pod, addr, "eth0", "nodad")
			for range runs {
				var wg sync.WaitGroup
				errs := make([]error, 2)
				for i, one := range []*world{w, two} {
					wg.Go(func() { errs[i] = one.check(patient) })
				}
				wg.Wait()
				// Both have it, so each also answers the other.
				for i, mac := range []string{"0a:00:00:00:00:51", podMAC.String()} {
					if c, ok := errors.AsType[*acd.Conflict](errs[i]); !ok || c.MAC.String() != mac {
						t.Errorf("pod %d: %v, want a conflict with %s", i+1, errs[i], mac)
					}
				}
			}
		})
	}
}

// TestConflictIsKnownAtOnce: of four addresses the third is taken, and nobody waits for the others.
func TestConflictIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onMacvlan)
	for i := range 4 {
		add(t, w.pod, netip.MustParseAddr(fmt.Sprintf("10.10.20.%d", 50+i)), "eth0")
	}
	add(t, w.other, netip.MustParseAddr("10.10.20.52"), "eth0")
	start := time.Now()
	err := w.check(acd.Options{Interval: 10 * time.Second, Retries: 3})
	if c, ok := errors.AsType[*acd.Conflict](err); !ok || c.Addr.String() != "10.10.20.52" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}
