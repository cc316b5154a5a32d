package acd

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var (
	mac4 = net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}
	mac6 = net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}
)

// TestClaims: what packets say, and when they say nothing. Each is a good one with one thing changed.
func TestClaims(t *testing.T) {
	ip4, ip6 := netip.MustParseAddr("10.10.20.50"), netip.MustParseAddr("fd20::50")
	sent4 := func(change func(p []byte)) frame {
		f := probe(ip4, mac4)
		change(f.packet)
		return f
	}
	sender := func(p []byte) { copy(p[14:], []byte{10, 10, 20, 99}) }
	// An advertisement with an option, or what change makes of it, with a good checksum.
	sent6 := func(change func(p []byte) []byte) frame {
		f := probe(ip6, nil)
		src := netip.MustParseAddr("fd20::99").As16()
		copy(f.packet[8:], src[:])
		f.packet[40], f.packet[44] = ndAdvertisement, 0x20
		f.packet = append(f.packet, 2, 1)
		f.packet = append(f.packet, mac6...)
		f.packet = change(f.packet)
		binary.BigEndian.PutUint16(f.packet[4:], uint16(len(f.packet)-40))
		f.packet[42], f.packet[43] = 0, 0
		binary.BigEndian.PutUint16(f.packet[42:], icmp6Checksum(f.packet[8:40], f.packet[40:]))
		f.from = mac4
		return f
	}
	same := func(p []byte) []byte { return p }
	set := func(at int, values ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[at:], values); return p }
	}
	sender6 := claim{netip.MustParseAddr("fd20::99"), mac4}
	ours := []claim{{ip4, mac4}}
	theirs := []claim{{netip.MustParseAddr("10.10.20.99"), mac4}}

	for _, test := range []struct {
		name string
		f    frame
		want []claim
	}{
		{"ARP: a probe", sent4(func([]byte) {}), ours},
		{"ARP: a request", sent4(sender), theirs},
		{"ARP: a reply", sent4(func(p []byte) { sender(p); p[7] = arpReply }), theirs},
		{"ARP: a reply without a sender", sent4(func(p []byte) { p[7] = arpReply }), nil},
		{"ARP: another operation", sent4(func(p []byte) { sender(p); p[7] = 8 }), nil},
		{"ARP: not of Ethernet", sent4(func(p []byte) { p[1] = 32 }), nil},
		{"ARP: not for IPv4", sent4(func(p []byte) { p[2] = 0x86 }), nil},
		{"ARP: other lengths", sent4(func(p []byte) { p[4] = 8 }), nil},
		{"ARP: other lengths of addresses", sent4(func(p []byte) { p[5] = 16 }), nil},
		{"ARP: cut off", frame{protocol: unix.ETH_P_ARP, packet: probe(ip4, mac4).packet[:27], broadcast: true}, nil},
		{"ARP: padded", frame{protocol: unix.ETH_P_ARP, packet: append(probe(ip4, mac4).packet, 0, 0), broadcast: true}, ours},
		{"ARP: a probe to one machine", frame{protocol: unix.ETH_P_ARP, packet: probe(ip4, mac4).packet}, nil},
		{"another protocol", frame{protocol: unix.ETH_P_IP, packet: probe(ip4, mac4).packet, broadcast: true}, nil},
		{"nothing", frame{}, nil},

		{"ND: a probe", frame{protocol: unix.ETH_P_IPV6, packet: probe(ip6, nil).packet, from: mac4}, []claim{{ip6, mac4}}},
		{"ND: an advertisement", sent6(same), []claim{{ip6, mac6}, sender6}},
		{"ND: of the sender", sent6(set(8, ip6.AsSlice()...)), []claim{{ip6, mac6}}},
		{"ND: without options", sent6(func(p []byte) []byte { return p[:64] }), []claim{{ip6, mac4}, sender6}},
		{"ND: with another option", sent6(set(64, 14)), []claim{{ip6, mac4}, sender6}},
		{"ND: with an option without a length", sent6(set(65, 0)), []claim{{ip6, mac4}, sender6}},
		{"ND: with an option that is too long", sent6(set(65, 2)), []claim{{ip6, mac4}, sender6}},
		{"ND: with two options", sent6(func(p []byte) []byte { return append(p[:64:64], append(make8(14), p[64:]...)...) }), []claim{{ip6, mac6}, sender6}},
		{"ND: a question", sent6(set(40, ndSolicitation)), []claim{sender6}},
		{"ND: padded", frame{protocol: unix.ETH_P_IPV6, packet: append(sent6(same).packet, 1, 2, 3), from: mac4}, []claim{{ip6, mac6}, sender6}},
		{"ND: another type", sent6(set(40, 134)), nil},
		{"ND: a code", sent6(set(41, 1)), nil},
		{"ND: through a router", sent6(set(7, 254)), nil},
		{"ND: not ICMPv6", sent6(set(6, 17)), nil},
		{"ND: not IPv6", sent6(set(0, 0x40)), nil},
		{"ND: the target is a group", sent6(set(48, 0xff, 0x02)), nil},
		{"ND: cut off", frame{protocol: unix.ETH_P_IPV6, packet: sent6(same).packet[:63], from: mac4}, nil},
		{"ND: cut off in the options", frame{protocol: unix.ETH_P_IPV6, packet: sent6(same).packet[:70], from: mac4}, nil},
		{"ND: a wrong checksum", func() frame { f := sent6(same); f.packet[50]++; return f }(), nil},
	} {
		got := test.f.claims()
		if d := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.AllowUnexported(claim{})); d != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, d)
		}
	}
}

