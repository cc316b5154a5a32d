package plugin

import (
	"errors"
	"slices"
	"time"

	"underlay-cni/routing"
)

// detection is how long the kernel's duplicate address detection is waited for: by default it is over after a delay of up to
// a second and another second (RFC 4862, 5.4), and a moment more where much is going on.
const detection = 2500 * time.Millisecond

// Settled lists addresses once the kernel has ended its duplicate detection of them, or does not end it in time. The macvlan
// plugin waits for it only where its IPAM plugin names a gateway; and a runtime that makes a new pod for each attempt would
// come too early each time.
func Settled(list func() ([]routing.Address, error)) ([]routing.Address, error) {
	const look = 20 * time.Millisecond
	for deadline := time.Now().Add(detection); ; time.Sleep(look) { //nolint:forbidigo // this is the poll
		addrs, err := list()
		if err != nil || !slices.ContainsFunc(addrs, undecided) || time.Now().After(deadline) {
			return addrs, err
		}
	}
}

// undecided tells whether the kernel does not know yet that nobody else has an address that a pod needs.
func undecided(a routing.Address) bool { return a.Usable() && a.Tentative() && !a.Dynamic() }

// AwaitSource waits until the kernel knows which address it sends from by an interface: none that is tentative. It is an error
// with code 11 if that takes too long, and none if there is no such interface.
func AwaitSource(dev *routing.Link) error {
	addrs, err := Settled(func() ([]routing.Address, error) { return dev.NS.Addresses(dev) })
	if errors.Is(err, routing.ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	return decided(dev, addrs)
}

func decided(dev *routing.Link, addrs []routing.Address) error {
	for _, a := range addrs {
		if undecided(a) {
			return Errorf(CodeTryAgain, "%s: duplicate address detection still runs on %s", a.Prefix.Addr(), dev.Name)
		}
	}
	return nil
}

// Sound are the usable ones among the addresses of a pod's interface, best first, after a look whether they can be used:
// none is still tentative, and none is in use elsewhere, as far as the kernel knows.
func Sound(node *routing.Namespace, dev *routing.Link, addrs []routing.Address) ([]routing.Address, error) {
	usable := routing.Usable(addrs)
	if err := decided(dev, usable); err != nil {
		return nil, err
	}
	for _, a := range usable {
		ip := a.Prefix.Addr()
		local, err := node.IsLocal(ip)
		if err != nil {
			return nil, err
		}
		if local {
			return nil, Errorf(CodeConflict, "%s: the pod's address is one of the node itself", ip)
		}
	}
	for _, a := range addrs {
		if a.Duplicate() {
			return nil, Errorf(CodeConflict, "%s: another machine on the wire of %s has the pod's address", a.Prefix.Addr(), dev.Name)
		}
	}
	return usable, nil
}
