package main

import (
	"cmp"
	"slices"

	"underlay-cni/plugin/router/router"
	"underlay-cni/plugin/underlay"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/routing"
)

// inOrder lists the attachments so that those of a pod come in the order of its interfaces, as they were added: a later one of
// router gives back what an earlier one has left.
func inOrder(inv *inventory.Inventory) []*inventory.Attachment {
	all := slices.Concat(inv.Attachments, inv.Strays)
	slices.SortStableFunc(all, func(a, b *inventory.Attachment) int {
		switch order := cmp.Or(cmp.Compare(a.HostEndLink(), b.HostEndLink()), cmp.Compare(a.Netns, b.Netns)); {
		case order != 0:
			return order
		case underlay.Before(a.IfName, b.IfName):
			return -1
		case underlay.Before(b.IfName, a.IfName):
			return 1
		}
		return 0
	})
	return all
}

// leftovers are what no DEL finds on the node.
func leftovers(node *routing.Namespace) (all []removal, err error) {
	left, err := router.Leftovers(node)
	for _, l := range left {
		all = append(all, removalOf("altname "+l.Name+" of "+l.Dev, "", "no attachment of the interface has it", l.Changes...))
	}
	return all, err
}

// strangers are routes that a rule of router leads to and that are none of its attachments'. They stay when the rule goes.
func strangers(node *routing.Namespace, r routing.ListedRule) (all []removal, err error) {
	if !router.OwnsRule(r) {
		return nil, nil
	}
	routes, err := router.Unclaimed(node, r.Table)
	for _, route := range routes {
		if route.Dst.Addr().Is6() == r.V6 {
			all = append(all, removal{Object: "route " + route.String(), Why: "no altname tells that it is ours; the rule that leads to it goes"})
		}
	}
	return all, err
}

// idleRules are the rules of router that no attachment uses.
func idleRules(node *routing.Namespace) (all []removal, err error) {
	rules, err := node.Rules()
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if !router.OwnsRule(r) {
			continue
		}
		used, err := router.Used(node, r)
		if err != nil {
			return nil, err
		}
		if !used {
			all = append(all, removal{Object: familyWord(r.V6) + "rule " + r.String(), Why: "shared by all pods of router, and none is attached; `underlayctl uninstall` removes it"})
		}
	}
	return all, nil
}
