// Package firewall keeps the packet-filter rules that send a pod's packets the right way: marks before
// routing, source translation after it, and in the pod the marks that make a reply leave by the
// interface its connection came in by.
//
// Rules match the interface group of a network's host ends, never a pod: there is one rule set per
// network on the node (none of router), however many pods it has, and one in each pod. The package knows
// neither routes nor CNI. Its backends translate the same description; nftables.go is one of them.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
)

// Node describes the rules that one network needs on the node.
type Node struct {
	Network       string     // CNI network name; names the rule set
	Group         uint32     // interface group of the network's host ends
	HostInterface string     // where NodePort clients come in
	Addr4, Addr6  netip.Addr // the node's addresses, the source of what goes back into a pod; not valid: family unused
	NodePorts     []Ports
	ServiceCIDRs  []netip.Prefix
	NodePortMark  uint32 // look up the main table
	ServiceMark   uint32 // look up the pod's own table
	Masquerade    bool   // what pods open to the outside gets the node's address
	SpoofCheck    bool   // a pod's packets have a source that the node routes back to it
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// Pod describes the rules in one pod.
type Pod struct {
	Interface    string // the underlay interface, eth0
	Veth         string // the end of the veth pair, veth0
	NodePortMark uint32 // connection came in by Interface
	ServiceMark  uint32 // connection came in by Veth
	IPv4, IPv6   bool   // the families that the pod has
}

// A Change is one rule set, as the plan of a plugin wants it: Apply makes it so, in one transaction, and
// writes nothing if it is so already.
type Change interface {
	String() string // a command for a shell that does the same
	Apply() error
	Verify() error
	Revert() error
	// Backend is what the configuration calls the backend that the rule set belongs to.
	Backend() string
}

// A Namespace is a network namespace: Do runs f on a thread inside it, which is where a socket that f
// opens belongs from then on.
type Namespace interface {
	Do(f func() error) error
	// Command is a command that does in the namespace what the given one does where it is typed.
	Command(line string) string
}

// A Firewall writes rule sets into network namespaces.
type Firewall interface {
	// Node is the rule set of a network. It survives the network's last pod; its Revert does nothing,
	// because another pod may rely on it by then.
	Node(ns Namespace, n Node) Change
	// Pod is the rule set in a pod. Its Revert deletes it.
	Pod(ns Namespace, p Pod) Change
	// Services is the rule set of a network of veth on the node. Its Revert does nothing, as Node's.
	Services(ns Namespace, s Services) Change
	// Replies is the rule set of veth or router in a pod. Its Revert deletes it.
	Replies(ns Namespace, r Replies) Change
	// Probe tells whether the rule set of a network could be written in a namespace, changing nothing.
	Probe(ns Namespace, n Node) error
	// ProbeServices is the same for a network of veth.
	ProbeServices(ns Namespace, s Services) error
	// ProbeReplies is the same for a pod of veth or router.
	ProbeReplies(r Replies) error
}

// The names of the backends, as in the configuration.
const (
	Auto     = "auto"
	NFTables = "nftables"
	IPTables = "iptables"
)

// ErrUnavailable says that no backend works here, or that the one asked for does not.
var ErrUnavailable = errors.New("no such firewall backend works")

// ErrChanging says that somebody else keeps changing the same rule set. Nothing is wrong but the moment.
var ErrChanging = errors.New("keeps changing")

// ErrBusy says that somebody else holds a lock for longer than a pod should wait for it.
var ErrBusy = errors.New("locked by somebody else")

// ErrNoServiceCIDR says that the iptables backend cannot tell what is for a Service.
var ErrNoServiceCIDR = errors.New("serviceCidr: missing; the iptables backend tells Services by their addresses; accepted: the Service range of each family")

// Open chooses the backend by its name in the configuration. Whatever it is, what other backends have left
// behind goes when it writes.
func Open(name string) (Firewall, error) {
	switch name {
	case NFTables:
		return &sweeping{nftBackend{}, true}, nil
	case IPTables:
		return &sweeping{iptBackend{}, true}, nil
	case Auto:
		return &auto{nft: &sweeping{nftBackend{}, false}, ipt: &sweeping{iptBackend{}, false}}, nil
	default:
		return nil, fmt.Errorf("%w: %s: no such backend", ErrUnavailable, name)
	}
}
