// Package vethhost computes what the plugin veth-host does to the kernel. attachment.go reads what there is, plan.go
// says from top to bottom what there is to be, and verbs.go makes the CNI verbs of it. The binary, and the operator's
// command, which prints and checks the same plans, are the two users.
package vethhost

import "underlay-cni/plugin"

// Plugin is what the binary of that name does.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name:   "veth-host",
		About:  "lets ipvlan, macvlan and SR-IOV pods reach their node and Services",
		Add:    add,
		Check:  check,
		Del:    del,
		GC:     gc,
		Status: status,
	}
}