func make8(kind byte) []byte { return []byte{kind, 1, 0, 0, 0, 0, 0, 0} }

// TestProbe: the bytes, which RFC 5227 and RFC 4862 give.
func TestProbe(t *testing.T) {
	got := probe(netip.MustParseAddr("10.10.20.50"), mac4)
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 0x0a, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 10, 20, 50}
	if !bytes.Equal(got.packet, want) || got.destination() != [8]byte{255, 255, 255, 255, 255, 255} {
		t.Errorf("got  %x to %x\nwant %x", got.packet, got.destination(), want)
	}
	got = probe(netip.MustParseAddr("fd20::1234:5678"), mac4)
	want = []byte{
		0x60, 0, 0, 0, 0, 24, 58, 255,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x34, 0x56, 0x78,
		135, 0, 0xbe, 0x2e, 0, 0, 0, 0,
		0xfd, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78,
	}
	if !bytes.Equal(got.packet, want) || got.destination() != [8]byte{0x33, 0x33, 0xff, 0x34, 0x56, 0x78} {
		t.Errorf("got  %x to %x\nwant %x", got.packet, got.destination(), want)
	}
}

// FuzzClaims: whatever a wire carries, nothing panics, and a claim is one that the packet makes.
func FuzzClaims(f *testing.F) {
	for _, addr := range []string{"10.10.20.50", "fd20::50"} {
		p := probe(netip.MustParseAddr(addr), mac4)
		f.Add(p.protocol, p.packet, true)
	}
	f.Add(uint16(unix.ETH_P_IPV6), append(probe(netip.MustParseAddr("fd20::50"), nil).packet, 2, 0, 1), false)
	f.Fuzz(func(t *testing.T, protocol uint16, packet []byte, everybody bool) {
		for _, c := range (frame{protocol: protocol, packet: packet, from: mac4, broadcast: everybody}).claims() {
			if len(c.mac) != macSize || !bytes.Contains(packet, c.addr.AsSlice()) {
				t.Errorf("%x: %v", packet, c)
			}
			if !bytes.Contains(packet, c.mac) && !bytes.Equal(c.mac, mac4) {
				t.Errorf("%x: %v", packet, c)
			}
		}
		// With a good checksum it gets further.
		if protocol == unix.ETH_P_IPV6 && len(packet) >= ip6Size+ndSize {
			p := bytes.Clone(packet)
			p[0], p[6], p[7], p[40], p[41] = 0x60, 58, 255, ndAdvertisement, 0
			binary.BigEndian.PutUint16(p[4:], uint16(len(p)-ip6Size))
			p[42], p[43] = 0, 0
			binary.BigEndian.PutUint16(p[42:], icmp6Checksum(p[8:40], p[40:]))
			(frame{protocol: protocol, packet: p, from: mac4}).claims()
		}
	})
}
