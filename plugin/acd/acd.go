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
type Conflict struct { //nolint:errname // acd.Conflict says it; that it is an error is how Check hands it over
	Addr  netip.Addr
	Link  string           // the pod's interface
	MAC   net.HardwareAddr // of the other; nil where the other has not shown itself
	Local string           // "enp1s0 of the node", where it is no other machine; else empty
}

// Error is one line that names all of it.
func (c *Conflict) Error() string {
	who := "another machine on the wire"
	if c.Local != "" {
		who = c.Local
	}
	mac := "hardware address unknown"
	if c.MAC != nil {
		mac = "hardware address " + c.MAC.String()
	}
	return fmt.Sprintf("%s of %s: address conflict: %s has it, %s", c.Addr, c.Link, who, mac)
}

// ErrUndecided says that the question could not be put, or that the kernel's answer did not come in time. Nothing is
// wrong but the moment.
var ErrUndecided = errors.New("not decided in time")

// Check returns a *Conflict, in the sense of errors.As, if somebody else has one of the addresses of a pod's interface:
// another machine on the wire, the node, or another interface of the pod. Only the first is reported.
//
// addrs are those to check, with the ones that the kernel has found to be duplicates: routing.Namespace.Addresses has
// all of them, routing.Usable leaves these out. Link-local addresses are not looked at, nor those that router
// advertisements bring and take.
//
// All addresses are checked at the same time, by one packet socket. An IPv4 address gets Retries probes, the first at
// once, the others an Interval apart, and an Interval of listening after the last. For an IPv6 address the kernel
// decides, if it is at it (within two seconds); where it has decided before, or was told not to, the address gets
// probes as an IPv4 one does. Never both at once: a wire that reflects frames would make the kernel take our probe
// for another's.
//
// So the answer comes after Retries × Interval, however many addresses there are, or when the kernel has decided, if
// that is later, and at the most 2.5 s; a conflict is known at once. To that comes the end of the socket, 8 to 16 ms.
//
// The interface must be up (else the error says so) and get a carrier in that time: else the error wraps ErrUndecided,
// as it does when the kernel does not come to a decision. An ipvlan is checked by its parent on the node; in modes l3
// and l3s it has no neighbours (NOARP) and no wire to ask, and only the node and the pod are looked at.
func Check(node *routing.Namespace, link *routing.Link, addrs []routing.Address, o Options) error {
	if o.Interval <= 0 || o.Retries < 1 {
		return fmt.Errorf("address conflict detection: %d probes every %s; accepted: at least one, and an interval greater than 0", o.Retries, o.Interval)
	}
	c := &check{link: link, o: o}
	for _, a := range addrs {
		if (a.Usable() || a.Duplicate()) && !a.Prefix.Addr().IsLinkLocalUnicast() && (a.Prefix.Addr().Is4() || !a.Dynamic()) {
			c.targets = append(c.targets, &target{addr: a.Prefix.Addr()})
		}
	}
	if len(c.targets) == 0 {
		return nil
	}
	err := c.local(node)
	if err == nil {
		err = c.wire(node)
	}
	if err == nil || errors.As(err, new(*Conflict)) {
		return err
	}
	return fmt.Errorf("address conflict detection on %s: %w", link.Name, err)
}
