// Package veth is the plugin of that name as a value: what its requests look at, and the plan that each of them makes.
// Its binary is the directory above; underlayctl prints its plans and checks them.
package veth

import (
	"underlay-cni/conflist"
	"underlay-cni/plugin"
)

// Plugin is veth. Its functions look and plan; package plugin applies.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "veth", About: "a pod whose first interface is macvlan, ipvlan or SR-IOV reaches its node, the overlay and Services",
		Skip: conflist.SkipsCall,
		Add:  attach, Check: attach, Del: del, GC: gc, Status: status,
	}
}
