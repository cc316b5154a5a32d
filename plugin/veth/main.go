// Veth is a chained CNI plugin for pods whose first interface is the underlay one. This release does not
// implement it: it answers VERSION, and refuses ADD.
package main

import (
	"os"

	"underlay-cni/plugin"
)

func main() {
	os.Exit(plugin.Main(plugin.Plugin{Name: "veth", About: "for pods whose first interface is the underlay one (not implemented in this release)"}))
}
