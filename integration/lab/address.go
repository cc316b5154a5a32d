package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// A Family is an address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String is "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Of tells whether the address belongs to the family.
func (f Family) Of(a netip.Addr) bool { return a.Is4() == (f == IPv4) }

// A Stack is the set of families that a world speaks. The zero value means both.
type Stack []Family

// The three stacks.
var (
	OnlyIPv4  = Stack{IPv4}
	OnlyIPv6  = Stack{IPv6}
	DualStack = Stack{IPv4, IPv6}
)

// A Pair is an address in each family; either may be missing.
type Pair struct{ V4, V6 netip.Addr }

// Of is the address in the family, or the zero Addr.
func (p Pair) Of(f Family) netip.Addr {
	if f == IPv6 {
		return p.V6
	}
	return p.V4
}

// In leaves only the families of the stack.
func (p Pair) In(s Stack) Pair {
	var in Pair
	for _, f := range s {
		in.set(p.Of(f))
	}
	return in
}

func (p *Pair) set(a netip.Addr) {
	switch {
	case a.Is4():
		p.V4 = a
	case a.Is6():
		p.V6 = a
	}
}

func pair(v4, v6 string) Pair { return Pair{netip.MustParseAddr(v4), netip.MustParseAddr(v6)} }

// The addresses of the world. The pods have theirs from the IPAM ranges of their node.
var (
	nodeOne    = pair("10.10.20.152", "fd20::152")
	nodeTwo    = pair("10.10.20.153", "fd20::153")
	wireClient = pair("10.10.20.200", "fd20::200")
	wireThief  = pair("10.10.20.201", "fd20::201")
	routerWire = pair("10.10.20.1", "fd20::1")
	routerFar  = pair("192.0.2.1", "2001:db8:2::1")
	farClient  = pair("192.0.2.2", "2001:db8:2::2")

	// LoadBalancer is routed to the first node and configured nowhere, as a cloud's load balancer does it.
	LoadBalancer = pair("203.0.113.10", "2001:db8:3::10")
	// VIP is the address on the nodes' lo where Options.VIP asks for it. It lies in the underlay subnet, as those of
	// kube-vip and keepalived do, and is what the kernel likes best as a source where nobody tells it otherwise.
	VIP = pair("10.10.20.250", "fd20::250")
)

// The subnets of the world.
var (
	underlay   = map[Family]netip.Prefix{IPv4: netip.MustParsePrefix("10.10.20.0/24"), IPv6: netip.MustParsePrefix("fd20::/64")}
	farSubnet  = map[Family]netip.Prefix{IPv4: netip.MustParsePrefix("192.0.2.0/24"), IPv6: netip.MustParsePrefix("2001:db8:2::/64")}
	defaultDst = map[Family]string{IPv4: "0.0.0.0/0", IPv6: "::/0"}

	// ServiceCIDR is the range of the Services.
	ServiceCIDR = map[Family]netip.Prefix{IPv4: netip.MustParsePrefix("172.20.252.0/22"), IPv6: netip.MustParsePrefix("fd00:10:96::/108")}
)

// A wire is what a bridge of the world connects.
type wire struct {
	number int
	subnet map[Family]netip.Prefix
	router Pair
}

// The second wire is there with Options.SecondWire, for net2 of the pods, with the host parts of the first.
var (
	firstWire  = wire{1, underlay, routerWire}
	secondWire = wire{2, map[Family]netip.Prefix{IPv4: netip.MustParsePrefix("10.10.40.0/24"), IPv6: netip.MustParsePrefix("fd40::/64")}, pair("10.10.40.1", "fd40::1")}
)

// secondInterface is the nodes' on the second wire.
const secondInterface = "enp2s0"

// with is the address on the wire that has the host part of one on the first.
func (w wire) with(p Pair) Pair {
	if w.number == 1 {
		return p
	}
	return OnSecondWire(p)
}

// OnSecondWire is what a machine that is on both wires has on the second.
func OnSecondWire(p Pair) Pair {
	second := Pair{}
	if p.V4.IsValid() {
		second.V4 = host(secondWire.subnet[IPv4], int(p.V4.As4()[3]))
	}
	if p.V6.IsValid() {
		second.V6 = netip.MustParseAddr(strings.Replace(p.V6.String(), underlay[IPv6].Addr().String(), secondWire.subnet[IPv6].Addr().String(), 1))
	}
	return second
}

// halves splits a prefix in two.
func halves(p netip.Prefix) [2]netip.Prefix {
	high := p.Addr().AsSlice()
	high[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	addr, _ := netip.AddrFromSlice(high)
	return [2]netip.Prefix{netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(addr, p.Bits()+1)}
}

// host is an address in a subnet. In IPv6 the digits are those of IPv4: fd20::152 is 10.10.20.152.
func host(subnet netip.Prefix, number int) netip.Addr {
	base := strings.TrimSuffix(subnet.Addr().String(), "0")
	return netip.MustParseAddr(fmt.Sprintf("%s%d", base, number))
}
