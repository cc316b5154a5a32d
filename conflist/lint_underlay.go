package conflist

import (
	"net/netip"
	"slices"
)

// lintAsUnderlay looks at a veth or a router, and at the plugins before it.
func (l *linter) lintAsUnderlay(p plugin, before []plugin) {
	c, errs := decodeUnderlayMembers(p.withName(), p.name())
	l.refuse(p.path, errs...)
	if len(errs) > 0 {
		return
	}
	l.lintUnderlay(p, c)
	if p.name() == "router" {
		l.lintRouter(p, c, before)
	}
	for _, b := range before {
		u := underlayOf(b)
		l.lintMode(u)
		for _, r := range u.ranges() {
			if subnet, ok := l.lintRange(r); ok {
				l.lintHijack(p.path, c, subnet)
			}
		}
		if _, given := c.MACPrefix.Octets(); given && u.Type == "ipvlan" {
			l.advise(p.path+"mac_prefix", c.MACPrefix.String(), "an ipvlan has the hardware address of its parent; leave it out")
		}
	}
}

// lintUnderlay looks at a valid configuration for itself.
func (l *linter) lintUnderlay(p plugin, c *Underlay) {
	for _, m := range p.members {
		if p.name() == "veth" && slices.Contains(routerKeys(), m.key) {
			l.advise(p.path+m.key, excerpt(m.raw), "veth ignores it, it is a key of router; leave it out")
		}
		if p.name() == "router" && m.key == "veth_link_address" {
			l.advise(p.path+m.key, excerpt(m.raw), "router ignores it, it is a key of veth; leave it out")
		}
	}
	if len(c.Hijack()) == 0 {
		l.advise(p.path+"service_hijack_subnet", "[]", "no subnet at all; right only where something in the pod, such as eBPF, takes care of Services")
	}
	l.lintTwice(p.path, c)
	if _, given := c.MACPrefix.Octets(); c.OnlyOpMAC && !given {
		l.advise(p.path+"only_op_mac", "true", "without mac_prefix it has no effect; leave it out")
	}
	if c.SkipCall {
		l.advise(p.path+"skip_call", "true", "the plugin does nothing")
	}
}

// lintHijack compares with a subnet on the wire. A wider one does no harm: the wire's own is more specific.
func (l *linter) lintHijack(path string, c *Underlay, subnet netip.Prefix) {
	for _, list := range c.hijackLists() {
		for _, one := range list.prefixes {
			if one.Overlaps(subnet) && one.Bits() >= subnet.Bits() && !one.IsSingleIP() {
				l.advise(path+list.key, one.String(), "is on the underlay "+subnet.String()+"; pods would look for machines on the wire behind their node")
			}
		}
	}
}
