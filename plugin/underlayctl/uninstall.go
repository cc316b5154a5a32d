package main

import (
	"flag"
	"fmt"
	"slices"

	"underlay-cni/firewall"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/plugin/underlayctl/networkd"
	"underlay-cni/plugin/veth-host/vethhost"
	"underlay-cni/routing"
)

var uninstallCommand = command{
	name: "uninstall", args: "[--network NAME] [--yes]",
	about: "remove everything of the plugins from this node",
	help: `
Lists, and with --yes removes, every object of the plugins: host ends with what hangs on them, in pods that live what DEL takes
away there and the firewall's rules, the rules of the node (by protocol kernel, their priority and what they do), the tables
of nftables and the chains of iptables (both variants, both families), and the files that diagnose --fix has written for
systemd-networkd. Pods that live keep their own interface and lose their node. What others have stays, whatever its
priority or its place. Take the plugin out of the conflists before, or the next pod brings it back.

Of router: on the overlay's interfaces the further names, the routes and the neighbours of which these tell, the rule 1000 that
all pods share, and in pods that live what DEL takes away there and the table inet router; the overlay's first default route is
the pod's again. Routes of its table of which no further name tells, as those of the existing plugin, stay and are listed.

With --network only that network; what networks share stays as long as there is another one: rules of the node, and in a pod
of veth the pair and the firewall's rules, in one of router the rules for answers. What iptables makes for itself the first
time it is called, empty tables, stays.

With -o json: as gc.

Exit status 1: a dry run that would remove something. A second run finds nothing.`,
	flags: func(f *flag.FlagSet, c *call) {
		c.addPlaces(f)
		c.addSystemd(f)
		f.StringVar(&c.network, "network", "", "`name` of the only network that is removed")
		f.BoolVar(&c.yes, "yes", false, "remove it")
		f.BoolVar(&c.verbose, "v", false, "show the commands that do the same")
	},
	run: uninstall,
}

func uninstall(c *call) error {
	inv, err := c.take()
	if err != nil {
		return err
	}
	defer inv.Node.Close()
	sets, err := firewall.FindInstalled(inv.Node)
	if err != nil {
		return err
	}
	all, others, err := c.attachments(inv)
	if err != nil {
		return err
	}
	var tables []removal
	for _, set := range sets {
		if set.InPod() && set.Owner != vethhost.Plugin().Name {
			continue // in a pod it would be ours: here it is somebody's who calls his table veth, or router
		}
		if c.network != "" && set.Network != c.network && (set.Group == 0 || set.Group != groupOf(set.Owner, c.network)) {
			others = true
			continue
		}
		tables = append(tables, removalOf(set.Name(), set.Network, "rules of a network", set))
	}
	rules, err := c.rules(inv, all, others)
	if err != nil {
		return err
	}
	if c.network == "" { // of which leftovers tell only a number
		left, err := leftovers(inv.Node)
		if err != nil {
			return err
		}
		all = append(all, left...)
	}
	all = slices.Concat(all, rules, tables)
	if !others {
		all = append(all, c.files()...)
	}
	return c.remove(all)
}

// attachments are those that go, and whether there are others, that stay.
func (c *call) attachments(inv *inventory.Inventory) (all []removal, others bool, err error) {
	var gone []*inventory.Attachment
	for _, a := range inOrder(inv) {
		if !a.There() {
			continue
		}
		if c.network != "" && c.network != a.Network {
			others = true
			continue
		}
		why := "a pod's"
		if a.Lives {
			why = "a pod's, which lives and loses its node"
		}
		r, err := removalOfAttachment(inv, a, why, gone)
		if err != nil {
			return nil, false, err
		}
		gone = append(gone, a)
		all = append(all, r)
		pod, err := inv.Node.Open(a.Netns)
		if a.Netns == "" || err != nil || c.stays(inv, a) {
			continue // with the pod its rules are gone, and another attachment needs them as long as it is there
		}
		sets, err := firewall.FindInstalled(pod)
		if err != nil {
			return nil, false, fmt.Errorf("look at pod %s: %w", a.Netns, err)
		}
		for _, set := range sets {
			if set.InPod() && set.Owner == a.Kind.Name {
				all[len(all)-1].also(set)
			}
		}
		closeBoth := all[len(all)-1].close
		all[len(all)-1].close = func() {
			pod.Close()
			if closeBoth != nil {
				closeBoth()
			}
		}
	}
	return all, others, nil
}

// stays tells whether another attachment that shares the host end stays.
func (c *call) stays(inv *inventory.Inventory, a *inventory.Attachment) bool {
	return slices.ContainsFunc(slices.Concat(inv.Attachments, inv.Strays), func(other *inventory.Attachment) bool {
		return other.There() && other.Kind == a.Kind && inv.SamePod(a, other) && c.network != "" && c.network != other.Network
	})
}

// groupOf is the interface group that a plugin gives the host ends of a network.
func groupOf(plugin, network string) uint32 { return kindOf(plugin).shows.Group(network) }

// rules are those of the node: of interfaces that are gone, and, unless other networks need them, those that are shared.
func (c *call) rules(inv *inventory.Inventory, attachments []removal, others bool) (all []removal, err error) {
	rules, err := inv.Node.Rules()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, a := range attachments {
		seen[a.HostEnd] = true // its rules go with it
	}
	for _, r := range rules {
		switch {
		case !owned(r) || seen[r.Iif] && r.Iif != "":
		case r.Iif != "":
			if _, err := inv.Node.Link(r.Iif).Index(); err == nil {
				continue // of another network, or of somebody's interface
			}
			seen[r.Iif] = true
			all = append(all, removalOf("rules of "+r.Iif, "", "the interface is gone", &routing.NoIif{NS: inv.Node, Pref: r.Pref, Iif: r.Iif}))
		case !others:
			all = append(all, removalOf(familyWord(r.V6)+"rule "+r.String(), "", "shared by networks", &routing.NoRule{Rule: r.Rule(inv.Node)}))
			stay, err := strangers(inv.Node, r)
			if err != nil {
				return nil, err
			}
			all = append(all, stay...)
		}
	}
	return all, nil
}

// files are those that diagnose --fix has written.
func (c *call) files() (all []removal) {
	for _, f := range []*networkd.File{networkd.KeepForeign(c.systemdRoot), networkd.KeepOff(c.systemdRoot)} {
		if f.Verify() == nil {
			all = append(all, removalOf("file "+f.Path, "", "written by diagnose --fix", &networkd.NoFile{File: f}))
		}
	}
	return all
}
