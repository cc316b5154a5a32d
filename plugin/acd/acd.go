// Package acd makes sure that the addresses of a pod's interface are nobody else's: address conflict detection, as
// RFC 5227 calls it for IPv4, and duplicate address detection, as RFC 4862 does for IPv6. It computes the hardware
// address that belongs to an address, and announces both to the wire.
//
// A Check asks the wire in a way that leaves no trace in anybody's cache: what it sends has no sender address. Whoever
// has the address answers; whoever does not, forgets the question.
package acd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"underlay-cni/routing"
)

// Options say how long to listen: Interval times Retries.
type Options struct {
	Interval time.Duration // between two probes, and after the last; greater than 0
	Retries  int           // how many probes there are; at least 1
}

// A Conflict is an address that somebody else has, too.
type Conflict struct {
	Addr  netip.Addr
	Link  string           // the pod's interface
	MAC   net.HardwareAddr // of the other; nil where the other has not shown itself
	Local string           // "enp1s0 of the node", where it is no other machine; else empty
}

// Error is one line that names all of it.
func (c *Conflict) Error() string {
	who := "another machine on the wire"
	if c.Local != "" {
		who = "interface " + c.Local
	}
	mac := "hardware address unknown"
	if c.MAC != nil {
		mac = "hardware address " + c.MAC.String()
	}
	return fmt.Sprintf("%s of %s: address conflict: %s has it, %s", c.Addr, c.Link, who, mac)
}

// ErrUndecided says that the question could not be put, or that the kernel's answer did not come in time. Nothing is
// wrong but the moment.
var ErrUndecided = errors.New("address conflict detection is not finished")

// Check returns a *Conflict, in the sense of errors.As, if somebody else has one of the addresses of an interface of
// a pod: another machine on the wire, the node, or another interface of the pod.
func Check(node *routing.Namespace, link *routing.Link, addrs []routing.Address, o Options) error {
	_, _, _, _ = node, link, addrs, o
	return errors.New("not finished")
}

// MAC is the hardware address that a prefix and the addresses of an interface make: the prefix, and the first IPv4
// address, else the last four bytes of the first IPv6 address.
func MAC(prefix [2]byte, addrs []routing.Address) (net.HardwareAddr, error) {
	_, _ = prefix, addrs
	return nil, errors.New("not finished")
}

// Announce tells the wire which hardware address the addresses of an interface have now.
func Announce(link *routing.Link, addrs []routing.Address) error {
	_, _ = link, addrs
	return errors.New("not finished")
}
