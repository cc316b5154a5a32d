// Router is a chained CNI plugin for pods whose first interface belongs to an overlay network. This release does not
// implement it: it answers VERSION, and refuses ADD.
package main

import (
	"os"

	"underlay-cni/plugin"
)

func main() {
	os.Exit(plugin.Main(plugin.Plugin{Name: "router", About: "for pods whose first interface belongs to an overlay network (not implemented in this release)"}))
}
