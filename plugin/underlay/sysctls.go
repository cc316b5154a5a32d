package underlay

import (
	"fmt"

	"underlay-cni/conflist"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// An RPFilter is the key rp_filter, and which of the node's interfaces have another value.
type RPFilter struct {
	assignment string
	loose      bool // 2
	setHost    bool
	others     []*routing.InetConf // with set_host
}

// LookAtRPFilter asks the node about its interfaces only where they are to have the value too.
func LookAtRPFilter(node *routing.Namespace, key conflist.RPFilter) (r RPFilter, err error) {
	r = RPFilter{assignment: fmt.Sprintf("rp_filter=%d", key.Value), loose: key.Value == 2, setHost: key.SetHost}
	if r.setHost {
		r.others, err = node.OtherInetConfs(routing.Values(r.assignment)[0])
	}
	return r, err
}

// String is the assignment to the sysctl of an interface.
func (r RPFilter) String() string { return r.assignment }

// OfNode sets the value on the node, if set_host asks for that. It stays: other pods rely on it by then.
func (r RPFilter) OfNode(p *plugin.Plan, node *routing.Namespace) {
	if !r.setHost {
		return
	}
	for _, all := range []string{"all", "default"} {
		p.Add(&routing.Sysctls{NS: node, Dir: routing.V4Conf + all, Values: routing.Values(r.assignment), Shared: true})
	}
	for _, c := range r.others {
		p.Add(c)
	}
}

// PodSysctls makes every rp_filter work in the pod: the way back is looked up as the packet is, with its mark. The kernel goes by
// the greater one of the interface's value and of all's (Documentation/networking/ip-sysctl.rst), so that all cannot matter where
// the interface has 2. And a neighbour on the wire that takes the pod for a router gets nothing by the interface towards the
// node: a new network namespace has the node's forwarding in IPv4, which is on. What wants to forward in the pod turns it on by
// itself, afterwards. The interface towards the node may get more assignments, in both families.
func PodSysctls(p *plugin.Plan, wire, by *routing.Link, filter RPFilter, v6 bool, more ...string) {
	if !filter.loose {
		p.Add(&routing.Sysctls{NS: wire.NS, Dir: routing.V4Conf + "all", Values: routing.Values(filter.assignment)})
	}
	p.Add(
		&routing.InetConf{Dev: wire, Values: routing.Values(filter.assignment)},
		&routing.InetConf{Dev: wire, Values: routing.Values("forwarding=0"), Once: true},
		&routing.InetConf{Dev: by, Values: routing.Values(append([]string{filter.assignment, "src_valid_mark=1"}, more...)...)},
	)
	if v6 { // which runtimes and overlays without it switch off
		p.Add(routing.Inet6Conf(wire, "disable_ipv6=0"), routing.Inet6Conf(by, append([]string{"disable_ipv6=0"}, more...)...))
	}
}
