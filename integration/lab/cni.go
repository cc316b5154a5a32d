package lab

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// A Pod is the network namespace of a pod of a node. Addr is what the last Add gave it, and At what each has given it,
// by interface.
type Pod struct {
	*Namespace
	Node   *Node
	IfName string // CNI_IFNAME
	// Capabilities is what a runtime fills in, for the plugins that ask for it: {"portMappings": [{"hostPort": 80, …}]}.
	Capabilities map[string]any

	Result *types100.Result // of the last Add
	At     map[string]Pair
	Peer   string // the other end of the overlay's interface
}

// note keeps the addresses of an interface.
func (p *Pod) note(iface string) {
	if p.At == nil {
		p.At = map[string]Pair{}
	}
	p.At[iface] = p.Addr
}

// ContainerID is the one that cnitool makes up for the pod.
func (p *Pod) ContainerID() string {
	return fmt.Sprintf("cnitool-%x", sha512.Sum512([]byte(p.Path())))[:len("cnitool-")+20]
}

// HostEnd is the name of the interface on the node that the last Add reported.
func (p *Pod) HostEnd() string {
	for _, i := range p.Result.Interfaces {
		if i.Sandbox == "" {
			return i.Name
		}
	}
	return ""
}

// A Conflist is a network as the node's configuration has it.
type Conflist struct {
	CNIVersion  string           `json:"cniVersion"`
	CNIVersions []string         `json:"cniVersions,omitempty"`
	Name        string           `json:"name"`
	Plugins     []map[string]any `json:"plugins"`
}

// ReadConflist reads a shipped conflist, or the one in a NetworkAttachmentDefinition, whose config comes last.
func ReadConflist(file string) (*Conflist, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read a conflist: %w", err)
	}
	if _, config, ok := bytes.Cut(text, []byte("config: |\n")); ok {
		text = config
	}
	c := &Conflist{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	return c, nil
}

// Plugin is the configuration of the first plugin of the type, or nil.
func (c *Conflist) Plugin(typ string) map[string]any {
	for _, p := range c.Plugins {
		if p["type"] == typ {
			return p
		}
	}
	return nil
}

// podsPerNetwork is the size of a host-local range.
const podsPerNetwork = 25

// Conflist is the network of the node: the plugin that Options.Parent names with a range of its own, and veth-host,
// as Options.Edit left them.
func (n *Node) Conflist() *Conflist {
	return n.conflist("cni0", n.World.Options.HostInterface, firstWire)
}

// Net2Conflist is the same network on the second wire, for the pods' net2.
func (n *Node) Net2Conflist() *Conflist { return n.conflist("cni2", secondInterface, secondWire) }

func (n *Node) conflist(name, master string, on wire) *Conflist {
	o := n.World.Options
	var ranges, routes, services []any
	for _, f := range o.Stack {
		subnet, gateway := n.podSubnet(f), n.podGateway(f)
		if on.number > 1 {
			subnet, gateway = on.subnet[f], on.router.Of(f)
		}
		ranges = append(ranges, []any{map[string]any{
			"subnet":     subnet.String(),
			"rangeStart": host(subnet, n.firstPod).String(),
			"rangeEnd":   host(subnet, n.firstPod+podsPerNetwork-1).String(),
			"gateway":    gateway.String(),
		}})
		routes = append(routes, map[string]any{"dst": defaultDst[f]})
		services = append(services, ServiceCIDR[f].String())
	}
	iface := map[string]any{
		"type": o.Parent.Type(), "master": master, "mode": o.Parent.mode(),
		"ipam": map[string]any{"type": "host-local", "ranges": ranges, "routes": routes},
	}
	if o.NoGateway { // host-local makes one up; with static the addresses come by NewPod
		iface["ipam"], iface["capabilities"] = map[string]any{"type": "static"}, map[string]any{"ips": true}
	}
	c := &Conflist{CNIVersion: "1.0.0", Name: name, Plugins: []map[string]any{
		iface,
		{
			"type": "veth-host", "hostInterface": master, "containerInterface": "veth0",
			"serviceCidr": services, "ipMasq": true, "firewall": o.Firewall,
		},
	}}
	if o.Edit != nil {
		o.Edit(c)
	}
	return c
}

