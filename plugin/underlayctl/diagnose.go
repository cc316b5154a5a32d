package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/plugin/underlayctl/inventory"
)

var diagnoseCommand = command{
	name: "diagnose", args: "[--netns PATH | --pid N | --container ID | --all] [--conf FILE] [--fix]",
	about: "compare every object and every path with what should be, and repair it",
	help: `
Takes the plan that an ADD would make and compares each line of it with the kernel; then asks the kernel about the paths: which
way packets take in both directions, whether the rules are met in their order, reverse path filters, forwarding, neighbours
against the hardware addresses that are really there, who else uses the bits of the marks, policies of FORWARD, and what
systemd-networkd would delete when it restarts. Each row has a verdict:

  ok        as it should be
  note      worth to know, and right
  risk      works now; something else on the node will or may break it
  wrong     not as it should be
  repaired  was wrong, or a risk; --fix has changed it, and it has been looked at again

Rows that are not ok come with the command that repairs them. --fix runs those of ours and none that would change what
belongs to others. Without a choice of pods it is --all; then rows that are ok are only counted, unless -v is given.

The configuration is that of --conf, or of the network of that name in --conf-dir, or the one that the runtime keeps.

With -o json: {"node": [FINDING], "attachments": [{"network", "containerID", "ifname", "plugin", "hostEnd", "netns", "config",
"error", "objects": [FINDING], "paths": [FINDING]}]}, where FINDING is {"object", "expected", "found", "verdict", "repair"}.

Exit status 1: something is wrong or a risk, and has not been repaired.`,
	flags: func(f *flag.FlagSet, c *call) {
		c.addPod(f)
		c.addPlaces(f)
		c.addSystemd(f)
		f.StringVar(&c.ifName, "ifname", "", "`name` of the pod's own interface, where it has several attachments; needed with --conf for a pod that has lost its host end")
		f.BoolVar(&c.all, "all", false, "all attachments of the node")
		f.BoolVar(&c.fix, "fix", false, "repair what is wrong")
		f.BoolVar(&c.verbose, "v", false, "with --all: show rows that are ok, too")
	},
	run: diagnose,
}

// A verdict is what is to be thought of a finding.
type verdict string

const (
	fine     verdict = "ok"
	note     verdict = "note"
	risk     verdict = "risk"
	wrong    verdict = "wrong"
	repaired verdict = "repaired"
)

// A finding is one row.
type finding struct {
	Object   string  `json:"object"`
	Expected string  `json:"expected"`
	Found    string  `json:"found"`
	Verdict  verdict `json:"verdict"`
	Repair   string  `json:"repair,omitempty"` // a command, or what to do
}

// A diagnosis is what diagnose prints.
type diagnosis struct {
	Node        []finding   `json:"node"`
	Attachments []diagnosed `json:"attachments"`
}

// A diagnosed attachment is what was found of one.
type diagnosed struct {
	Network     string    `json:"network"`
	ContainerID string    `json:"containerID"`
	IfName      string    `json:"ifname"`
	Plugin      string    `json:"plugin,omitempty"`
	HostEnd     string    `json:"hostEnd"`
	Netns       string    `json:"netns,omitempty"`
	Config      string    `json:"config,omitempty"`
	Error       string    `json:"error,omitempty"` // it could not be looked at
	Objects     []finding `json:"objects"`
	Paths       []finding `json:"paths"`
}

func diagnose(c *call) error {
	if !c.all && c.podPath() == "" && c.container == "" {
		c.all = true
	}
	var conf *inventory.Network
	if c.conf != "" {
		var err error
		if conf, err = inventory.ReadNetwork(c.conf); err != nil {
			return wrongUsage("--conf: %w", err)
		}
	}
	inv, err := c.take()
	if err != nil {
		return err
	}
	defer inv.Node.Close()
	chosen, err := c.choose(inv, conf)
	if err != nil {
		return err
	}
	d := diagnosis{Node: []finding{}, Attachments: []diagnosed{}}
	var facts []*plugin.Facts
	for _, a := range chosen {
		network := conf
		if network == nil {
			network = inv.Network(a)
		}
		one, f := c.examine(inv, a, network)
		d.Attachments = append(d.Attachments, one)
		if f != nil {
			facts = append(facts, f)
		}
	}
	d.Node = c.examineNode(inv, chosen, facts)
	if err := c.print(d, func(w io.Writer) { c.printDiagnosis(w, d) }); err != nil {
		return err
	}
	if d.bad() {
		return errFound
	}
	return nil
}

