// Underlayctl is the operator's command. It looks at a node with the eyes of the plugins: the plans that it prints,
// compares and applies are the plugins' own, so it can say nothing else than what an ADD would do. It asks the kernel,
// the node's conflists and the results that the runtimes keep; it has no state and no daemon.
//
// Each command is a file of this package. Package inventory finds the attachments of a node, and networkd knows what
// systemd-networkd does to them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
	"underlay-cni/plugin/router/router"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/plugin/veth-host/vethhost"
	"underlay-cni/plugin/veth/veth"
	"underlay-cni/routing"
)

// Exit statuses.
const (
	statusFine   = 0 // nothing is wrong, or it has been done
	statusFound  = 1 // something is wrong or a risk, or a dry run would have removed something
	statusUsage  = 2 // wrong command line or configuration
	statusFailed = 3 // the kernel, or a file, would not do or tell
)

// A kind is a plugin of the project, with what this command asks of it beside its plans.
type kind struct {
	plugin.Plugin
	facts    func(*plugin.Request) (*plugin.Facts, error)
	ownsRule func(routing.ListedRule) bool
	shows    inventory.Kind
	// delUse plans the DEL of an attachment that shares its host end, by the further name, after those of the same pod that
	// are gone by then.
	delUse func(r *plugin.Request, name string, gone []plugin.Use) (*plugin.Plan, error)
	// onNode tells what is odd about what the attachments of all pods have on the node.
	onNode func(node *routing.Namespace, facts []*plugin.Facts, open func(*routing.LinkAttrs) *routing.Namespace) ([]plugin.Oddity, error)
}

// kinds are the plugins that this command knows.
func kinds() []kind {
	return []kind{
		{
			Plugin: vethhost.Plugin(), facts: vethhost.Facts, ownsRule: vethhost.OwnsRule,
			shows: inventory.Kind{Group: plugin.Group, HostEnd: plugin.Attachment.HostEnd},
		},
		{
			Plugin: veth.Plugin(), facts: veth.Facts, ownsRule: veth.OwnsRule,
			shows:  inventory.Kind{Group: veth.Group, HostEnd: veth.HostEnd, Uses: veth.Uses},
			delUse: veth.DelUse,
		},
		{
			Plugin: router.Plugin(), facts: router.Facts, ownsRule: router.OwnsRule,
			shows:  inventory.Kind{HostEnd: router.HostEnd, Uses: router.Uses, InPod: router.InPod},
			delUse: router.DelUse, onNode: router.OnNode,
		},
	}
}

// shown are the kinds, as an inventory wants them.
func shown() (all []*inventory.Kind) {
	for _, k := range kinds() {
		k.shows.Name = k.Name
		all = append(all, &k.shows)
	}
	return all
}

func kindNames() (names []string) {
	for _, k := range kinds() {
		names = append(names, k.Name)
	}
	return names
}

func kindOf(name string) *kind {
	for _, k := range kinds() {
		if k.Name == name {
			return &k
		}
	}
	return nil
}

// A command is one of underlayctl's.
type command struct {
	name, args, about string
	help              string
	flags             func(*flag.FlagSet, *call)
	run               func(*call) error
}

func commands() []command {
	return []command{planCommand, diagnoseCommand, gcCommand, uninstallCommand, lintCommand, versionCommand}
}

// A call is one run of a command.
type call struct {
	options
	args           []string // that are no flags
	stdout, stderr io.Writer
}

// errFound makes the exit status say that something was found. It has been printed.
var errFound = errors.New("found something")

// A usageError is the operator's.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func wrongUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs a command line and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return statusUsage
	}
	if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		if len(args) == 1 {
			usage(stdout)
			return statusFine
		}
		args = []string{args[1], "--help"}
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		fmt.Fprintf(stderr, "underlayctl: %s: no such command; accepted: %s\n", quote.Line(args[0]), strings.Join(commandNames(), ", "))
		return statusUsage
	}
	err := all[i].call(args[1:], stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return statusFine
	case errors.Is(err, errFound):
		return statusFound
	}
	fmt.Fprintf(stderr, "underlayctl %s: %s\n", all[i].name, quote.Line(err.Error()))
	if errors.As(err, new(usageError)) {
		return statusUsage
	}
	return statusFailed
}

// call parses the flags of a command and runs it.
func (cmd command) call(args []string, stdout, stderr io.Writer) error {
	c := &call{stdout: stdout, stderr: stderr}
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	c.addOutput(flags)
	if cmd.flags != nil {
		cmd.flags(flags, c)
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "usage: underlayctl %s %s\n\n%s\n\nflags:\n", cmd.name, cmd.args, strings.TrimSpace(cmd.help))
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return err
	case err != nil:
		return wrongUsage("%w; `underlayctl %s --help` lists the flags", err, cmd.name)
	}
	c.args = flags.Args()
	if len(c.args) > 0 && !strings.Contains(cmd.args, "FILE…") {
		return wrongUsage("%s: no such argument; accepted: %s", c.args[0], cmd.args)
	}
	if err := c.check(); err != nil {
		return err
	}
	return cmd.run(c)
}

func commandNames() (names []string) {
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "underlayctl looks at what the plugins (%s) have on this node, and repairs and removes it.\n\nusage:\n", strings.Join(kindNames(), ", "))
	for _, c := range commands() {
		fmt.Fprintf(w, "  underlayctl %s %s\n        %s\n", c.name, c.args, c.about)
	}
	fmt.Fprint(w, `
Each command takes -o json, and explains itself with --help. It must run as root, in the node's own network namespace.

exit status:
  0  nothing is wrong, or it has been done
  1  something is wrong or a risk (diagnose), a remark (lint), or would be removed with --yes (gc, uninstall)
  2  the command line or the configuration is not accepted; nothing was done
  3  the kernel or a file would not tell, or something could not be done
`)
}

var versionCommand = command{
	name: "version", about: "print the release",
	help: "Prints the release of this command. That of a plugin: CNI_COMMAND= /opt/cni/bin/veth-host",
	run: func(c *call) error {
		return c.print(map[string]string{"version": plugin.Version}, func(w io.Writer) { fmt.Fprintln(w, plugin.Version) })
	},
}
