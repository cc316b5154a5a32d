package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/acd"
	"underlay-cni/routing"
)

// Decode reads a configuration with what decodes that of the plugin. One that comes with an error holds defaults where it
// was wrong, or is nil.
func Decode(r *plugin.Request, decode func([]byte) (*conflist.Underlay, error)) (*conflist.Underlay, error) {
	config, err := decode(r.Config)
	if config != nil {
		r.LogTo(config.LogOptions)
	}
	return config, err
}

// A Wire is the pod's interface that the plugin before has made.
type Wire struct {
	Link  *routing.Link
	Addrs []routing.Address // usable: those of Given, then others, which are the pod's own affair; each best first
	Given []routing.Address // those that the result gives to the interface: what the node knows of it
	MAC   *routing.LinkMAC  // nil: as it is
}

// LookAtWire reads the pod's interface. With ip_conflict an ADD makes sure that its addresses are nobody else's.
func LookAtWire(r *plugin.Request, config *conflist.Underlay) (*Wire, error) {
	link, err := r.PodLink()
	if err != nil {
		return nil, err
	}
	w := &Wire{Link: link}
	list := func() ([]routing.Address, error) { return r.Pod.Addresses(link) }
	if c := config.IPConflict; c.Enabled && r.Verb == "ADD" {
		addrs, err := list()
		if err != nil {
			return nil, fmt.Errorf("look at the pod: %w", err)
		}
		if err := lookForConflict(r.Node, link, r.Given(addrs), acd.Options{Interval: c.Interval, Retries: c.Retries}); err != nil {
			return nil, err
		}
	}
	var all []routing.Address
	given, err := plugin.Settled(func() (given []routing.Address, err error) {
		all, err = list()
		return r.Given(all), err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	if r.Verb == "CHECK" {
		if err := missing(r, all); err != nil {
			return nil, err
		}
	}
	if w.Given, err = plugin.Sound(r.Node, link, given); err != nil {
		return nil, err
	}
	w.Addrs = slices.Clone(w.Given)
	for _, a := range routing.Usable(all) {
		if !r.ByResult() && !slices.Contains(w.Given, a) {
			w.Addrs = append(w.Addrs, a)
		}
	}
	return w, w.lookAtMAC(config)
}

// missing tells which address of the result the interface has not: without the last of a family the plan has nothing of
// that family, so nothing else would tell.
func missing(r *plugin.Request, have []routing.Address) error {
	for _, want := range r.PodAddresses() {
		if !slices.ContainsFunc(have, func(a routing.Address) bool { return a.Prefix.Addr() == want.Addr() }) {
			return plugin.Errorf(plugin.CodeCheck, "address is missing: %s on %s", want, r.IfName)
		}
	}
	return nil
}

func lookForConflict(node *routing.Namespace, link *routing.Link, addrs []routing.Address, o acd.Options) error {
	err := acd.Check(node, link, addrs, o)
	switch {
	case errors.As(err, new(*acd.Conflict)):
		return plugin.Errorf(plugin.CodeConflict, "%w", err)
	case errors.Is(err, acd.ErrUndecided):
		return plugin.Errorf(plugin.CodeTryAgain, "%w", err)
	}
	return err
}

// lookAtMAC computes the hardware address of the interface, if it is to have one of ours. One that the runtime asked the
// interface plugin for wins.
func (w *Wire) lookAtMAC(config *conflist.Underlay) error {
	prefix, given := config.MACPrefix.Octets()
	if !given || config.MAC != "" || len(w.Given) == 0 {
		return nil
	}
	mac, err := acd.MAC(prefix, w.Given)
	if err != nil {
		return plugin.Errorf(plugin.CodeLink, "mac_prefix: %w", err)
	}
	w.MAC = &routing.LinkMAC{Link: w.Link, MAC: mac}
	err = w.MAC.Possible()
	if errors.Is(err, routing.ErrSharedMAC) {
		return &conflist.KeyError{
			Key: "mac_prefix", Value: config.MACPrefix.String(), Problem: err.Error(), Accepted: "a macvlan or an SR-IOV function, or no mac_prefix",
		}
	}
	return err
}

// Address gives the interface its hardware address, and tells the wire. It comes first: with another one the kernel
// forgets the interface's neighbours.
func (w *Wire) Address(p *plugin.Plan) {
	if w.MAC != nil {
		p.Add(w.MAC)
		p.Then(func() error { return acd.Announce(w.Link, w.Given) })
	}
}

// OnlyMAC reports whether the hardware address is all that is asked for.
func OnlyMAC(config *conflist.Underlay) bool {
	_, given := config.MACPrefix.Octets()
	return config.OnlyOpMAC && given
}

// Status tells whether an ADD could succeed: the node has an address that pods can reach it by, and a firewall backend
// can write what it is asked for by probe.
func Status(node *routing.Namespace, config *conflist.Underlay, probe func(fw firewall.Firewall, nodes []netip.Addr) error) error {
	addrs, err := NodeAddresses(node)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return plugin.Errorf(plugin.CodeNotReady, "the node has no address that a pod could reach it by")
	}
	fw, err := firewall.Open(string(config.Firewall))
	if err == nil {
		err = probe(fw, addrs)
	}
	if err != nil {
		return plugin.Errorf(plugin.CodeNotReady, "firewall: %w", err)
	}
	return nil
}
