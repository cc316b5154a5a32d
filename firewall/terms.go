package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A term is a match or a statement of a rule, twice: in the words of nft(8) and in the kernel's.
type term struct {
	text  string
	exprs []expr.Any
	set   []byte // what the register is looked up in, after all of exprs: protocols
}

// reg is the register through which every term passes its value.
const reg = 1

func load(e expr.Any, rest ...expr.Any) []expr.Any { return append([]expr.Any{e}, rest...) }

func equals(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data} }

func differs(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: data} }

// native is a number as the kernel keeps it in a register: in host byte order.
func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func and(mask uint32) expr.Any { return bitwise(mask, 0) }

// or sets bits: keep all others, then flip the cleared ones on.
func or(bits uint32) expr.Any { return bitwise(^bits, bits) }

func bitwise(mask, xor uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: native(mask), Xor: native(xor)}
}

// interfaceName matches a name, or with a * at its end all that begin so.
func interfaceName(key expr.MetaKey, word, name string) term {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		data = []byte(prefix)
	}
	return term{text: fmt.Sprintf("%s %q", word, name), exprs: load(&expr.Meta{Key: key, Register: reg}, equals(data))}
}

func iifname(name string) term { return interfaceName(expr.MetaKeyIIFNAME, "iifname", name) }
func oifname(name string) term { return interfaceName(expr.MetaKeyOIFNAME, "oifname", name) }

func iifgroup(group uint32) term {
	return term{text: fmt.Sprintf("iifgroup %d", group), exprs: load(&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: reg}, equals(native(group)))}
}

func oifgroup(group uint32) term {
	return term{text: fmt.Sprintf("oifgroup %d", group), exprs: load(&expr.Meta{Key: expr.MetaKeyOIFGROUP, Register: reg}, equals(native(group)))}
}

// fibDaddrType matches what the node's routes say of the destination address: local, multicast; op is
// "" or "!= ".
func fibDaddrType(op, name string) term {
	data := native(map[string]uint32{"local": unix.RTN_LOCAL, "multicast": unix.RTN_MULTICAST}[name])
	match := equals(data)
	if op != "" {
		match = differs(data)
	}
	return term{text: "fib daddr type " + op + name, exprs: load(&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true}, match)}
}

// fibDaddrOifname matches what the node would send out by that interface.
func fibDaddrOifname(name string) term {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return term{
		text:  fmt.Sprintf("fib daddr oifname %q", name),
		exprs: load(&expr.Fib{Register: reg, FlagDADDR: true, ResultOIFNAME: true}, equals(data)),
	}
}

var l4protos = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func l4proto(names ...string) term {
	var elements []byte
	for _, name := range names {
		elements = append(elements, l4protos[name])
	}
	return term{
		text:  "meta l4proto " + set(names),
		exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}},
		set:   elements,
	}
}

func dport(p Ports) term {
	field := &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	if p.First == p.Last {
		return term{text: fmt.Sprintf("th dport %d", p.First), exprs: load(field, equals(binaryutil.BigEndian.PutUint16(p.First)))}
	}
	return term{text: fmt.Sprintf("th dport %d-%d", p.First, p.Last), exprs: load(field,
		&expr.Cmp{Op: expr.CmpOpGte, Register: reg, Data: binaryutil.BigEndian.PutUint16(p.First)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: reg, Data: binaryutil.BigEndian.PutUint16(p.Last)})}
}

// saddr matches the source address, by its place in the header of IPv4 (RFC 791) or IPv6 (RFC 8200).
func saddr(p netip.Prefix) term { return headerAddr("saddr", p, 12, 8) }

// daddr matches the destination address.
func daddr(p netip.Prefix) term { return headerAddr("daddr", p, 16, 24) }

