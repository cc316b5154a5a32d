package acd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

const (
	// settle is how long the kernel takes by default: an IPv6 address waits for up to a second, and for
	// an answer for one more (RFC 4862, section 5.4.2). The rest is for a busy machine.
	settle = 2500 * time.Millisecond

	lookEvery = 20 * time.Millisecond // at the kernel, while something is awaited
	answer    = time.Second           // the time that the other of a conflict has to show itself
)

// A check is one Check. It looks only at time that has passed, never at the number of rounds.
type check struct {
	link    *routing.Link
	o       Options
	targets []*target

	mac      net.HardwareAddr // of the link
	socket   *socket
	deadline time.Time // to begin by
}

// A target is an address to check.
type target struct {
	addr  netip.Addr
	stage stage
	sent  int       // probes
	next  time.Time // look or probe or, after the last probe, the end

	// Of IPv6.
	kernel bool // the kernel is asking the wire
	failed bool // and has found the address elsewhere
}

type stage int

const (
	waiting stage = iota // for the carrier, and for the kernel's own detection
	asking
	done
)

// local looks for the addresses where the wire would not show them: a macvlan and an ipvlan do not hear their parent,
// and what two interfaces of a pod say to each other counts as its own.
func (c *check) local(node *routing.Namespace) error {
	index, err := c.link.Index()
	if err != nil {
		return err
	}
	all, err := c.link.NS.Addresses(nil)
	if err != nil {
		return err
	}
	for _, t := range c.targets {
		for _, a := range all {
			if a.Prefix.Addr() == t.addr && a.Link != index {
				return c.localConflict(t.addr, c.link.NS, "the pod")
			}
		}
		if taken, err := node.IsLocal(t.addr); err != nil {
			return err
		} else if taken {
			return c.localConflict(t.addr, node, "the node")
		}
	}
	return nil
}

// localConflict finds the interface that has the address. There need not be one: a route of type local is enough.
func (c *check) localConflict(addr netip.Addr, ns *routing.Namespace, owner string) error {
	conflict := &Conflict{Addr: addr, Link: c.link.Name, Local: owner}
	own := -1
	if ns == c.link.NS {
		own, _ = c.link.Index()
	}
	addrs, err := ns.Addresses(nil)
	if err != nil {
		return errors.Join(conflict, err)
	}
	links, err := ns.Links(nil)
	if err != nil {
		return errors.Join(conflict, err)
	}
	for _, a := range addrs {
		for _, l := range links {
			if a.Prefix.Addr() == addr && a.Link == l.Index && l.Index != own {
				conflict.Local = l.Name + " of " + owner
				if !bytes.Equal(l.MAC, make([]byte, len(l.MAC))) { // that of lo says nothing
					conflict.MAC = l.MAC
				}
			}
		}
	}
	return conflict
}

// wire asks the other machines.
func (c *check) wire(node *routing.Namespace) error {
	attrs, err := c.link.Attrs()
	switch {
	case err != nil:
		return err
	case !attrs.Up:
		return errors.New("the interface is down")
	case attrs.NoARP:
		return nil
	case len(attrs.MAC) != macSize:
		return fmt.Errorf("the interface has the hardware address %q, which is none of Ethernet", attrs.MAC)
	}
	c.mac = attrs.MAC
	addrs := make([]netip.Addr, len(c.targets))
	for i, t := range c.targets {
		addrs[i] = t.addr
	}
	ns, index := c.ear(node, attrs)
	if c.socket, err = listen(ns, index, addrs); err != nil {
		return err
	}
	defer c.socket.close()
	return c.run()
}

// ear is the interface by which to ask and listen. Of an ipvlan it is the parent, which has the same hardware address:
// an ipvlan gives a pod what names an address of the pod as the target, and the answer to a probe names none.
func (c *check) ear(node *routing.Namespace, attrs *routing.LinkAttrs) (*routing.Namespace, int) {
	if attrs.Kind == "ipvlan" {
		for _, ns := range []*routing.Namespace{node, c.link.NS} {
			parent, err := ns.LinkAt(attrs.Peer)
			if err == nil && bytes.Equal(parent.MAC, attrs.MAC) && parent.Kind != attrs.Kind {
				return ns, parent.Index
			}
		}
	}
	return c.link.NS, attrs.Index
}