// SecondConflist is another network of the node, on the same wire. Its name, its marks, its NodePorts and half of the
// range are its own.
func (n *Node) SecondConflist() *Conflist {
	c := (&Node{Namespace: n.Namespace, World: n.World, number: n.number, firstPod: n.firstPod + podsPerNetwork}).Conflist()
	c.Name = "cni1"
	if veth := c.Plugin("veth-host"); veth != nil {
		veth["serviceMark"], veth["nodePortMark"], veth["nodePorts"] = "0x100000", "0x200000", "30000-30100"
	}
	return c
}

// Write puts a conflist where the node's cnitool finds it by its name. A cnitool that runs at the same time reads the whole
// of this one or of the one before.
func (n *Node) Write(c *Conflist) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write a conflist: %w", err)
	}
	return n.thread.do(func() error {
		whole, err := os.CreateTemp(netDir, c.Name)
		if err != nil {
			return fmt.Errorf("write a conflist: %w", err)
		}
		_, err = whole.Write(text)
		if err := errors.Join(err, whole.Close(), os.Rename(whole.Name(), filepath.Join(netDir, c.Name+".conflist"))); err != nil {
			return fmt.Errorf("write a conflist: %w", err)
		}
		return nil
	})
}

// Add attaches the pod to the node's own network.
func (n *Node) Add(p *Pod) error { return n.AddTo(n.Conflist(), p) }

// Del detaches the pod from the node's own network.
func (n *Node) Del(p *Pod) error { return n.DelFrom(n.Conflist(), p) }

// Check runs CHECK for the pod on the node's own network.
func (n *Node) Check(p *Pod) error {
	_, err := n.CNI("check", n.Conflist(), p)
	return err
}

// AddTo attaches the pod to the network and notes its result and its addresses.
func (n *Node) AddTo(c *Conflist, p *Pod) error {
	out, err := n.CNI("add", c, p)
	if err != nil {
		return err
	}
	p.Result = &types100.Result{}
	if err := json.Unmarshal(out, p.Result); err != nil {
		return fmt.Errorf("parse the result of ADD for %s: %w: %s", p.Name, err, out)
	}
	p.Addr = Pair{}
	for _, ip := range p.Result.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		p.Addr.set(addr.Unmap())
	}
	p.note(p.IfName)
	return nil
}

// DelFrom detaches the pod from the network.
func (n *Node) DelFrom(c *Conflist, p *Pod) error {
	_, err := n.CNI("del", c, p)
	return err
}

// CNI runs the real cnitool on the node (add, del, check, gc, status) and returns what it prints.
func (n *Node) CNI(verb string, c *Conflist, p *Pod) ([]byte, error) {
	if err := n.Write(c); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(n.World.Options.Tools, "cnitool"), verb, c.Name, p.Path(), "--ifname", p.IfName)
	cmd.Env = append(os.Environ(), "NETCONFPATH="+netDir, n.cniPath())
	if len(p.Capabilities) > 0 {
		text, err := json.Marshal(p.Capabilities)
		if err != nil {
			return nil, fmt.Errorf("write the capabilities: %w", err)
		}
		cmd.Env = append(cmd.Env, "CAP_ARGS="+string(text))
	}
	return n.Exec(cmd)
}

// Plugin runs a plugin on the node without libcni, for what cnitool does not do. The variables are CNI_COMMAND and
// what goes with it; CNI_PATH is set. A plugin that fails prints its error on standard output: it is returned too.
func (n *Node) Plugin(typ string, stdin any, variables ...string) ([]byte, error) {
	text, err := json.Marshal(stdin)
	if err != nil {
		return nil, fmt.Errorf("write the input of %s: %w", typ, err)
	}
	path, err := n.find(typ)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), n.cniPath()), variables...)
	cmd.Stdin = strings.NewReader(string(text))
	return n.Exec(cmd)
}

// Request is the input of a plugin of the conflist when libcni runs it: its own configuration with the network's name
// and version. More keys (prevResult, cni.dev/valid-attachments) may be added.
func (c *Conflist) Request(typ string) map[string]any {
	request := map[string]any{"cniVersion": c.CNIVersion, "name": c.Name}
	maps.Copy(request, c.Plugin(typ))
	return request
}

func (n *Node) cniPath() string {
	return "CNI_PATH=" + n.World.Options.Plugins + ":" + n.World.Options.Tools
}

func (n *Node) find(typ string) (string, error) {
	for _, dir := range []string{n.World.Options.Plugins, n.World.Options.Tools} {
		path := filepath.Join(dir, typ)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no plugin %s in %s: %w", typ, n.cniPath(), errNoPlugin)
}

var errNoPlugin = errors.New("`make build cni-tools` builds the plugins")
