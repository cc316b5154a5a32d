// Veth is a chained CNI plugin for pods whose first interface is the underlay one, under Multus: macvlan, ipvlan,
// SR-IOV. The default route stays on that interface. The plugin adds a veth pair, veth0 in the pod, for what the wire
// cannot carry: the node's own addresses, the overlay's pods, Services, and further ranges. Later underlay interfaces
// of the same pod (net1, net2) share the pair, and get a routing table of their own.
//
// veth/plan.go reads from top to bottom what the kernel gets. The plugin assigns no addresses that anybody else would
// see, adds no rule and no table to the node, runs no daemon and keeps no files: which attachments use the pair, the
// names of its host end tell.
package main

import (
	"os"

	"underlay-cni/plugin"
	"underlay-cni/plugin/veth/veth"
)

func main() { os.Exit(plugin.Main(veth.Plugin())) }