// choose lists the attachments that the flags mean. With --conf and --netns it may be one that has nothing left.
func (c *call) choose(inv *inventory.Inventory, conf *inventory.Network) (chosen []*inventory.Attachment, err error) {
	var kind *inventory.Kind
	if conf != nil {
		if kind = inv.KindOf(conf); kind == nil {
			return nil, errNoKind(conf)
		}
	}
	for _, a := range inv.Attachments {
		if a.Link == nil && a.Netns == "" {
			continue // a runtime has not heard yet that the pod is gone
		}
		if c.chooses(inv, a) && (c.ifName == "" || c.ifName == a.IfName) && (conf == nil || conf.Name == a.Network && kind == a.Kind) {
			chosen = append(chosen, a)
		}
	}
	// A pod's in the order of its interfaces, as they were added: the first repairs what later ones rely on.
	slices.SortStableFunc(chosen, func(a, b *inventory.Attachment) int {
		switch {
		case a.ContainerID != b.ContainerID:
			return cmp.Compare(a.ContainerID, b.ContainerID)
		case underlay.Before(a.IfName, b.IfName):
			return -1
		case underlay.Before(b.IfName, a.IfName):
			return 1
		}
		return 0
	})
	switch {
	case len(chosen) > 0 || c.all:
		return chosen, nil
	case conf != nil && c.podPath() != "" && c.container != "" && c.ifName != "":
		a := plugin.Attachment{Network: conf.Name, ContainerID: c.container, IfName: c.ifName}
		return []*inventory.Attachment{{Attachment: a, Kind: kind, Netns: c.podPath()}}, nil
	default:
		return nil, wrongUsage("no such attachment is known of --netns %q, --container %q, --ifname %q; accepted: one that the kernel or a runtime knows, "+
			"or all of --conf, --netns, --container and --ifname", c.podPath(), c.container, c.ifName)
	}
}

// examine looks at one attachment. There are no facts if it cannot be looked at.
func (c *call) examine(inv *inventory.Inventory, a *inventory.Attachment, network *inventory.Network) (diagnosed, *plugin.Facts) {
	d := diagnosed{
		Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName, HostEnd: a.HostEndName(), Netns: a.Netns,
		Objects: []finding{}, Paths: []finding{},
	}
	fail := func(err error) (diagnosed, *plugin.Facts) {
		d.Error = err.Error()
		return d, nil
	}
	if a.Netns == "" {
		return fail(fmt.Errorf("the pod's network namespace has no name that is known; accepted: --netns PATH, or `underlayctl gc` if the pod is gone"))
	}
	s, err := newSubject(inv, a, network)
	if err != nil {
		return fail(err)
	}
	defer s.pod.Close()
	d.Plugin, d.Config = s.kind.Name, network.File
	if d.Config == "" {
		d.Config = "the runtime's"
	}
	if c.fix {
		release, err := plugin.Lock(s.pod)
		if err != nil {
			return fail(err)
		}
		defer release()
	}
	if d.Objects, err = c.objects(s); err != nil {
		return fail(err)
	}
	var facts *plugin.Facts
	if d.Paths, facts, err = c.paths(s); err != nil {
		return fail(err)
	}
	return d, facts
}

// bad tells whether anything is left that somebody should look at.
func (d diagnosis) bad() bool {
	all := d.Node
	for _, a := range d.Attachments {
		if a.Error != "" {
			return true
		}
		all = append(append(all, a.Objects...), a.Paths...)
	}
	for _, f := range all {
		if f.Verdict == wrong || f.Verdict == risk {
			return true
		}
	}
	return false
}

func (c *call) printDiagnosis(w io.Writer, d diagnosis) {
	for _, a := range d.Attachments {
		title := fmt.Sprintf("attachment %s/%s/%s: host end %s, pod %s", a.Network, a.ContainerID, a.IfName, a.HostEnd, a.Netns)
		if a.Plugin != "" {
			title += fmt.Sprintf(", %s, configuration %s", a.Plugin, a.Config)
		}
		fmt.Fprintln(w, quote.Line(title))
		if a.Error != "" {
			fmt.Fprintf(w, "  cannot be looked at: %s\n\n", quote.Line(a.Error))
			continue
		}
		c.printFindings(w, "objects", a.Objects)
		c.printFindings(w, "paths", a.Paths)
		fmt.Fprintln(w)
	}
	if len(d.Attachments) == 0 {
		fmt.Fprintln(w, "no attachments")
	}
	fmt.Fprintln(w, "node")
	c.printFindings(w, "settings and neighbours in the node", d.Node)
}

// printFindings writes a table, and below it the commands that repair what is in it.
func (c *call) printFindings(w io.Writer, what string, findings []finding) {
	var rows [][]string
	count := 0
	for _, f := range findings {
		if f.Verdict == fine {
			count++
			if c.all && !c.verbose {
				continue
			}
		}
		rows = append(rows, []string{"  " + f.Object, cut(f.Expected), cut(f.Found), string(f.Verdict)})
	}
	fmt.Fprintf(w, " %s: %d of %d ok\n", quote.Line(what), count, len(findings))
	if len(rows) > 0 {
		table(w, []string{"  OBJECT", "EXPECTED", "FOUND", "VERDICT"}, rows)
	}
	for _, f := range findings {
		if f.Repair != "" && (f.Verdict == wrong || f.Verdict == risk) {
			fmt.Fprintf(w, "  to repair %s (%s):\n%s\n", quote.Line(f.Object), quote.Line(f.Found), indent(f.Repair))
		}
	}
}

// cut keeps a column narrow enough for a terminal. What is wrong stands below the table, and JSON has the whole of it.
func cut(s string) string {
	const most = 72
	s = quote.Line(s)
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// indent leaves the ends of here-documents where a shell finds them.
func indent(text string) string {
	if strings.Contains(text, "<<'EOF'") {
		return text
	}
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
