package faults

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"underlay-cni/integration/lab"
)

// TestTrust11Forward: the policy of FORWARD is DROP, as Docker's. What the plugins accept there is of connections of
// pods: a container behind a bridge of the node opens none to a pod's address, in either family, as without them.
func TestTrust11Forward(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		programs := map[lab.Family]string{
			lab.IPv4: "iptables-" + cmp.Or(s.Options.IPTables, "nft"), lab.IPv6: "ip6tables-" + cmp.Or(s.Options.IPTables, "nft"),
		}
		for _, program := range programs {
			_, err := n.Run(program, "-P", "FORWARD", "DROP")
			must(t, err)
		}
		p := plugged(t, s, n, 0)
		add(t, s, p)
		container := behindBridge(t, n)
		for f, program := range programs {
			to := p.Addr.Of(f)
			_, err := n.Run(program, "-Z", "FORWARD")
			must(t, err)
			inbox := listenUDP(t, p.Namespace, to)
			sendUDP(t, container, inbox.LocalAddr(), "closed")
			eventually(t, func() string {
				rules, err := n.Run(program, "-nvxL", "FORWARD")
				must(t, err)
				if dropped.MatchString(rules) {
					return ""
				}
				return "the policy has dropped nothing:\n" + rules
			})
			_, err = n.Run(program, "-P", "FORWARD", "ACCEPT")
			must(t, err)
			sendUDP(t, container, inbox.LocalAddr(), "open")
			equalText(t, fmt.Sprint("what the pod gets first, ", f), "open", receiveUDP(t, inbox))
		}
	})
}

var dropped = regexp.MustCompile(`policy DROP [1-9]`)

// behindBridge is a container as Docker makes it: behind a bridge of the node, with a default route by the node.
func behindBridge(t *testing.T, n *lab.Node) *lab.Namespace {
	t.Helper()
	c, err := lab.NewNamespace("container")
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	must(t, n.IP("link add docker0 type bridge", "link set docker0 up", "addr add 172.17.0.1/16 dev docker0", "addr add fd17::1/64 dev docker0 nodad",
		fmt.Sprintf("link add container type veth peer name eth0 netns %s", c.Path()), "link set container master docker0 up"))
	must(t, c.IP("link set eth0 up", "addr add 172.17.0.2/16 dev eth0", "addr add fd17::2/64 dev eth0 nodad",
		"route add default via 172.17.0.1", "route add default via fd17::1"))
	// The bridge forwards from now on, and the node is known as a neighbour.
	eventually(t, func() string {
		for _, gateway := range []string{"172.17.0.1", "fd17::1"} {
			if err := c.Ping(netip.MustParseAddr(gateway)); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	return c
}

func listenUDP(t *testing.T, n *lab.Namespace, addr netip.Addr) (conn *net.UDPConn) {
	t.Helper()
	must(t, n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func sendUDP(t *testing.T, n *lab.Namespace, to net.Addr, text string) {
	t.Helper()
	must(t, n.Do(func() error {
		conn, err := net.Dial("udp", to.String())
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte(text))
		_ = conn.Close()
		return err
	}))
}

func receiveUDP(t *testing.T, conn *net.UDPConn) string {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 100)
	size, err := conn.Read(buf)
	must(t, err)
	return string(buf[:size])
}

func equalText(t *testing.T, what, want, got string) {
	t.Helper()
	if want != got {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
