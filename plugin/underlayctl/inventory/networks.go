package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/plugin"
)

// A Network is a network configuration list.
type Network struct {
	*libcni.NetworkConfigList
	File string // where it is from; "" for a runtime's
}

// ReadNetwork reads a conflist, or the configuration of a single plugin.
func ReadNetwork(file string) (*Network, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator's
	if err != nil {
		return nil, fmt.Errorf("read a network configuration: %w", err)
	}
	n, err := parseNetwork(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	n.File = file
	return n, nil
}

// parseNetwork takes a list, and one plugin for a list of one.
func parseNetwork(text []byte) (*Network, error) {
	var kind struct {
		Plugins json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("decode a network configuration: %w", err)
	}
	if kind.Plugins == nil {
		one, err := libcni.NetworkPluginConfFromBytes(text)
		if err != nil {
			return nil, err
		}
		list := &libcni.NetworkConfigList{Name: one.Network.Name, CNIVersion: one.Network.CNIVersion, Plugins: []*libcni.PluginConfig{one}}
		return &Network{NetworkConfigList: list}, nil
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	return &Network{NetworkConfigList: list}, nil
}

// readNetworks reads those of a directory that have one of the plugins. Of two with the same name the first file wins, as
// it does for libcni.
func readNetworks(dir string, types []string) (map[string]*Network, error) {
	networks := map[string]*Network{}
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return networks, fmt.Errorf("list the conflists of %s: %w", dir, err)
	}
	slices.Sort(files)
	var errs []error
	for _, file := range files {
		n, err := ReadNetwork(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if n.Type(types) != "" && networks[n.Name] == nil {
			networks[n.Name] = n
		}
	}
	return networks, errors.Join(errs...)
}

// Type is the first of the plugins that the network has, or "".
func (n *Network) Type(types []string) string {
	for _, p := range n.Plugins {
		if slices.Contains(types, p.Network.Type) {
			return p.Network.Type
		}
	}
	return ""
}

// has tells whether one of the plugins of the network is of that kind.
func (n *Network) has(k *Kind) bool { return k != nil && n.Type([]string{k.Name}) != "" }

// KindOf is the first of the plugins that the network has, or nil.
func (inv *Inventory) KindOf(n *Network) *Kind {
	for _, p := range n.Plugins {
		for _, k := range inv.kinds {
			if p.Network.Type == k.Name {
				return k
			}
		}
	}
	return nil
}

// Config is what a plugin of the list gets on its standard input, without prevResult.
func (n *Network) Config(typ string) ([]byte, error) {
	for _, p := range n.Plugins {
		if p.Network.Type != typ {
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(p.Bytes, &keys); err != nil {
			return nil, fmt.Errorf("decode the configuration of %s: %w", typ, err)
		}
		for key, value := range map[string]string{"name": n.Name, "cniVersion": n.CNIVersion} {
			text, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			keys[key] = text
		}
		return json.Marshal(keys)
	}
	return nil, fmt.Errorf("network %s has no plugin %s", n.Name, typ)
}

// Cached is what a runtime keeps about an attachment: libcni's result cache.
type Cached struct {
	plugin.Attachment
	Network *Network
	Netns   string
	dir     string
}

// readCache reads those results of a runtime whose chain had one of the plugins, and the ids of all containers. No directory: no
// results.
func readCache(dir string, types []string) (all []*Cached, containers []string, err error) {
	found, err := libcni.NewCNIConfigWithCacheDir(nil, dir, nil).GetCachedAttachments("")
	if err != nil {
		return nil, nil, fmt.Errorf("read the results in %s: %w", filepath.Join(dir, "results"), err)
	}
	for _, f := range found {
		containers = append(containers, f.ContainerID)
		n, err := parseNetwork(f.Config)
		if err != nil || n.Type(types) == "" {
			continue // of others
		}
		all = append(all, &Cached{
			Attachment: plugin.Attachment{Network: f.Network, ContainerID: f.ContainerID, IfName: f.IfName}, Network: n, Netns: f.NetNS, dir: dir,
		})
	}
	return all, containers, nil
}

// result is the one that the runtime keeps.
func (c *Cached) result(n *Network) (*types100.Result, error) {
	rt := &libcni.RuntimeConf{ContainerID: c.ContainerID, IfName: c.IfName, NetNS: c.Netns}
	r, err := libcni.NewCNIConfigWithCacheDir(nil, c.dir, nil).GetNetworkListCachedResult(n.NetworkConfigList, rt)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, os.ErrNotExist
	}
	return types100.NewResultFromResult(r)
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
