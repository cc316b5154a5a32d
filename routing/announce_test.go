package routing_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// TestAnnounce listens on the wire. Every address of the interface is announced with the interface's hardware address,
// and to everybody.
func TestAnnounce(t *testing.T) {
	const (
		arp = "from 02:00:00:00:00:06 to ff:ff:ff:ff:ff:ff: ARP request, sender 02:00:00:00:00:06 %s, target %[1]s"
		na  = "from 02:00:00:00:00:06 to 33:33:00:00:00:01: NA to ff02::1 from %s, hop limit 255, override, target %[1]s at 02:00:00:00:00:06"
	)
	for _, test := range []struct {
		name, addrs string
		want        []string
	}{
		{"IPv4", "ip addr add 10.10.20.53/24 dev eth0", []string{fmt.Sprintf(arp, "10.10.20.53")}},
		{"IPv6", "ip addr add fd20::53/64 dev eth0 nodad", []string{fmt.Sprintf(na, "fd20::53")}},
		{"dual stack", "ip addr add 10.10.20.53/24 dev eth0; ip addr add fd20::53/64 dev eth0 nodad", []string{fmt.Sprintf(arp, "10.10.20.53"), fmt.Sprintf(na, "fd20::53")}},
		{
			"a secondary address, one of another subnet, one without", "for a in 10.10.20.53/24 10.10.20.54/24 192.0.2.1/24 198.51.100.1/32; do ip addr add $a dev eth0; done",
			[]string{fmt.Sprintf(arp, "10.10.20.53"), fmt.Sprintf(arp, "10.10.20.54"), fmt.Sprintf(arp, "192.0.2.1"), fmt.Sprintf(arp, "198.51.100.1")},
		},
		{
			"several in IPv6", "for a in fd20::53/64 fd20::54/64 2001:db8::1/128; do ip addr add $a dev eth0 nodad; done",
			[]string{fmt.Sprintf(na, "2001:db8::1"), fmt.Sprintf(na, "fd20::53"), fmt.Sprintf(na, "fd20::54")},
		},
		{"while the pod answers no ARP", "sysctl -qw net/ipv4/conf/eth0/arp_ignore=1 net/ipv4/conf/eth0/arp_announce=2; ip addr add 10.10.20.53/24 dev eth0", []string{fmt.Sprintf(arp, "10.10.20.53")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, `ip link add podwire type veth peer name eth0 netns $POD address 02:00:00:00:00:06
				ip link set podwire up; pod ip link set eth0 up; pod sh -ec '`+test.addrs+"'")
			ear := listen(t, w.node, "podwire")
			addrs, err := w.pod.UsableAddresses(w.pod.Link("eth0"))
			must(t, err)
			must(t, w.pod.Announce(w.pod.Link("eth0"), addrs))
			slices.Sort(test.want)
			if d := cmp.Diff(test.want, ear.hear(t, len(test.want))); d != "" {
				t.Errorf("heard (-want +got)\n%s", d)
			}
			if out := w.sh(t, "pod ip neigh show nud permanent"); out != "" {
				t.Errorf("neighbours: %s", out)
			}
		})
	}
}

// An ear is a packet socket.
type ear int

func listen(t *testing.T, ns *routing.Namespace, dev string) ear {
	t.Helper()
	index, err := ns.Link(dev).Index()
	must(t, err)
	fd := -1
	must(t, ns.Do(func() error {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
	}))
	t.Cleanup(func() { _ = unix.Close(fd) })
	return ear(fd)
}

// hear waits for that many different announcements, and returns them sorted. What the kernel says by itself is
// not one: duplicate address detection and reports about groups.
func (e ear) hear(t *testing.T, count int) []string {
	t.Helper()
	var heard []string
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(5 * time.Second); len(heard) < count && time.Now().Before(deadline); {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(e), Events: unix.POLLIN}}, 100)
		if err == unix.EINTR || ready == 0 {
			continue
		}
		must(t, err)
		n, _, err := unix.Recvfrom(int(e), buf, 0)
		must(t, err)
		if text := announcement(buf[:n]); text != "" && !slices.Contains(heard, text) {
			heard = append(heard, text)
		}
	}
	slices.Sort(heard)
	return heard
}

// announcement describes a frame, or is empty.
func announcement(frame []byte) string {
	header := fmt.Sprintf("from %s to %s: ", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]))
	p := frame[14:]
	addr := func(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		op := map[uint16]string{1: "request", 2: "reply"}[binary.BigEndian.Uint16(p[6:])]
		return header + fmt.Sprintf("ARP %s, sender %s %s, target %s", op, net.HardwareAddr(p[8:14]), addr(p[14:18]), addr(p[24:28]))
	case unix.ETH_P_IPV6:
		icmp := p[40:]
		if p[6] != unix.IPPROTO_ICMPV6 || icmp[0] != 136 {
			return ""
		}
		var flags []string
		for i, name := range []string{"router", "solicited", "override"} {
			if icmp[4]&(0x80>>i) != 0 {
				flags = append(flags, name)
			}
		}
		return header + fmt.Sprintf("NA to %s from %s, hop limit %d, %s, target %s at %s",
			addr(p[24:40]), addr(p[8:24]), p[7], strings.Join(flags, ", "), addr(icmp[8:24]), net.HardwareAddr(icmp[26:32]))
	}
	return ""
}
