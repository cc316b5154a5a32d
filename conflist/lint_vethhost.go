package conflist

import (
	"encoding/json"
	"net/netip"
)

// lintVethHost looks at a valid configuration of veth-host for itself.
func (l *linter) lintVethHost(path string, c *VethHost) {
	if c.ContainerInterface == "eth0" { // CNI_IFNAME of all runtimes
		l.advise(path+"containerInterface", c.ContainerInterface, "the name of the pod's own interface; write veth0")
	}
	for _, mark := range []struct {
		key  string
		bits Mark
	}{{"nodePortMark", c.NodePortMark}, {"serviceMark", c.ServiceMark}} {
		for _, other := range []struct {
			owner string
			bits  Mark
		}{
			{"kube-proxy's masquerade mark", 0x4000},
			{"kube-proxy's drop mark", 0x8000},
			{"Cilium's mark", 0x0f00},
			{"Calico's default mark", 0xffff0000},
		} {
			if mark.bits&other.bits != 0 {
				l.advise(path+mark.key, mark.bits.String(), "shares a bit with "+other.owner+" "+other.bits.String()+"; leave it out or take a free bit")
			}
		}
	}
	if c.Firewall == IPTables && len(c.ServiceCIDR) == 0 {
		l.advise(path+"serviceCidr", "", "missing; with iptables it tells Service traffic from other traffic")
	}
}

// An underlay is what the linter looks at in the interface plugin before ours.
type underlay struct {
	path string

	Type   string `json:"type"`
	Master string `json:"master"`
	Mode   string `json:"mode"`
	MTU    int    `json:"mtu"`
	IPAM   struct {
		Type      string      `json:"type"`
		ipRange               // host-local, a single range
		Ranges    [][]ipRange `json:"ranges"` // host-local
		Addresses []struct {  // static
			Address string `json:"address"`
			Gateway string `json:"gateway"`
		} `json:"addresses"`
	} `json:"ipam"`
}

// An ipRange is a subnet in which the IPAM gives out addresses.
type ipRange struct {
	path       string // of the subnet, "ipam.ranges[0][0]"
	hostLocal  bool   // it gives out addresses of the subnet, and its leases are one node's
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Gateway    string `json:"gateway"`
}

func underlayOf(p plugin) underlay {
	var u underlay
	if err := json.Unmarshal(p.raw, &u); err != nil {
		u = underlay{} // the plugin itself will say what is wrong with it
	}
	u.path = p.path
	return u
}

// ranges are the subnets of host-local and static. Other IPAM plugins keep theirs elsewhere.
func (u underlay) ranges() []ipRange {
	var all []ipRange
	if r := u.IPAM.ipRange; r.Subnet != "" {
		r.path, r.hostLocal = u.path+"ipam", u.IPAM.Type == "host-local"
		all = append(all, r)
	}
	for i, set := range u.IPAM.Ranges {
		for j, r := range set {
			r.path, r.hostLocal = u.path+"ipam.ranges["+decimal(i)+"]["+decimal(j)+"]", u.IPAM.Type == "host-local"
			all = append(all, r)
		}
	}
	for i, a := range u.IPAM.Addresses {
		all = append(all, ipRange{path: u.path + "ipam.addresses[" + decimal(i) + "]", Subnet: a.Address, Gateway: a.Gateway})
	}
	return all
}

// lintInterface compares with the keys of macvlan and ipvlan.
func (l *linter) lintInterface(path string, c *VethHost, u underlay) {
	if u.Master != "" && u.Master != c.HostInterface {
		l.advise(path+"hostInterface", c.HostInterface, "is not the master of the pod's interface, "+shorten(u.Master)+
			"; right only if the node's addresses are on "+c.HostInterface)
	}
	l.lintMode(u)
	if u.MTU > 0 && c.MTU > u.MTU {
		l.advise(path+"mtu", decimal(c.MTU), "bigger than that of the pod's interface, "+decimal(u.MTU)+"; leave it out or lower it")
	}
}

// lintMode looks at the mode of macvlan and ipvlan.
func (l *linter) lintMode(u underlay) {
	switch {
	case u.Type == "macvlan" && u.Mode != "" && u.Mode != "bridge":
		l.advise(u.path+"mode", u.Mode, "keeps the pods of one node from each other; write bridge")
	case u.Type == "ipvlan" && u.Mode != "" && u.Mode != "l2":
		l.advise(u.path+"mode", u.Mode, "leaves the pod without ARP and ND on the wire; write l2")
	}
}

// lintIPAM compares with the addresses that the IPAM of the interface plugin gives out.
func (l *linter) lintIPAM(path string, c *VethHost, u underlay) {
	for _, r := range u.ranges() {
		prefix, ok := l.lintRange(r)
		if !ok {
			continue
		}
		if service, ok := c.ServiceCIDR.Overlaps(prefix); ok {
			l.advise(path+"serviceCidr", service.String(), "overlaps the underlay "+prefix.String()+"; pods would take machines on the wire for Services")
		}
		if prefix.Addr().Is6() && c.MTU > 0 && c.MTU < minIPv6MTU {
			l.advise(path+"mtu", decimal(c.MTU), "too small for the IPv6 of "+r.path+"; leave it out or write at least "+decimal(minIPv6MTU))
		}
	}
}

// lintRange looks at one subnet for itself, and returns it unless it is none: then the IPAM itself will say so.
func (l *linter) lintRange(r ipRange) (subnet netip.Prefix, ok bool) {
	if r.Gateway == "" {
		l.advise(r.path+".gateway", "", "missing; name the router of "+shorten(r.Subnet))
	}
	if r.hostLocal {
		l.lintShare(r)
	}
	prefix, err := netip.ParsePrefix(r.Subnet)
	return prefix.Masked(), err == nil
}

// lintShare looks at the node's share of a subnet of host-local. Without one, two nodes give out the same addresses: the leases are
// files of the node.
func (l *linter) lintShare(r ipRange) {
	for _, bound := range []struct{ key, value string }{{"rangeStart", r.RangeStart}, {"rangeEnd", r.RangeEnd}} {
		if bound.value == "" {
			l.advise(r.path+"."+bound.key, "", "missing; host-local's leases are one node's: give each node a range of "+shorten(r.Subnet)+" of its own, or take an IPAM that spans nodes")
		}
	}
	start, noStart := netip.ParseAddr(r.RangeStart)
	end, noEnd := netip.ParseAddr(r.RangeEnd)
	gateway, noGateway := netip.ParseAddr(r.Gateway)
	if noStart == nil && noEnd == nil && noGateway == nil && start.Compare(gateway) <= 0 && gateway.Compare(end) <= 0 {
		l.advise(r.path+".gateway", gateway.String(), "lies in the range from "+start.String()+" to "+end.String()+"; give pods a range without it")
	}
}
