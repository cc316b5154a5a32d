package plugintest

import (
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
	const counter = "nstat -saz Icmp6InRouterAdvertisements | tail -1"
	before := w.Sh(t, counter)
	for deadline := time.Now().Add(10 * time.Second); w.Sh(t, counter) == before; { // a link that has just come up may drop the first
		nettest.Must(t, w.InPod(func() error { return advertise(dev) }))
		if time.Now().After(deadline) {
			t.Fatal("the node has not got the advertisement")
		}
	}
	if out := w.Sh(t, "ip -6 route show proto ra; ip -6 addr show dynamic"); strings.TrimSpace(out) != "" {
		t.Errorf("the node believes the pod:\n%s", out)
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
