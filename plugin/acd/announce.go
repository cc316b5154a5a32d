package acd

import (
	"errors"
	"fmt"
	"net"

	"github.com/j-keck/arping"

	"underlay-cni/routing"
)

// Announce tells the wire which hardware address the addresses of a pod's interface have: one gratuitous ARP (RFC 5227,
// section 2.3) for an IPv4 address, one unsolicited neighbour advertisement (RFC 4861, section 7.2.6) for an IPv6
// address. The frames have left when it returns.
//
// The end of arping's packet socket takes 8 to 16 ms for each IPv4 address. Where that is too long,
// routing.Namespace.Announce has the kernel announce, in less than 0.1 ms and three times, after it has returned.
func Announce(link *routing.Link, addrs []routing.Address) error {
	attrs, err := link.Attrs()
	if err != nil {
		return err
	}
	iface := net.Interface{Index: attrs.Index, Name: attrs.Name, HardwareAddr: attrs.MAC}
	var errs []error
	for _, a := range addrs {
		if ip := a.Prefix.Addr(); ip.Is4() {
			err := link.NS.Do(func() error { return arping.GratuitousArpOverIface(ip.AsSlice(), iface) })
			if err != nil {
				errs = append(errs, fmt.Errorf("announce %s: %w", ip, err))
			}
			continue
		}
		errs = append(errs, link.NS.Announce(link, []routing.Address{a}))
	}
	return errors.Join(errs...)
}
