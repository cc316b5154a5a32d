package main

import (
	"flag"
	"slices"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/routing"
)

var gcCommand = command{
	name: "gc", args: "[--network NAME] [--yes]",
	about: "remove what belongs to pods that are gone",
	help: `
Does what the GC verb of the plugins does, for callers that never call it (Multus, containerd). It removes

  - what is provably dead: rules of interfaces that are gone, host ends without a peer;
  - attachments that no runtime knows (there is no result of theirs in any --cache-dir) and in whose pod no process is,
    unless a CNI plugin runs for them at this moment;
  - host ends that do not say whose they are, once their pod is gone.

Attachments of veth that share a host end are judged one by one, and the pair goes with the last of them. Those of router are
found by the further names of the overlay's interface on the node, which go with it; the rule 1000 that they share stays.

It lists everything with the reason, and what it keeps, and changes nothing unless --yes is given. Where there is no
--cache-dir at all, only what is provably dead is removed.

With -o json: {"dryRun", "removals": [{"object", "network", "containerID", "ifname", "hostEnd", "netns", "remove", "why",
"changes": [{"where", "command"}], "done", "error"}]}.

Exit status 1: a dry run that would remove something.`,
	flags: func(f *flag.FlagSet, c *call) {
		c.addPlaces(f)
		f.StringVar(&c.network, "network", "", "`name` of the only network that is looked at")
		f.BoolVar(&c.yes, "yes", false, "remove it")
		f.BoolVar(&c.verbose, "v", false, "show the commands that do the same")
	},
	run: gc,
}

func gc(c *call) error {
	inv, err := c.take()
	if err != nil {
		return err
	}
	defer inv.Node.Close()
	all, err := c.dead(inv)
	if err != nil {
		return err
	}
	var gone []*inventory.Attachment
	for _, a := range inOrder(inv) {
		if a.Link == nil || a.Link.Peer == 0 || c.network != "" && c.network != a.Network {
			continue // not there, or among the dead
		}
		remove, why := judge(inv, a)
		if !remove {
			all = append(all, removal{
				Object: "attachment", Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName, HostEnd: a.HostEndName(), Netns: a.Netns, Why: why,
			})
			continue
		}
		r, err := removalOfAttachment(inv, a, why, gone)
		if err != nil {
			return err
		}
		gone = append(gone, a)
		r.again = func() (bool, string) { return c.judgeAgain(a) }
		all = append(all, r)
	}
	idle, err := idleRules(inv.Node)
	if err != nil {
		return err
	}
	return c.remove(append(all, idle...))
}

// judgeAgain looks at the node once more: an ADD may have come to its end meanwhile.
func (c *call) judgeAgain(a *inventory.Attachment) (remove bool, why string) {
	inv, err := c.take()
	if err != nil {
		return false, err.Error()
	}
	defer inv.Node.Close()
	for _, now := range slices.Concat(inv.Attachments, inv.Strays) {
		if now.Link != nil && now.Link.Name == a.Link.Name && now.Use == a.Use {
			return judge(inv, now)
		}
	}
	return false, "it has gone meanwhile"
}

// dead is what the plugins' GC would remove without being told who is alive.
func (c *call) dead(inv *inventory.Inventory) (all []removal, err error) {
	networks := inv.NetworkNames()
	if c.network != "" {
		networks = []string{c.network}
	}
	if len(networks) == 0 {
		networks = []string{""} // the rules of interfaces that are gone have no network
	}
	if c.network == "" { // of which leftovers tell only a number
		if all, err = leftovers(inv.Node); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for _, network := range networks {
		config, err := bareConfig(network)
		if err != nil {
			return nil, err
		}
		for _, k := range kinds() {
			p, err := k.GC(plugin.NewRequest("GC", plugin.Attachment{Network: network}, config, nil, inv.Node, nil))
			if err != nil {
				return nil, err
			}
			for _, change := range p.Changes() {
				if seen[change.String()] {
					continue
				}
				seen[change.String()] = true
				switch change := change.(type) {
				case *routing.NoIif:
					all = append(all, removalOf("rules of "+change.Iif, "", "the interface is gone", change))
				default:
					all = append(all, removalOf(nameOf(change), network, "its other end is gone", change))
				}
			}
		}
	}
	return all, nil
}

// judge decides whether an attachment that is whole is one of a pod that is gone.
func judge(inv *inventory.Inventory, a *inventory.Attachment) (remove bool, why string) {
	switch {
	case a.Cached != nil:
		return false, "a runtime knows it"
	case a.Lives:
		return false, "a process is in its pod"
	case inv.BeingAdded(a):
		return false, "a CNI plugin runs for it"
	case !inv.HasCache:
		return false, "no runtime keeps results where they were looked for (--cache-dir), so that nobody says it is gone"
	case a.Netns == "":
		return true, "no runtime knows it, and its pod's network namespace has neither a name nor a process"
	default:
		return true, "no runtime knows it, and no process is in its pod"
	}
}
