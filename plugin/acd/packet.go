package acd

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What is sent and heard begins behind the Ethernet header: the kernel writes and reads that one.
const (
	arpSize = 28 // RFC 826, for Ethernet and IPv4
	ip6Size = 40
	ndSize  = 24 // RFC 4861: type, code, checksum, flags, target
	macSize = 6

	arpRequest, arpReply = 1, 2
	ndSolicitation       = 135
	ndAdvertisement      = 136
	ndTargetMAC          = 2 // an option
	ndHopLimit           = 255
)

// A frame is a packet, of a protocol of package unix (ETH_P_ARP, ETH_P_IPV6), with its way.
type frame struct {
	protocol  uint16
	from      net.HardwareAddr // as in the Ethernet header
	broadcast bool             // to everybody
	packet    []byte
}

// A claim is what a frame says: the machine of that hardware address has an address, or is about to take it.
type claim struct {
	addr netip.Addr
	mac  net.HardwareAddr
}

// claims are those of an ARP packet, a neighbour solicitation or a neighbour advertisement. Anything else, and what
// is not well-formed, has none.
func (f frame) claims() []claim {
	switch f.protocol {
	case unix.ETH_P_ARP:
		return f.arpClaims()
	case unix.ETH_P_IPV6:
		return f.ndClaims()
	}
	return nil
}

// arpClaims: RFC 5227, section 2.1.1. A request without a sender is a probe, the question of somebody who is about to
// take its target. To a single machine it is none: who knows where the address is does not want it. (Some
// switches track their hosts by such requests.)
func (f frame) arpClaims() []claim {
	p := f.packet
	if len(p) < arpSize || binary.BigEndian.Uint16(p) != unix.ARPHRD_ETHER || binary.BigEndian.Uint16(p[2:]) != unix.ETH_P_IP ||
		p[4] != macSize || p[5] != net.IPv4len {
		return nil
	}
	op := binary.BigEndian.Uint16(p[6:])
	mac, sender, target := net.HardwareAddr(p[8:14]), netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	switch {
	case op != arpRequest && op != arpReply:
		return nil
	case !sender.IsUnspecified():
		return []claim{{sender, mac}}
	case op == arpRequest && f.broadcast:
		return []claim{{target, mac}}
	}
	return nil
}

// ndClaims: RFC 4862, section 5.4. A solicitation without a sender is a probe; an advertisement is an
// answer, or an announcement. Both are as RFC 4861, section 7.1, wants them, and come from this wire: no router
// passes a hop limit of 255 on.
func (f frame) ndClaims() []claim {
	p := f.packet
	if len(p) < ip6Size+ndSize || p[0]>>4 != 6 || p[6] != unix.IPPROTO_ICMPV6 || p[7] != ndHopLimit {
		return nil
	}
	size := ip6Size + int(binary.BigEndian.Uint16(p[4:])) // what follows is padding
	if size < ip6Size+ndSize || size > len(p) {
		return nil
	}
	src, msg := netip.AddrFrom16([16]byte(p[8:24])), p[ip6Size:size]
	target := netip.AddrFrom16([16]byte(msg[8:24]))
	if msg[1] != 0 || target.IsMulticast() || icmp6Checksum(p[8:ip6Size], msg) != 0 {
		return nil
	}
	var all []claim
	switch msg[0] {
	case ndSolicitation:
		if src.IsUnspecified() {
			return []claim{{target, f.from}}
		}
	case ndAdvertisement:
		mac := f.from
		if told := targetMAC(msg[ndSize:]); told != nil {
			mac = told
		}
		all = append(all, claim{target, mac})
	default:
		return nil
	}
	if src != target {
		all = append(all, claim{src, f.from})
	}
	return all
}

// targetMAC is what the options of an advertisement tell of the target; nil if nothing.
func targetMAC(options []byte) net.HardwareAddr {
	for len(options) >= 8 {
		size := 8 * int(options[1])
		if size == 0 || size > len(options) {
			return nil
		}
		if options[0] == ndTargetMAC && size == 8 {
			return net.HardwareAddr(options[2:8])
		}
		options = options[size:]
	}
	return nil
}

// probe asks who has an address, and to whom the question goes. Its sender has no address, so that nobody learns one:
// RFC 5227, section 1.1, and RFC 4862, section 5.4.2.
func probe(addr netip.Addr, mac net.HardwareAddr) frame {
	if addr.Is4() {
		p := make([]byte, arpSize)
		binary.BigEndian.PutUint16(p, unix.ARPHRD_ETHER)
		binary.BigEndian.PutUint16(p[2:], unix.ETH_P_IP)
		p[4], p[5], p[7] = macSize, net.IPv4len, arpRequest
		copy(p[8:], mac)
		copy(p[24:], addr.AsSlice())
		return frame{protocol: unix.ETH_P_ARP, packet: p, broadcast: true}
	}
	p := make([]byte, ip6Size+ndSize)
	p[0], p[5], p[6], p[7] = 6<<4, ndSize, unix.IPPROTO_ICMPV6, ndHopLimit
	target := addr.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	copy(p[24:], group[:])
	msg := p[ip6Size:]
	msg[0] = ndSolicitation
	copy(msg[8:], target[:])
	binary.BigEndian.PutUint16(msg[2:], icmp6Checksum(p[8:ip6Size], msg))
	return frame{protocol: unix.ETH_P_IPV6, packet: p}
}

// destination is the hardware address that a probe goes to: everybody's, or that of the group of its IPv6 destination
// (RFC 2464, section 7).
func (f frame) destination() [8]byte {
	if f.protocol == unix.ETH_P_IPV6 {
		return [8]byte{0x33, 0x33, f.packet[36], f.packet[37], f.packet[38], f.packet[39]}
	}
	return [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}

// icmp6Checksum is that of RFC 4443, section 2.3; of a message that has one it is 0. addrs is source and destination.
func icmp6Checksum(addrs, msg []byte) uint16 {
	sum := uint32(len(msg)) + unix.IPPROTO_ICMPV6
	for _, b := range [][]byte{addrs, msg} {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
