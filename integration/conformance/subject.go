package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"underlay-cni/integration/lab"
)

// A Subject is a plugin under test, and the network in which it has its place.
type Subject struct {
	Path  string        // the binary
	List  *lab.Conflist // the network
	Index int           // which of its plugins is under test; those before it make its prevResult

	Dirs   []string      // CNI_PATH: where the other plugins are, and those that plugins delegate to
	Node   string        // a script for sh(1) that prepares the node; "": DefaultNode
	First  *lab.Conflist // the network of the containers' eth0, where the subject makes a later interface; nil: it makes eth0
	Second *lab.Conflist // what else a caller attaches its containers to; nil: DefaultSecond
}

// DefaultNode gives the node what most configurations ask for: an interface on a wire, with addresses and a default
// route in both families.
const DefaultNode = `
ip link add enp1s0 type veth peer name wire
ip link set wire up
ip link set enp1s0 up
ip address add 10.10.20.152/24 dev enp1s0
ip address add fd20::152/64 dev enp1s0 nodad
ip route add default via 10.10.20.1
ip -6 route add default via fd20::1
`

// DefaultSecond is a network that has nothing to do with that of the subject.
const DefaultSecond = `{
	"cniVersion": "1.0.0", "name": "conformance-second",
	"plugins": [{ "type": "ptp", "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.89.0.0/24" }], [{ "subnet": "fd89::/64" }]] } }]
}`

// DefaultBefore makes the interface for a chained plugin whose configuration is given alone.
const DefaultBefore = `{
	"type": "bridge", "isGateway": true,
	"ipam": {
		"type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]],
		"routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
	}
}`

// ParseConf reads a conflist, or the configuration of a single plugin, which becomes the only one of a conflist.
func ParseConf(text []byte) (*lab.Conflist, error) {
	c := &lab.Conflist{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("parse a configuration: %w", err)
	}
	if c.Plugins != nil {
		return c, nil
	}
	var plugin map[string]any
	if err := json.Unmarshal(text, &plugin); err != nil {
		return nil, fmt.Errorf("parse a configuration: %w", err)
	}
	if plugin["type"] == nil {
		return nil, errors.New(`parse a configuration: it has neither "plugins" nor "type"; accepted: a conflist, or the configuration of a plugin`)
	}
	for _, key := range []string{"cniVersion", "cniVersions", "name"} {
		delete(plugin, key)
	}
	c.Plugins = []map[string]any{plugin}
	return c, nil
}

// NewSubject finds the plugin in the conflist: by its type, which is the file name of the binary unless it is given,
// or because it is the only one. Before, which may be nil, comes in front of the conflist.
func NewSubject(path, typ string, list, before *lab.Conflist) (*Subject, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the plugin: %w", err)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("find the plugin: %w", err)
	} else if info.IsDir() {
		return nil, fmt.Errorf("find the plugin: %s is a directory; accepted: the plugin's binary", path)
	}
	whole := *list
	s := &Subject{Path: path, List: &whole, Dirs: []string{filepath.Dir(path)}}
	if whole.Name == "" {
		whole.Name = "conformance"
	}
	if typ == "" {
		typ = filepath.Base(path)
	}
	s.Index = slices.IndexFunc(whole.Plugins, func(p map[string]any) bool { return p["type"] == typ })
	if s.Index < 0 && len(whole.Plugins) == 1 {
		s.Index = 0
	}
	if s.Index < 0 {
		var types []string
		for i := range whole.Plugins {
			types = append(types, s.typeOf(i))
		}
		return nil, fmt.Errorf("the configuration has no plugin of type %q; it has %s: use -type", typ, strings.Join(types, ", "))
	}
	if before != nil {
		whole.Plugins = append(slices.Clone(before.Plugins), whole.Plugins...)
		s.Index += len(before.Plugins)
	}
	return s, nil
}

// chained tells whether the plugin adjusts what others have made.
func (s *Subject) chained() bool { return s.Index > 0 }

func (s *Subject) typeOf(i int) string {
	typ, _ := s.List.Plugins[i]["type"].(string)
	return typ
}

// configured are the versions that the configuration names.
func (s *Subject) configured() []string {
	if s.List.CNIVersion == "" {
		return s.List.CNIVersions
	}
	return append([]string{s.List.CNIVersion}, s.List.CNIVersions...)
}

// find is the binary of a plugin.
func (s *Subject) find(typ string) (string, error) {
	if typ == s.typeOf(s.Index) {
		return s.Path, nil
	}
	for _, dir := range s.Dirs {
		path := filepath.Join(dir, typ)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no plugin %s in %s", typ, s.cniPath())
}

func (s *Subject) cniPath() string { return strings.Join(s.Dirs, ":") }

// config is the configuration of a plugin as a runtime derives it, without what belongs to the operation.
func (s *Subject) config(i int, version string) map[string]any {
	c := maps.Clone(s.List.Plugins[i])
	delete(c, "capabilities") // "must not be set"
	c["cniVersion"], c["name"] = version, s.List.Name
	return c
}

// second is the network that is not the subject's.
func (s *Subject) second() (*lab.Conflist, error) {
	if s.Second != nil {
		return s.Second, nil
	}
	second, err := ParseConf([]byte(DefaultSecond))
	if err != nil {
		return nil, err
	}
	for _, typ := range []string{"ptp", "host-local"} {
		if _, err := s.find(typ); err != nil {
			return nil, inapplicable(fmt.Sprintf("NOT TESTED: the second network of this caller needs ptp and host-local, or -second: %v", err))
		}
	}
	return second, nil
}
