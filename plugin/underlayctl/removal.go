package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containernetworking/cni/pkg/version"

	"underlay-cni/plugin"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/routing"
)

// A removal is one thing that gc or uninstall decides about.
type removal struct {
	Object      string `json:"object"`
	Network     string `json:"network,omitempty"`
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifname,omitempty"`
	HostEnd     string `json:"hostEnd,omitempty"`
	Netns       string `json:"netns,omitempty"`
	Remove      bool   `json:"remove"` // false: it is kept
	Why         string `json:"why"`
	Changes     []line `json:"changes,omitempty"`
	Done        bool   `json:"done"`
	Error       string `json:"error,omitempty"`

	plan  *plugin.Plan
	extra []plugin.Change // of the plan, beside the plugin's DEL
	// fresh is the DEL once more, right before it is done and while nobody else changes the pod: what shares a host end with it
	// may be gone by then, or not.
	fresh func() (*plugin.Plan, error)
	pod   *routing.Namespace    // that DEL is in; nil: it has gone
	close func()                // what the plan needed open
	again func() (bool, string) // asked right before it is done: is it still to be removed, and why
}

// also adds changes to the plan.
func (r *removal) also(changes ...plugin.Change) {
	r.extra = append(r.extra, changes...)
	r.plan.Add(changes...)
}

// apply does it.
func (r *removal) apply() error {
	if r.pod != nil {
		release, err := plugin.Lock(r.pod)
		if err != nil {
			return err
		}
		defer release()
	}
	if r.fresh != nil {
		p, err := r.fresh()
		if err != nil {
			return err
		}
		p.Add(r.extra...)
		r.plan = p
	}
	return r.plan.ApplyAll()
}

// removals is what gc and uninstall print.
type removals struct {
	DryRun   bool      `json:"dryRun"`
	Removals []removal `json:"removals"`
}

// removalOf is the removal of one thing.
func removalOf(object, network, why string, changes ...plugin.Change) removal {
	r := removal{Object: object, Network: network, Remove: true, Why: why, plan: &plugin.Plan{}}
	r.plan.Add(changes...)
	return r
}

// removalOfAttachment is what the plugin's own DEL does, after those of others that share the host end.
func removalOfAttachment(inv *inventory.Inventory, a *inventory.Attachment, why string, gone []*inventory.Attachment) (removal, error) {
	r := removalOf("attachment", a.Network, why)
	r.ContainerID, r.IfName, r.HostEnd, r.Netns = a.ContainerID, a.IfName, a.HostEndName(), a.Netns
	if a.Link != nil && a.Use == "" && a.ContainerID == "" { // a stray
		owner := routing.Owner{Alias: a.Link.Alias, Group: a.Link.Group, MAC: a.Link.MAC}
		r.Object = "host end"
		rules, err := inv.Node.Rules()
		if err != nil {
			return r, err
		}
		seen := map[int]bool{} // the change is for both families
		for _, rule := range rules {
			if rule.Iif == a.Link.Name && owned(rule) && !seen[rule.Pref] {
				seen[rule.Pref] = true
				r.plan.Add(&routing.NoIif{NS: inv.Node, Pref: rule.Pref, Iif: rule.Iif})
			}
		}
		r.plan.Add(&routing.NoLink{Link: inv.Node.Link(a.Link.Name), Owner: owner})
		return r, nil
	}
	config, err := bareConfig(a.Network)
	if err != nil {
		return r, err
	}
	if a.Netns != "" {
		// One that cannot be opened any more is gone.
		if r.pod, err = openPod(inv.Node, a.Netns); err == nil {
			r.close = r.pod.Close
		}
	}
	k, request := kindOf(a.Kind.Name), plugin.NewRequest("DEL", a.Attachment, config, nil, inv.Node, r.pod)
	if a.Use == "" {
		r.fresh = func() (*plugin.Plan, error) { return k.Del(request) }
		r.plan, err = r.fresh()
		return r, err
	}
	var before []plugin.Use
	for _, other := range gone {
		if other.Kind == a.Kind && inv.SamePod(a, other) {
			before = append(before, plugin.Use{Attachment: other.Attachment, Name: other.Use})
		}
	}
	r.fresh = func() (*plugin.Plan, error) { return k.delUse(request, a.Use, nil) }
	r.plan, err = k.delUse(request, a.Use, before)
	return r, err
}

// owned tells whether a rule of the node is one of a plugin's.
func owned(r routing.ListedRule) bool {
	return slices.ContainsFunc(kinds(), func(k kind) bool { return k.ownsRule(r) })
}

// bareConfig is as much of a configuration as a DEL and a GC need.
func bareConfig(network string) ([]byte, error) {
	return json.Marshal(map[string]string{"cniVersion": version.Current(), "name": network})
}

// remove applies the removals, with --yes, and prints them.
func (c *call) remove(all []removal) error {
	out := removals{DryRun: !c.yes, Removals: all}
	if out.Removals == nil {
		out.Removals = []removal{}
	}
	todo, failed := 0, 0
	for i := range all {
		r := &all[i]
		if r.plan != nil {
			r.Changes = linesOf(r.plan.Changes())
		}
		if c.yes && r.Remove && r.again != nil {
			r.Remove, r.Why = r.again()
		}
		if r.Remove {
			todo++
		}
		if c.yes && r.Remove {
			if err := r.apply(); err != nil {
				failed++
				r.Error = err.Error()
			}
			r.Done = r.Error == ""
		}
		if r.close != nil {
			r.close()
		}
	}
	if err := c.print(out, func(w io.Writer) { c.printRemovals(w, out, todo) }); err != nil {
		return err
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d could not be removed: %w", failed, todo, errNotRemoved)
	case !c.yes && todo > 0:
		return errFound
	}
	return nil
}

var errNotRemoved = errors.New("see above")

func (c *call) printRemovals(w io.Writer, out removals, todo int) {
	var rows [][]string
	for _, r := range out.Removals {
		verdict := "keep"
		switch {
		case r.Error != "":
			verdict = "FAILED: " + r.Error
		case r.Done:
			verdict = "removed"
		case r.Remove:
			verdict = "remove"
		}
		name := r.Object
		if r.ContainerID != "" || r.HostEnd != "" {
			name = fmt.Sprintf("%s %s/%s/%s (%s)", r.Object, r.Network, r.ContainerID, r.IfName, r.HostEnd)
		}
		rows = append(rows, []string{name, verdict, r.Why})
	}
	if len(rows) > 0 {
		table(w, []string{"OBJECT", "VERDICT", "WHY"}, rows)
	}
	if c.verbose {
		for _, r := range out.Removals {
			for _, l := range r.Changes {
				if r.Remove {
					fmt.Fprintln(w, l.Command)
				}
			}
		}
	}
	switch {
	case todo == 0:
		fmt.Fprintln(w, "nothing to remove")
	case out.DryRun:
		fmt.Fprintf(w, "nothing has been changed: --yes removes the %d\n", todo)
	}
}
