package conflist

import (
	"slices"
	"strings"
)

// lintRouter looks at a valid configuration of router for itself, and at the plugins before it.
func (l *linter) lintRouter(p plugin, c *Underlay, before []plugin) {
	for _, m := range p.members {
		switch {
		case m.key == "host_rule_table" && !c.HostRoute:
			l.advise(p.path+m.key, excerpt(m.raw), "with host_route false it has no effect; leave it out")
		case m.key == "route_table_start" && c.MigrateRoute == MigrateNever:
			l.advise(p.path+m.key, excerpt(m.raw), "with migrate_route 0 it has no effect; leave it out")
		}
	}
	if c.HostRoute && c.HostRuleTable > DefaultRouteTableStart && c.HostRuleTable != DefaultHostRuleTable {
		l.advise(p.path+"host_rule_table", decimal(c.HostRuleTable), "may become that of a pod of veth-host, whose tables begin at 256; right only on nodes without such pods: leave it out, or take 251 or 252")
	}
	for _, other := range []struct {
		owner       string
		first, last int
	}{
		{"Calico's by default (RouteTableRanges)", 1, 250},
		{"Cilium's (proxy)", 2004, 2005},
	} {
		if c.HostRoute && other.first <= c.HostRuleTable && c.HostRuleTable <= other.last {
			l.advise(p.path+"host_rule_table", decimal(c.HostRuleTable), "is one of "+other.owner+"; all packets of the node ask it first: leave it out or take a free one")
		}
	}
	if number, ok := strings.CutPrefix(c.OverlayInterface, "net"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		l.advise(p.path+"overlay_interface", c.OverlayInterface, "is what Multus calls an interface beside the first one; the overlay's is eth0, as a rule")
	}
	if len(before) > 0 {
		if first := before[0].name(); slices.Contains([]string{"calico", "cilium-cni", "flannel"}, first) {
			l.advise(before[0].path+"type", first, "is the overlay's plugin; router belongs after that of a later interface, such as macvlan, in a NetworkAttachmentDefinition")
		}
	}
}

// lintTwice looks for subnets that two of the lists have.
func (l *linter) lintTwice(path string, c *Underlay) {
	lists := c.hijackLists()
	for i, list := range lists {
		for _, one := range list.prefixes {
			for _, earlier := range lists[:i] {
				for _, other := range earlier.prefixes {
					if one.Overlaps(other) {
						l.advise(path+list.key, one.String(), "overlaps "+other.String()+" of "+earlier.key+"; one is enough, if both are right")
					}
				}
			}
		}
	}
}

// A hijackList is one of the keys that say what is behind the node.
type hijackList struct {
	key      string
	prefixes Prefixes
}

func (c *Underlay) hijackLists() []hijackList {
	return []hijackList{
		{"overlay_hijack_subnet", c.Overlay},
		{"service_hijack_subnet", c.Service},
		{"additional_hijack_subnet", Prefixes(c.Additional)},
	}
}
