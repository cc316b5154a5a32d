// Package integration runs the real plugins on nodes made of network namespaces.
package integration

import (
	"errors"
	"fmt"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// TestPaths runs every row of the table for each kind of pod interface, each flavour of kube-proxy, each mode of the
// nodes' rp_filter, and with and without ipMasq. A machine without ipvlan or IPVS runs those in a virtual one.
func TestPaths(t *testing.T) {
	for _, parent := range lab.Parents {
		for _, flavour := range lab.Flavours {
			for rpFilter := range 3 {
				for _, ipMasq := range []bool{true, false} {
					name := fmt.Sprintf("%s %s rp_filter %d ipMasq %t", parent, flavour, rpFilter, ipMasq)
					runTable(t, name, paths.Config{Flavour: flavour, IPMasq: ipMasq, Options: lab.Options{Parent: parent, RPFilter: rpFilter}})
				}
			}
		}
	}
}

// TestPathsIPTables is the same for the iptables backend, with either iptables, in nodes that are strict about reverse
// paths.
func TestPathsIPTables(t *testing.T) {
	for _, backend := range []paths.Backend{paths.IPTablesNFT, paths.IPTablesLegacy} {
		for _, parent := range lab.Parents {
			for _, flavour := range lab.Flavours {
				for _, ipMasq := range []bool{true, false} {
					name := fmt.Sprintf("%s %s %s ipMasq %t", backend, parent, flavour, ipMasq)
					runTable(t, name, paths.Config{Backend: backend, Flavour: flavour, IPMasq: ipMasq, Options: lab.Options{Parent: parent, RPFilter: 1}})
				}
			}
		}
	}
}

// TestPathsElsewhere is row 16, and what else nodes may be like. All of them are strict about reverse paths, which is
// what paths break on first.
func TestPathsElsewhere(t *testing.T) {
	everything := func(o *lab.Options) {
		o.VIP, o.ARPIgnore, o.SrcValidMark, o.HostInterface = true, 1, 1, "eth0.100"
	}
	for _, world := range []struct {
		name   string
		change func(*paths.Config)
	}{
		{"a VIP on lo", func(c *paths.Config) { c.VIP = true }},
		{"arp_ignore 1", func(c *paths.Config) { c.ARPIgnore = 1 }},
		{"all.src_valid_mark 1", func(c *paths.Config) { c.SrcValidMark = 1 }},
		{"hostInterface eth0.100", func(c *paths.Config) { c.HostInterface = "eth0.100" }},
		{"beside portmap", func(c *paths.Config) { c.Portmap, c.Flavour = true, lab.IPTablesNFT }},
		{"beside portmap, ipMasq false", func(c *paths.Config) { c.Portmap, c.Flavour, c.IPMasq = true, lab.IPTablesNFT, false }},
		{"beside portmap, iptables-legacy", func(c *paths.Config) { c.Portmap, c.Flavour = true, lab.IPTablesLegacy }},
		{"all of it", func(c *paths.Config) { everything(&c.Options); c.Portmap = true }},
		{"all of it, loose", func(c *paths.Config) { everything(&c.Options); c.RPFilter = 2 }},
		{"all of it, ipMasq false", func(c *paths.Config) { everything(&c.Options); c.IPMasq = false }},
		{"a wire of 9000", func(c *paths.Config) { c.MTU, c.NarrowMTU = 9000, 1400 }},
		{"a wire of 1450", func(c *paths.Config) { c.MTU, c.NarrowMTU = 1450, 1300 }},
		{"a veth wider than the wire", func(c *paths.Config) { c.MTU, c.NarrowMTU, c.Edit = 1450, 1300, vethMTU(1500) }},
		{"a veth as wide as the wire", func(c *paths.Config) { c.MTU, c.NarrowMTU, c.Edit = 9000, 1400, vethMTU(9000) }},
		{"IPv4 only", func(c *paths.Config) { c.Stack = lab.OnlyIPv4 }},
		{"IPv6 only", func(c *paths.Config) { c.Stack = lab.OnlyIPv6 }},
		{"two networks, the second has the pod", func(c *paths.Config) { c.Second = "a" }},
		{"two networks, the second has another pod", func(c *paths.Config) { c.Second = "b" }},
		{"no underlay gateway", func(c *paths.Config) { c.NoGateway = true }},
	} {
		for _, backend := range paths.Backends {
			c := paths.Config{Backend: backend, Flavour: lab.NFT, IPMasq: true, Options: lab.Options{RPFilter: 1}}
			world.change(&c)
			runTable(t, fmt.Sprintf("%s, %s", world.name, backend), c)
		}
	}
}

func vethMTU(mtu int) func(*lab.Conflist) {
	return func(c *lab.Conflist) { c.Plugin("veth-host")["mtu"] = mtu }
}

// runTable builds a world and runs the table in it, one subtest for each case.
func runTable(t *testing.T, name string, c paths.Config) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if err := errors.Join(c.Flavour.Supported(), c.Parent.Supported(), c.Backend.Supported()); err != nil {
			t.Skip("SKIPPED, NOT TESTED: ", err)
		}
		w, err := paths.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		for c := range w.Cases() {
			t.Run(fmt.Sprintf("row%02d %s/%s/%s", c.Number, c.Name, c.Family, c.Proto), func(t *testing.T) {
				if err := c.Run(w); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
