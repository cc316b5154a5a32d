package acd

import (
	"errors"
	"net"
	"slices"

	"underlay-cni/routing"
)

// MAC is the hardware address that a prefix makes of the addresses of an interface: the prefix, and the first IPv4
// address, else the last four bytes of the first IPv6 address. Link-local addresses do not count. It is an error if
// there is no other.
//
// Two pods with the same address get the same one, so that the conflict cannot be seen any more: Check comes first.
func MAC(prefix [2]byte, addrs []routing.Address) (net.HardwareAddr, error) {
	for _, v4 := range []bool{true, false} {
		for _, a := range addrs {
			if ip := a.Prefix.Addr(); ip.Is4() == v4 && a.Usable() {
				b := ip.AsSlice()
				return slices.Concat(prefix[:], b[len(b)-4:]), nil
			}
		}
	}
	return nil, errors.New("no address to make a hardware address of")
}
