package faults

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"underlay-cni/integration/lab"
)

// TestTrust10Masquerade: a pod that sends to another pod of its node by the node is seen as what it is, with ipMasq too,
// and whoever has made the other pod's interface. What goes anywhere else has the node's address: ipMasq is on.
func TestTrust10Masquerade(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		if s.Type() == "router" {
			return // it masquerades nothing, and its pods have no host end of ours
		}
		masquerades := s.Type() == "veth-host"
		if masquerades {
			s = s.With(func(c *lab.Conflist) { c.Plugin("veth-host")["ipMasq"] = true })
		}
		n := alone(t, s).N1
		a, b := plugged(t, s, n, 0), plugged(t, s, n, 1)
		add(t, s, a)
		add(t, s, b)
		calico, container := behindCali(t, n), behindBridge(t, n)
		for _, f := range lab.DualStack {
			receives := func(what string, at *lab.Namespace, addr, want netip.Addr) {
				t.Helper()
				bits := addr.BitLen()
				must(t, a.IP(fmt.Sprintf("route replace %s/%d via %s dev veth0 onlink", addr, bits, n.Addr.Of(f))))
				inbox := listenUDP(t, at, addr)
				eventually(t, func() string {
					must(t, a.Do(func() error { return sendFrom(a.Addr.Of(f), inbox.LocalAddr()) }))
					must(t, inbox.SetReadDeadline(time.Now().Add(time.Second)))
					_, from, err := inbox.ReadFromUDPAddrPort(make([]byte, 100))
					if err != nil {
						return fmt.Sprintf("%s: %v", what, err)
					}
					equalText(t, what+" sees", want.String(), from.Addr().Unmap().String())
					return ""
				})
			}
			receives("another pod of the network", b.Namespace, b.Addr.Of(f), a.Addr.Of(f))
			receives("a pod of Calico's", calico, pair("10.244.9.9", "fd44::9").Of(f), a.Addr.Of(f))
			if masquerades {
				receives("a container behind a bridge", container, pair("172.17.0.2", "fd17::2").Of(f), pair("172.17.0.1", "fd17::1").Of(f))
			}
		}
	})
}

func pair(v4, v6 string) lab.Pair {
	return lab.Pair{V4: netip.MustParseAddr(v4), V6: netip.MustParseAddr(v6)}
}

func sendFrom(source netip.Addr, to net.Addr) error {
	conn, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}).Dial("udp", to.String())
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("x"))
	_ = conn.Close()
	return err
}

// behindCali is another plugin's pod: an interface with a name as Calico's, and a route to it on the node.
func behindCali(t *testing.T, n *lab.Node) *lab.Namespace {
	t.Helper()
	c, err := lab.NewNamespace("calico")
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, n.IP(fmt.Sprintf("link add cali0001 type veth peer name eth0 address 02:00:00:00:00:09 netns %s", c.Path()), "link set cali0001 up"))
	must(t, c.IP("link set eth0 up", "addr add 10.244.9.9/32 dev eth0", "addr add fd44::9/128 dev eth0 nodad", "route add default dev eth0", "route add ::/0 dev eth0"))
	must(t, n.IP("route add 10.244.9.9/32 dev cali0001", "route add fd44::9/128 dev cali0001",
		"neigh add fd44::9 dev cali0001 lladdr 02:00:00:00:00:09")) // without link-local addresses nobody can ask
	return c
}
