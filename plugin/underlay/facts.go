package underlay

import (
	"net/netip"
	"slices"

	"underlay-cni/routing"
)

// Outside is an address that stands for everybody beyond the gateway: one for documentation (RFC 5737, RFC 3849).
func Outside(v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
	}
	return netip.AddrFrom4([4]byte{198, 51, 100, 1})
}

// Behind is an address that the pod reaches by the node: of the first hijacked prefix that is not an interface's own, connected
// one. It is not valid if there is none.
func (f *Family) Behind(pod *routing.Namespace) (netip.Addr, error) {
	addrs, err := pod.Addresses(nil)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, dst := range f.Hijack {
		if !slices.ContainsFunc(addrs, func(a routing.Address) bool { return a.Prefix.Masked() == dst }) {
			return dst.Addr(), nil
		}
	}
	return netip.Addr{}, nil
}

// Forwarding is what the node needs to take back what it has handed on to an address behind it: what comes in by the interface
// that this went out by. There is none where the node has no way to it now, which is for whoever makes it.
func Forwarding(node *routing.Namespace, to netip.Addr) []*routing.Sysctls {
	if to.Is6() {
		return []*routing.Sysctls{forwarding(node, routing.V6Conf+"all")}
	}
	way, err := node.RouteGet(routing.Query{To: to})
	if err != nil {
		return nil
	}
	return []*routing.Sysctls{forwarding(node, routing.V4Conf+way.Dev)}
}

func forwarding(node *routing.Namespace, dir string) *routing.Sysctls {
	return &routing.Sysctls{NS: node, Dir: dir, Values: routing.Values("forwarding=1")}
}
