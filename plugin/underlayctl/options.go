package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/routing"
)

// options are the flags of all commands, each of which has some of them.
type options struct {
	output string

	conf      string
	confDir   string
	cacheDirs string

	netns     string
	pid       int
	container string
	ifName    string
	all       bool

	network     string
	verbose     bool
	fix         bool
	yes         bool
	systemdRoot string
}

func (o *options) addOutput(f *flag.FlagSet) {
	f.StringVar(&o.output, "o", "text", "`format` of the output: text or json")
}

// addPlaces adds where to look.
func (o *options) addPlaces(f *flag.FlagSet) {
	f.StringVar(&o.confDir, "conf-dir", "/etc/cni/net.d", "`directory` of the node's conflists")
	f.StringVar(&o.cacheDirs, "cache-dir", "/var/lib/cni,/var/lib/cni/multus", "`directories` in which runtimes keep their results, with commas")
}

// addPod adds how to choose a pod.
func (o *options) addPod(f *flag.FlagSet) {
	f.StringVar(&o.conf, "conf", "", "`file`: the conflist, or the configuration of the plugin alone")
	f.StringVar(&o.netns, "netns", "", "`path` of the pod's network namespace, such as /run/netns/NAME")
	f.IntVar(&o.pid, "pid", 0, "id of a `process` in the pod, in place of --netns")
	f.StringVar(&o.container, "container", "", "`id` of the pod's sandbox, as the runtime gives it to CNI, or its beginning")
}

func (o *options) addSystemd(f *flag.FlagSet) {
	f.StringVar(&o.systemdRoot, "systemd-root", "/", "`directory` that stands for / where systemd's files are looked for")
}

// check looks at flags that many commands have.
func (o *options) check() error {
	if o.output != "text" && o.output != "json" {
		return wrongUsage("-o %s: accepted: text, json", o.output)
	}
	if o.pid < 0 {
		return wrongUsage("--pid %d: accepted: the id of a process", o.pid)
	}
	if o.netns != "" && o.pid != 0 {
		return wrongUsage("--pid %d: --netns %s names the pod already; accepted: one of them", o.pid, o.netns)
	}
	return nil
}

// podPath is the network namespace that --netns or --pid names, or "".
func (o *options) podPath() string {
	if o.pid != 0 {
		return fmt.Sprintf("/proc/%d/ns/net", o.pid)
	}
	return o.netns
}

// openPod opens a pod's network namespace, which is never the node's.
func openPod(node *routing.Namespace, path string) (*routing.Namespace, error) {
	pod, err := node.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, routing.ErrNoNamespace):
		return nil, wrongUsage("the pod: %w; accepted: the path of a network namespace, or the id of a process", err)
	case err != nil:
		return nil, err
	case pod.Same(node):
		pod.Close()
		return nil, wrongUsage("the pod: %s: it is the node's own network namespace; accepted: the pod's", path)
	}
	return pod, nil
}

// take opens the node and looks around. What could not be read is told, and is no reason to stop.
func (c *call) take() (*inventory.Inventory, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("look at the node: %w; run it as root", os.ErrPermission)
	}
	node, err := routing.Self()
	if err != nil {
		return nil, err
	}
	inv, err := inventory.Take(node, inventory.Places{
		ConfDir: c.confDir, Netns: []string{c.podPath()}, CacheDirs: strings.FieldsFunc(c.cacheDirs, func(r rune) bool { return r == ',' }), Kinds: shown(),
	})
	if err != nil {
		fmt.Fprintf(c.stderr, "underlayctl: warning: %v\n", err)
	}
	return inv, nil
}