// run asks and listens until all addresses are done.
func (c *check) run() error {
	c.deadline = time.Now().Add(max(settle, time.Duration(c.o.Retries)*c.o.Interval))
	for {
		if err := c.hear(); err != nil {
			return err
		}
		now := time.Now()
		if err := c.look(now); err != nil {
			return err
		}
		var next time.Time
		for _, t := range c.targets {
			if err := c.step(t, now); err != nil {
				return err
			}
			if t.stage != done && (next.IsZero() || t.next.Before(next)) {
				next = t.next
			}
		}
		if next.IsZero() {
			return nil
		}
		if err := c.socket.wait(time.Until(next)); err != nil {
			return fmt.Errorf("wait for packets: %w", err)
		}
	}
}

// look asks the kernel, every so often, how the addresses are that wait.
func (c *check) look(now time.Time) error {
	waits := func(t *target) bool { return t.stage == waiting && !now.Before(t.next) }
	if !slices.ContainsFunc(c.targets, waits) {
		return nil
	}
	attrs, err := c.link.Attrs()
	if err != nil {
		return err
	}
	addrs, err := c.link.NS.Addresses(c.link)
	if err != nil {
		return err
	}
	for _, t := range c.targets {
		if !waits(t) {
			continue
		}
		at := slices.IndexFunc(addrs, func(a routing.Address) bool { return a.Prefix.Addr() == t.addr })
		if at < 0 {
			return fmt.Errorf("the interface does not have %s", t.addr)
		}
		t.next = now.Add(lookEvery)
		tentative := t.addr.Is6() && addrs[at].Flags&unix.IFA_F_TENTATIVE != 0 // whether or not it may be used meanwhile
		switch {
		case t.addr.Is6() && addrs[at].Duplicate():
			t.failed, t.stage, t.next = true, asking, now
		case (!attrs.Running || tentative) && now.After(c.deadline):
			return undecided(attrs, t)
		case !attrs.Running:
		case tentative:
			t.kernel = t.kernel || c.kernelAsks()
		case t.kernel:
			t.stage = done // the kernel has asked, and nobody has answered: neither it nor us
		default:
			t.stage, t.next = asking, now
		}
	}
	return nil
}

// undecided is the error of an address that has waited for too long.
func undecided(attrs *routing.LinkAttrs, t *target) error {
	if !attrs.Running {
		return fmt.Errorf("%w: the interface has no carrier", ErrUndecided)
	}
	return fmt.Errorf("%w: the kernel still detects duplicates of %s", ErrUndecided, t.addr)
}

// kernelAsks reports whether the kernel sends anything for a tentative address: with no transmissions it only waits.
func (c *check) kernelAsks() bool {
	none := &routing.Sysctls{
		NS: c.link.NS, Dir: "net/ipv6/conf/" + c.link.Name, Values: []routing.Value{{Key: "dad_transmits", Value: "0"}},
	}
	return none.Verify() != nil
}

// step sends the probe that is due.
func (c *check) step(t *target, now time.Time) error {
	if t.stage != asking || now.Before(t.next) {
		return nil
	}
	probes, interval := c.o.Retries, c.o.Interval
	if t.failed { // what is left to know is the other's hardware address
		probes, interval = 1, min(c.o.Interval, answer)
	}
	switch {
	case t.sent < probes:
		err := c.socket.send(probe(t.addr, c.mac))
		if errors.Is(err, unix.ENOBUFS) && now.Before(c.deadline) { // the wire is full: soon again
			t.next = now.Add(lookEvery)
			return nil
		}
		if err != nil {
			return fmt.Errorf("send a probe for %s: %w", t.addr, err)
		}
		t.sent++
		t.next = now.Add(interval)
	case t.failed:
		return &Conflict{Addr: t.addr, Link: c.link.Name}
	default:
		t.stage = done
	}
	return nil
}

// hear takes what has come since, up to a number that leaves time for everything else: a reflected storm may go on
// for ever.
func (c *check) hear() error {
	for range 64 {
		f, ok, err := c.socket.receive()
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if !ok {
			return nil
		}
		for _, claimed := range f.claims() {
			if err := c.judge(claimed); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge returns a *Conflict if the address is one of ours and the machine is not. The pod's other
// interfaces are the pod: one on the same wire answers for an address of this one, unless arp_ignore says otherwise.
func (c *check) judge(claimed claim) error {
	for _, t := range c.targets {
		if t.addr != claimed.addr || bytes.Equal(claimed.mac, c.mac) {
			continue
		}
		links, err := c.link.NS.Links(nil)
		if err != nil {
			return err
		}
		for _, l := range links {
			if bytes.Equal(l.MAC, claimed.mac) {
				return nil
			}
		}
		return &Conflict{Addr: t.addr, Link: c.link.Name, MAC: bytes.Clone(claimed.mac)}
	}
	return nil
}