func headerAddr(field string, p netip.Prefix, offset4, offset6 uint32) term {
	offset := offset4
	if p.Addr().Is6() {
		offset = offset6
	}
	size := uint32(p.Addr().BitLen() / 8)
	return inPrefix("", field, p, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
}

// ctDaddr matches the destination address of a connection's first packet, before any translation.
func ctDaddr(p netip.Prefix) term {
	key, of := expr.CtKeyDSTIP, "meta nfproto ipv4 ct original "
	if p.Addr().Is6() {
		key, of = expr.CtKeyDSTIP6, "meta nfproto ipv6 ct original "
	}
	return inPrefix(of, "daddr", p, &expr.Ct{Key: key, Register: reg, OptDirection: true, Direction: expr.CtDirOriginal})
}

// inPrefix matches an address; in family inet the protocol has to be asked for first.
func inPrefix(of, field string, p netip.Prefix, addr expr.Any) term {
	proto, word := byte(unix.NFPROTO_IPV4), "ip"
	if p.Addr().Is6() {
		proto, word = unix.NFPROTO_IPV6, "ip6"
	}
	size := p.Addr().BitLen() / 8
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return term{text: fmt.Sprintf("%s%s %s %s", of, word, field, p), exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equals([]byte{proto}), addr,
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		equals(p.Masked().Addr().AsSlice()),
	}}
}

func ctDirection(name string) term {
	dir := map[string]byte{"original": expr.CtDirOriginal, "reply": expr.CtDirReply}[name]
	return term{text: "ct direction " + name, exprs: load(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg}, equals([]byte{dir}))}
}

// ctBits matches when any of the bits is set.
func ctBits(key expr.CtKey, text string, bits uint32) term {
	return term{text: text, exprs: load(&expr.Ct{Key: key, Register: reg}, and(bits), differs(native(0)))}
}

func ctStatusDNAT() term {
	const dnat = 1 << 5 // IPS_DST_NAT
	return ctBits(expr.CtKeySTATUS, "ct status dnat", dnat)
}

func ctStateNew() term { return ctBits(expr.CtKeySTATE, "ct state new", expr.CtStateBitNEW) }

func ctStateEstablished() term {
	return ctBits(expr.CtKeySTATE, "ct state established,related", expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// ctMark matches a connection whose mark has the bits, or has none of them.
func ctMark(bits uint32, set bool) term {
	if set {
		return ctBits(expr.CtKeyMARK, fmt.Sprintf("ct mark and %#x != 0", bits), bits)
	}
	return term{
		text:  fmt.Sprintf("ct mark and %#x == 0", bits),
		exprs: load(&expr.Ct{Key: expr.CtKeyMARK, Register: reg}, and(bits), equals(native(0))),
	}
}

func orCtMark(bits uint32) term {
	return term{text: fmt.Sprintf("ct mark set ct mark or %#x", bits), exprs: []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg}, or(bits),
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg, SourceRegister: true},
	}}
}

func orMetaMark(bits uint32) term {
	return term{text: fmt.Sprintf("meta mark set meta mark or %#x", bits), exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg}, or(bits),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg, SourceRegister: true},
	}}
}

// snatTo translates the source. In family inet the statement holds for one protocol only.
func snatTo(addr netip.Addr) term {
	proto, word := byte(unix.NFPROTO_IPV4), "ip"
	if addr.Is6() {
		proto, word = unix.NFPROTO_IPV6, "ip6"
	}
	text := fmt.Sprintf("meta nfproto %s snat %s to %s fully-random", map[byte]string{unix.NFPROTO_IPV4: "ipv4", unix.NFPROTO_IPV6: "ipv6"}[proto], word, addr)
	return term{text: text, exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equals([]byte{proto}),
		&expr.Immediate{Register: reg, Data: addr.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(proto), RegAddrMin: reg, FullyRandom: true},
	}}
}

func masquerade() term {
	return term{text: "masquerade fully-random", exprs: []expr.Any{&expr.Masq{FullyRandom: true}}}
}

func gotoChain(name string) term {
	return term{text: "goto " + name, exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: name}}}
}

func verdict(name string) term {
	kind := map[string]expr.VerdictKind{"accept": expr.VerdictAccept, "drop": expr.VerdictDrop, "return": expr.VerdictReturn}[name]
	return term{text: name, exprs: []expr.Any{&expr.Verdict{Kind: kind}}}
}
