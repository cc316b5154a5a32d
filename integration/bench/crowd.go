package main

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// crowd is how many pods, or links, are on the nodes of which veth has its bars.
func (b *bench) crowd() int { return b.pods[len(b.pods)-1] }

// vethAlone measures ADD and DEL of veth while no pod is there, on this node or another.
func (b *bench) vethAlone(n *node) (scaleResult, error) {
	res := scaleResult{Name: "none"}
	b.say("ADD and DEL of veth without pods")
	for range b.runs {
		if err := b.addDel(b.others[0], n, &res.Add, &res.Del); err != nil {
			return res, err
		}
	}
	return res, nil
}

// vethCrowded measures ADD and DEL of veth on a node with nothing, on one with many pods and on one with many links that
// are nobody's, taking turns. The kernel has all of them, and those that earlier measurements have left.
func (b *bench) vethCrowded(empty *node) ([]scaleResult, error) {
	pods, err := newNode(b.macvlan)
	if err != nil {
		return nil, err
	}
	links, err := newNode(b.macvlan)
	if err != nil {
		return nil, err
	}
	if err := b.populate(b.others[0], pods, b.crowd()); err != nil {
		return nil, err
	}
	if err := links.addLinks(b.crowd()); err != nil {
		return nil, err
	}
	nodes := []*node{empty, pods, links}
	res := []scaleResult{{Name: "none, beside the others"}, {Name: count(b.crowd()) + " pods", Pods: b.crowd()}, {Name: count(b.crowd()) + " links"}}
	b.say("ADD and DEL of veth with %d pods, and with %[1]d links", b.crowd())
	for range b.runs {
		for i, n := range nodes {
			if err := b.addDel(b.others[0], n, &res[i].Add, &res[i].Del); err != nil {
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
