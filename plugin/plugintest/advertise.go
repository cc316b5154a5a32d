package plugintest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/nettest"
	"underlay-cni/routing"
)

// NoRouterForNode tests, after an ADD without IPv6, that the node does not take the pod for its router: the pod sends a router
// advertisement by one of its interfaces.
func (w *World) NoRouterForNode(t *testing.T, dev string) {
	t.Helper()
	w.Sh(t, "pod sysctl -qw net/ipv6/conf/"+dev+"/disable_ipv6=0; pod ip -6 addr add fe80::bad/64 dev "+dev+" nodad")
	w.advertised(t, "", func() error { return w.InPod(func() error { return advertise(dev) }) })
	if out := w.Sh(t, "ip -6 route show proto ra; ip -6 addr show dynamic"); strings.TrimSpace(out) != "" {
		t.Errorf("the node believes the pod:\n%s", out)
	}
}

// advertised waits until who is asked by a prefix of its commands has got a router advertisement that is sent; a link that has just
// come up may drop the first.
func (w *World) advertised(t *testing.T, prefix string, send func() error) {
	t.Helper()
	counter := prefix + "nstat -saz Icmp6InRouterAdvertisements | tail -1"
	before := w.Sh(t, counter)
	for deadline := time.Now().Add(10 * time.Second); w.Sh(t, counter) == before; {
		nettest.Must(t, send())
		if time.Now().After(deadline) {
			t.Fatal("nobody has got the advertisement")
		}
	}
}

// DeafToAdvertised tests two interfaces of a pod without a default route in IPv6: as soon as one brings it, in whatever order they come,
// the other takes none from a router on its wire beside it, and CHECK of neither minds.
func (s *Subject) DeafToAdvertised(t *testing.T) {
	t.Helper()
	for name, later := range map[string]bool{"the earlier one brings none": false, "the later one brings none": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, without := s.First(Only4), s.Later(Dual) // veth never moves the first one
			brings := NewNIC("net9", 90-first.Number-without.Number, Dual)
			w := s.New(t, Dual, "pod ip -6 route del default 2>&- || :;")
			w.Come(t, first)
			pairs := map[*NIC][]any{without: {"prevResult", without.BareResult(w.Pod, "1.0.0")}}
			order := []*NIC{without, brings}
			if later {
				slices.Reverse(order)
			}
			for i, n := range order {
				script := n.Make()
				if n == without {
					script = n.MakeBare()
				}
				w.Sh(t, script)
				w.Add(t, n, pairs[n]...)
				for _, n := range append(order[:i:i], n) {
					w.Check(t, n, pairs[n]...)
				}
			}
			wire := fmt.Sprint("wire", without.Number)
			w.Sh(t, fmt.Sprintf("ip -6 addr add fe80::bad/64 dev %s nodad; pod ip -6 addr add fe80::53/64 dev %s nodad; pod sysctl -qw net/ipv6/conf/%[2]s/accept_ra_pinfo=0; sysctl -qw net/ipv6/conf/enp%d/accept_ra=0", wire, without.Name, without.Number))
			w.advertised(t, "pod ", func() error { return w.OnNode(func() error { return advertise(wire) }) })
			if out := w.Sh(t, "pod ip -6 route show default"); strings.Count(out, "default") != 1 || !strings.Contains(out, "dev "+brings.Name+" ") {
				t.Errorf("main is to be %s's alone:\n%s", brings.Name, out)
			}
			for _, n := range order {
				w.Check(t, n, pairs[n]...)
			}
		})
	}
}

// advertise sends a router advertisement (RFC 4861, 4.2) with a prefix to all nodes.
func advertise(dev string) error {
	self, err := routing.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	index, err := self.Link(dev).Index()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const onLink = 255 // a hop limit that no router lets through
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, onLink); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0); err != nil {
		return err
	}
	message := []byte{
		134, 0, 0, 0, 64, 0x08, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, // with a lifetime of 1800 s and preference high
		3, 4, 64, 0xc0, 0, 0, 28, 32, 0, 0, 14, 16, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}
	all := [16]byte{0xff, 0x02, 15: 1}
	return unix.Sendto(fd, message, 0, &unix.SockaddrInet6{Addr: all, ZoneId: uint32(index)})
}
