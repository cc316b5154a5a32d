package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"underlay-cni/conflist"
	"underlay-cni/conflist/quote"
	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/routing"
)

var planCommand = command{
	name: "plan", args: "--conf FILE (--netns PATH | --pid N | --container ID) [--ifname eth0]",
	about: "print what an ADD would do, as a script; change nothing",
	help: `
Prints the lines of ip, sysctl and nft (or iptables-restore) that an ADD would run, in the order in which the kernel gets
them. The pod must have its own interface already: the plugin comes after the one that makes it. What that one has done is
found in the runtime's results, or else from the kernel.

The output is a script for sh, to be run on the node. It is run without -e: it deletes what earlier attachments of the same
name may have left, which is no error where there is nothing.

With -o json: {"network", "containerID", "ifname", "plugin", "netns", "hostEnd", "changes": [{"where": "node" or "pod", "command"}]}.`,
	flags: func(f *flag.FlagSet, c *call) {
		c.addPod(f)
		c.addPlaces(f)
		f.StringVar(&c.ifName, "ifname", "eth0", "`name` of the pod's own interface, CNI_IFNAME")
	},
	run: plan,
}

// A planned attachment is what plan prints.
type planned struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
	Plugin      string `json:"plugin"`
	Netns       string `json:"netns"`
	HostEnd     string `json:"hostEnd"`
	Changes     []line `json:"changes"`
}

func plan(c *call) error {
	if c.conf == "" {
		return wrongUsage("--conf: missing; accepted: a conflist, or the configuration of %s", strings.Join(kindNames(), ", "))
	}
	if err := conflist.ValidInterfaceName(c.ifName); err != nil {
		return wrongUsage("--ifname %s: %w; accepted: the name of an interface", c.ifName, err)
	}
	network, err := inventory.ReadNetwork(c.conf)
	if err != nil {
		return wrongUsage("--conf: %w", err)
	}
	inv, err := c.take()
	if err != nil {
		return err
	}
	defer inv.Node.Close()
	a, err := c.planFor(inv, network)
	if err != nil {
		return err
	}
	s, err := newSubject(inv, a, network)
	if err != nil {
		return err
	}
	defer s.pod.Close()
	r, err := s.request("PLAN") // no verb of CNI: at an ADD, veth asks the wire whether somebody else has the addresses
	if err != nil {
		return err
	}
	p, err := s.kind.Add(r)
	if err != nil {
		return usageError{err} // of the configuration, or of a pod that it does not fit
	}
	for _, change := range p.Changes() {
		if rules, ok := change.(firewall.Change); ok {
			firewall.Choose(rules)
		}
	}
	lines := linesOf(p.Changes())
	for i := range lines {
		lines[i].Command = anew(lines[i].Command)
	}
	return c.print(planned{
		a.Network, a.ContainerID, a.IfName, s.kind.Name, a.Netns, a.HostEndName(), lines,
	}, func(w io.Writer) {
		fmt.Fprintf(w, "#!/bin/sh\n# What ADD of %s does for %s, interface %s of %s. Run it on the node, without -e.\n", s.kind.Name, quote.Sh(a.String()), quote.Sh(a.IfName), quote.Sh(a.Netns))
		for _, l := range lines {
			fmt.Fprintln(w, l.Command)
		}
	})
}

// anew has nft(8) make a table anew, in the same transaction: it would add the rules to those of one that is there, of another
// attachment.
func anew(command string) string {
	const begin = "nft -f - <<'EOF'\n"
	before, table, ok := strings.Cut(command, begin)
	name, _, _ := strings.Cut(table, " {\n")
	if !ok || !strings.HasPrefix(name, "table ") {
		return command
	}
	return before + begin + name + "\ndelete " + name + "\n" + table
}

// planFor is the attachment that the flags name: one that is known, or one that is to be.
func (c *call) planFor(inv *inventory.Inventory, network *inventory.Network) (*inventory.Attachment, error) {
	path, kind := c.podPath(), inv.KindOf(network)
	if kind == nil {
		return nil, errNoKind(network)
	}
	for _, a := range inv.Attachments {
		if a.Network == network.Name && a.Kind == kind && a.IfName == c.ifName && c.chooses(inv, a) && a.Netns != "" {
			if path != "" {
				a.Netns = path // as the operator calls it
			}
			return a, nil
		}
	}
	if path == "" {
		return nil, wrongUsage("--netns: missing, and no pod of network %s is known by --container %q; accepted: the path of a network namespace, or --pid", network.Name, c.container)
	}
	id := c.container
	if id == "" {
		id = filepath.Base(filepath.Dir(path)) + "-" + filepath.Base(path)
	}
	return &inventory.Attachment{
		Attachment: plugin.Attachment{Network: network.Name, ContainerID: id, IfName: c.ifName}, Kind: kind, Netns: path,
	}, nil
}

// chooses tells whether the flags mean the attachment.
func (o *options) chooses(inv *inventory.Inventory, a *inventory.Attachment) bool {
	path := o.podPath()
	return strings.HasPrefix(a.ContainerID, o.container) && (path == "" || inv.In(a, path)) && (o.container != "" || path != "" || o.all)
}

// A subject is an attachment with everything that it takes to ask its plugin about it.
type subject struct {
	*inventory.Attachment
	kind    *kind
	network *inventory.Network
	config  []byte
	node    *routing.Namespace
	pod     *routing.Namespace
}

// newSubject opens the pod, which the caller closes.
func newSubject(inv *inventory.Inventory, a *inventory.Attachment, network *inventory.Network) (*subject, error) {
	if network == nil {
		return nil, wrongUsage("network %s: no configuration of it is known; accepted: --conf FILE", a.Network)
	}
	s := &subject{Attachment: a, kind: kindOf(a.Kind.Name), network: network, node: inv.Node}
	var err error
	if s.config, err = network.Config(s.kind.Name); err != nil {
		return nil, err
	}
	s.pod, err = openPod(inv.Node, a.Netns)
	return s, err
}

func errNoKind(network *inventory.Network) error {
	return wrongUsage("network %s: none of its plugins is known; accepted: %s", network.Name, strings.Join(kindNames(), ", "))
}

// request is one of that verb, with a result of its own.
func (s *subject) request(verb string) (*plugin.Request, error) {
	result, err := inventory.Result(s.Attachment, s.network, s.node, s.pod)
	if err != nil {
		return nil, err
	}
	return plugin.NewRequest(verb, s.Attachment.Attachment, s.config, result, s.node, s.pod), nil
}

// changes are those of the plan that CHECK verifies.
func (s *subject) changes() ([]plugin.Change, error) {
	r, err := s.request("CHECK")
	if err != nil {
		return nil, err
	}
	p, err := s.kind.Check(r)
	if err != nil {
		return nil, err
	}
	return p.Changes(), nil
}
