package acd_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = netip.IPv4Unspecified()
	nobody6   = netip.IPv6Unspecified()
)

// arp is an Ethernet frame with an ARP packet.
func arp(op byte, from net.HardwareAddr, sender netip.Addr, to net.HardwareAddr, target netip.Addr) []byte {
	return slices.Concat(to, from, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, op}, from, sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// nd is an Ethernet frame with a neighbour solicitation (135) or advertisement (136) and its options. It goes to the
// group of the target, or to all nodes.
func nd(kind byte, from net.HardwareAddr, src, target netip.Addr, options ...byte) []byte {
	t := target.As16()
	dst := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}
	if kind == 136 {
		dst = [16]byte{0: 0xff, 1: 2, 15: 1}
	}
	msg := slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, t[:], options)
	if kind == 136 {
		msg[4] = 0x20 // override
	}
	sum := uint32(58 + len(msg))
	for _, b := range [][]byte{src.AsSlice(), dst[:], msg} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(msg[2:], ^uint16(sum))
	return slices.Concat([]byte{0x33, 0x33}, dst[12:], from, []byte{0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, 0, byte(len(msg)), 58, 255}, src.AsSlice(), dst[:], msg)
}

// targetMAC is the option of an advertisement.
func targetMAC(mac net.HardwareAddr) []byte { return append([]byte{2, 1}, mac...) }

// asks reports whether a frame is a probe for an address.
func asks(frame []byte, addr netip.Addr) bool {
	if addr.Is4() {
		return len(frame) >= 42 && frame[12] == 8 && frame[13] == 6 && [4]byte(frame[28:32]) == [4]byte{} && [4]byte(frame[38:42]) == addr.As4()
	}
	return len(frame) >= 78 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == 58 && frame[54] == 135 &&
		[16]byte(frame[22:38]) == [16]byte{} && [16]byte(frame[62:78]) == addr.As16()
}
