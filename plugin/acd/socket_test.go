package acd

import (
	"net/netip"
	"testing"
	"time"

	"underlay-cni/integration/lab"
	"underlay-cni/routing"
)

// TestSocket: only what names an address of ours reaches the socket, and a probe of another machine does even where the
// kernel has not joined the group that it goes to: these addresses are on no interface.
func TestSocket(t *testing.T) {
	self, err := routing.Self()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	t.Cleanup(self.Close)
	machine := func(name string) (*lab.Namespace, *routing.Namespace) {
		t.Helper()
		m, err := lab.NewNamespace(name)
		check(err)
		t.Cleanup(func() { _ = m.Close() })
		ns, err := self.Open(m.Path())
		check(err)
		t.Cleanup(ns.Close)
		return m, ns
	}
	wire, wireNS := machine("wire")
	pod, podNS := machine("pod")
	check(wire.IP("link add w0 address 0a:00:00:00:00:01 up type veth peer name p0", "link set p0 up",
		"link add link p0 name eth0 netns "+pod.Path()+" type macvlan mode bridge"))
	check(pod.IP("link set eth0 up"))
	open := func(ns *routing.Namespace, dev string, addrs ...netip.Addr) *socket {
		t.Helper()
		index, err := ns.Link(dev).Index()
		check(err)
		s, err := listen(ns, index, addrs)
		check(err)
		t.Cleanup(s.close)
		return s
	}
	ip4, ip6 := netip.MustParseAddr("10.10.20.50"), netip.MustParseAddr("fd20::50")
	// A device gets its queue some time after its carrier: what is sent before is lost.
	sender, s := open(wireNS, "w0", ip4), open(podNS, "eth0", ip4)
	for deadline, carries := time.Now().Add(10*time.Second), false; !carries; {
		_ = sender.send(probe(ip4, mac4))
		check(s.wait(100 * time.Millisecond))
		_, carries, err = s.receive()
		check(err)
		if !carries && time.Now().After(deadline) {
			t.Fatal("the wire carries nothing")
		}
	}
	for _, ours := range [][]netip.Addr{{ip4}, {ip6}, {ip4, ip6}} {
		sender, s := open(wireNS, "w0", ip4), open(podNS, "eth0", ours...)
		for range 100 {
			for _, other := range []string{"10.10.20.51", "10.10.21.50", "fd20::51", "fd20::1:0:50:50"} {
				check(sender.send(probe(netip.MustParseAddr(other), mac4)))
			}
		}
		for _, addr := range ours {
			check(sender.send(probe(addr, mac4)))
			var got []claim
			for deadline := time.Now().Add(5 * time.Second); got == nil && time.Now().Before(deadline); {
				check(s.wait(100 * time.Millisecond))
				f, ok, err := s.receive()
				check(err)
				if got = f.claims(); ok && got == nil {
					t.Errorf("%v: heard %x", ours, f.packet)
				}
			}
			if len(got) != 1 || got[0].addr != addr || got[0].mac.String() != "0a:00:00:00:00:01" {
				t.Errorf("%v: got %v, want a claim of %s", ours, got, addr)
			}
		}
	}
}
