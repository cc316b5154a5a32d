// Veth-host is a chained CNI plugin for pods whose interface talks straight to the wire: ipvlan, macvlan,
// SR-IOV. The kernel never lets such an interface talk to its own parent, and the node's netfilter never
// sees its packets, so the pod reaches neither its own node nor any Service.
//
// The plugin adds a veth pair that carries exactly that traffic, permanent neighbours and host routes on
// both ends, a routing table and an iif rule per pod, and a few marks in the firewall; vethhost/plan.go reads
// from top to bottom what the kernel gets. It leaves the pod's own interface and its connected routes as they
// are, and everything else to the wire. It assigns no addresses, runs no daemon and keeps no files.
package main

import (
	"os"

	"underlay-cni/plugin"
	"underlay-cni/plugin/veth-host/vethhost"
)

func main() { os.Exit(plugin.Main(vethhost.Plugin())) }
