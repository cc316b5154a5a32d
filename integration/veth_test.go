package integration

import (
	"fmt"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// TestVethPaths is the table of paths for veth: for each kind of pod interface, with each backend beside each flavour of
// kube-proxy, in each mode of the nodes' rp_filter.
func TestVethPaths(t *testing.T) {
	for _, parent := range lab.Parents {
		for _, backend := range paths.Backends {
			for _, flavour := range lab.Flavours {
				for rpFilter := range 3 {
					runTable(t, fmt.Sprintf("%s %s %s rp_filter %d", backend, parent, flavour, rpFilter),
						paths.Config{Plugin: "veth", Backend: backend, Flavour: flavour, Options: lab.Options{Parent: parent, RPFilter: rpFilter}})
				}
			}
		}
	}
}

// TestVethPathsElsewhere is row 16 for veth, with what has a meaning for it.
func TestVethPathsElsewhere(t *testing.T) {
	portmap := variation{"beside portmap", func(c *paths.Config) { c.Portmap, c.Flavour = true, lab.IPTablesNFT }}
	for _, world := range append(underlayVariations(), portmap) {
		for _, backend := range paths.Backends {
			c := paths.Config{Plugin: "veth", Backend: backend, Flavour: lab.NFT, Options: lab.Options{RPFilter: 1}}
			world.change(&c)
			runTable(t, fmt.Sprintf("%s, %s", world.name, backend), c)
		}
	}
}

// A variation is what a world of row 16 has beside the plain one.
type variation struct {
	name   string
	change func(*paths.Config)
}

// underlayVariations are those that veth and router have in common.
func underlayVariations() []variation {
	return []variation{
		{"a VIP on lo", func(c *paths.Config) { c.VIP = true }},
		{"arp_ignore 1", func(c *paths.Config) { c.ARPIgnore = 1 }},
		{"all.src_valid_mark 1", func(c *paths.Config) { c.SrcValidMark = 1 }},
		{"all of it", func(c *paths.Config) { c.VIP, c.ARPIgnore, c.SrcValidMark, c.HostInterface = true, 1, 1, "eth0.100" }},
		{"a wire of 9000", func(c *paths.Config) { c.MTU, c.NarrowMTU = 9000, 1400 }},
		{"a wire of 1450", func(c *paths.Config) { c.MTU, c.NarrowMTU = 1450, 1300 }},
		{"IPv4 only", func(c *paths.Config) { c.Stack = lab.OnlyIPv4 }},
		{"IPv6 only", func(c *paths.Config) { c.Stack = lab.OnlyIPv6 }},
		{"rp_filter 0 in the pod", func(c *paths.Config) { c.Edit = option("rp_filter", map[string]any{"value": 0}) }},
		{"rp_filter 1 in the pod", func(c *paths.Config) { c.Edit = option("rp_filter", map[string]any{"value": 1}) }},
	}
}

// option sets a key of the veth or the router under test.
func option(key string, value any) func(*lab.Conflist) {
	return func(c *lab.Conflist) {
		for _, typ := range []string{"veth", "router"} {
			if plugin := c.Plugin(typ); plugin != nil {
				plugin[key] = value
			}
		}
	}
}
