// Package router is the plugin of that name as a value: what its requests look at, and the plan that each of them makes.
// Its binary is the directory above.
package router

import (
	"underlay-cni/conflist"
	"underlay-cni/plugin"
)

// Plugin is router. Its functions look and plan; package plugin applies.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "router", About: "a pod whose first interface is an overlay's gets macvlan, ipvlan or SR-IOV beside it, and keeps its node and Services",
		Skip: conflist.SkipsCall,
		Add:  attach, Check: attach, Del: del, GC: gc, Status: status,
	}
}
