// Router is a chained CNI plugin for pods whose first interface belongs to an overlay network (Calico, Cilium) and whose
// later ones, net1 and net2, are on the wire, under Multus: macvlan, SR-IOV. The overlay's interface stays the way to
// the node, to the overlay's pods and to Services; the default route becomes that of the newest interface on the wire, and
// what it was before moves to a table of its own. The node reaches the new interface's addresses by the overlay's.
//
// router/plan.go reads from top to bottom what the kernel gets. The plugin makes no interface and assigns no addresses,
// runs no daemon and keeps no files: which attachments there are, and which routes of the node are theirs, further names
// of the overlay's interface on the node tell. It does not make Services work that the overlay does not make work.
package main

import (
	"os"

	"underlay-cni/plugin"
	"underlay-cni/plugin/router/router"
)

func main() { os.Exit(plugin.Main(router.Plugin())) }
