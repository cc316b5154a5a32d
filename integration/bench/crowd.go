package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A crowd is where veth or router is measured: nodes with nothing, with many pods, and with many links that are nobody's.
type crowd struct {
	*bench
	plugin             contender
	empty, pods, links *node
	size               int // how many
}

// newCrowd makes the nodes while few files are open: the nftables library waits by select(2).
func (b *bench) newCrowd(plugin entrant) (*crowd, error) {
	pods, err := newNode(b.macvlan)
	if err != nil {
		return nil, err
	}
	links, err := newNode(b.macvlan)
	if err != nil {
		return nil, err
	}
	pods.overlay, links.overlay = plugin.overlay, plugin.overlay
	return &crowd{b, plugin.contender, plugin.node, pods, links, b.pods[len(b.pods)-1]}, nil
}

// measure measures ADD and DEL on the nodes with nothing and with many links, taking turns, and then on those with nothing
// and with many pods. The pods are gone at the end.
func (c *crowd) measure() ([]scaleResult, error) {
	if err := c.links.addLinks(c.size); err != nil {
		return nil, err
	}
	c.say("ADD and DEL of %s with none, and with %d links", c.plugin.Name, c.size)
	first, err := c.inTurns([]*node{c.empty, c.links}, scaleResult{Name: "none"}, scaleResult{Name: count(c.size) + " links"})
	if err != nil {
		return nil, err
	}
	if err := c.populate(c.plugin, c.pods, c.size); err != nil {
		return nil, err
	}
	c.say("ADD and DEL of %s with %d pods", c.plugin.Name, c.size)
	second, err := c.inTurns([]*node{c.empty, c.pods}, scaleResult{Name: "none, beside the pods"}, scaleResult{Name: count(c.size) + " pods", Pods: c.size})
	if err != nil {
		return nil, err
	}
	return slices.Concat(first, second), c.pods.free()
}

func (c *crowd) inTurns(nodes []*node, res ...scaleResult) ([]scaleResult, error) {
	for range c.runs {
		for i, n := range nodes {
			if err := c.addDel(c.plugin, n, &res[i].Add, &res[i].Del); err != nil {
				return nil, err
			}
		}
	}
	return res, nil
}

// addLinks gives the node that many interfaces without addresses: the ends of veth pairs, all up.
func (n *node) addLinks(links int) error {
	for i := range links / 2 {
		pair := netlink.NewVeth(netlink.LinkAttrs{Name: fmt.Sprint("link", i), MTU: 1500})
		pair.PeerName = fmt.Sprint("peer", i)
		if err := n.rt.LinkAdd(pair); err != nil {
			return fmt.Errorf("ip link add %s: %w", pair.Name, err)
		}
		for _, name := range []string{pair.Name, pair.PeerName} {
			if err := up(n.rt, name, netip.Prefix{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// free gives up the namespaces of the node's pods, and waits until the kernel has done away with them: it is busy with
// that for seconds.
func (n *node) free() error {
	for _, p := range n.made {
		if err := unix.Close(int(p)); err != nil {
			return fmt.Errorf("close a pod's namespace: %w", err)
		}
	}
	n.made = nil
	for deadline := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
		links, err := n.rt.LinkList()
		switch {
		case errors.Is(err, netlink.ErrDumpInterrupted): // they are going right now
		case err != nil:
			return fmt.Errorf("ip link: %w", err)
		case len(links) <= 3: // lo, and both wires
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d links are there a minute after their pods: %w", len(links), os.ErrDeadlineExceeded)
		}
	}
}
