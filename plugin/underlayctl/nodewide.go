package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/plugin/underlay"
	"underlay-cni/plugin/underlayctl/inventory"
	"underlay-cni/plugin/underlayctl/networkd"
	"underlay-cni/routing"
)

// examineNode looks at what all pods of the node have in common and what is not the plugins' own: the administrator's
// settings, and others who use the same bits, rules and policies.
func (c *call) examineNode(inv *inventory.Inventory, chosen []*inventory.Attachment, facts []*plugin.Facts) []finding {
	findings := []finding{}
	seen := map[string]bool{}
	var marks uint32
	var called string
	for _, f := range facts {
		marks |= f.Marks
		called = cmp.Or(called, f.MarksAre)
		for _, setting := range f.Settings {
			if !seen[setting.String()] {
				seen[setting.String()] = true
				findings = append(findings, c.verify(setting))
			}
		}
	}
	for _, k := range kinds() {
		if k.onNode != nil {
			findings = append(findings, c.onNode(inv, k, facts)...)
		}
	}
	name := plugin.HostEndPrefix + "00000000"
	if i := slices.IndexFunc(chosen, func(a *inventory.Attachment) bool { return plugin.IsHostEnd(a.HostEndName()) }); i >= 0 {
		name = chosen[i].HostEndName()
	}
	findings = append(findings, c.networkd(name)...)
	programs, err := firewall.ClosedForward(inv.Node)
	if err != nil {
		findings = append(findings, finding{Object: "policy of FORWARD", Expected: "one that can be read", Found: err.Error(), Verdict: wrong})
	}
	for _, program := range programs {
		findings = append(findings, finding{
			Object: "policy of FORWARD", Expected: "ACCEPT, or what belongs to pods accepted before it",
			Found: program + " has DROP; the row of the firewall of each attachment tells whether pods pass", Verdict: note,
		})
	}
	return append(findings, markUsers(inv.Node, "", marks, called)...)
}

// onNode is what a plugin's attachments have on the node together.
func (c *call) onNode(inv *inventory.Inventory, k kind, facts []*plugin.Facts) []finding {
	odd, err := k.onNode(inv.Node, facts, func(l *routing.LinkAttrs) *routing.Namespace {
		pod, err := inv.Node.Open(inv.PodOf(l))
		if err != nil {
			return nil // nobody has a name for it, or it has gone
		}
		return pod
	})
	findings := []finding{}
	if err != nil {
		findings = append(findings, finding{Object: k.Name, Expected: "what can be read", Found: err.Error(), Verdict: wrong})
	}
	for _, o := range odd {
		findings = append(findings, c.odd(o))
	}
	return findings
}

// odd makes a row of an oddity, and repairs what is ours.
func (c *call) odd(o plugin.Oddity) finding {
	f := finding{Object: o.Object, Expected: o.Expected, Found: o.Found, Repair: o.Advice}
	f.Verdict = map[plugin.Weight]verdict{plugin.Fine: fine, plugin.Note: note, plugin.Risk: risk, plugin.Wrong: wrong}[o.Weight]
	var lines []string
	for _, change := range o.Repair {
		lines = append(lines, change.String())
	}
	if len(lines) > 0 {
		f.Repair = strings.Join(lines, "\n")
	}
	for _, change := range o.Repair {
		if f = c.repair(f, change); c.fix && f.Verdict != repaired {
			break
		}
	}
	return f
}

// markUsers lists who else uses the bits of the plugins' marks in a namespace. called is how the configuration calls them;
// empty where they are fixed.
func markUsers(ns *routing.Namespace, where string, marks uint32, called string) []finding {
	findings := []finding{}
	if marks == 0 {
		return findings
	}
	object, free := where+"bits of the mark", fmt.Sprintf("%#x is ours alone", marks)
	advice := "# give one of both other bits: " + called + " in the conflist, for which pods have to be made again"
	if called == "" {
		advice = "# ours are fixed: give the other one other bits"
	}
	rules, err := ns.Rules()
	if err != nil {
		return append(findings, finding{Object: object, Expected: free, Found: err.Error(), Verdict: wrong})
	}
	for _, r := range rules {
		if r.Mask&marks == 0 || owned(r) || where != "" && ownedInPod(r) {
			continue
		}
		findings = append(findings, finding{
			Object: object, Expected: free, Found: "a rule of others: " + r.String(), Verdict: risk,
			Repair: advice + "\n# or, if nobody needs it: " + ns.Command(deletion(r)),
		})
	}
	users, err := firewall.MarkUsers(ns, marks)
	if err != nil {
		findings = append(findings, finding{Object: object, Expected: free, Found: err.Error(), Verdict: wrong})
	}
	for _, u := range users {
		f := finding{Object: object, Expected: free, Found: u.String(), Verdict: risk, Repair: advice + "\n" + ns.Command(u.Show)}
		switch {
		case strings.Contains(u.Where, "CNI-HOSTPORT-"), strings.Contains(u.Where, "CNI-DN-"):
			f.Verdict, f.Found = note, f.Found+": portmap, which works beside ours"
		case !u.Writes && u.Bits == ^uint32(0):
			f.Verdict = note // packets with other marks are none of its business
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 {
		findings = append(findings, finding{Object: object, Expected: free, Found: "so", Verdict: fine})
	}
	return findings
}

// ownedInPod tells whether a rule of a pod is one of ours: each asks for protocol kernel and a bit of ours.
func ownedInPod(r routing.ListedRule) bool {
	return r.Kernel() && r.Pref == underlay.PrefReply && r.Mark == underlay.MarkReply && r.Mask == r.Mark
}

// networkd tells what systemd-networkd does when it restarts.
func (c *call) networkd(hostEnd string) []finding {
	f := finding{Object: "systemd-networkd", Expected: "leaves rules and routes of others alone", Verdict: fine}
	state, err := networkd.Look(c.systemdRoot, hostEnd)
	switch {
	case err != nil:
		f.Found, f.Verdict = err.Error(), wrong
		return []finding{f}
	case !state.Active:
		f.Found = "is not in use"
		return []finding{f}
	case !state.ForeignRules && !state.ForeignRoutes:
		f.Found = "so"
	default:
		var what []string
		if state.ForeignRules {
			what = append(what, "rules (ManageForeignRoutingPolicyRules)")
		}
		if state.ForeignRoutes {
			what = append(what, "routes (ManageForeignRoutes)")
		}
		file := networkd.KeepForeign(c.systemdRoot)
		f.Verdict, f.Repair = risk, file.String()+"\nsystemctl restart systemd-networkd"
		f.Found = "when it restarts it deletes " + strings.Join(what, " and ") + " that it has not made, but for protocol kernel, as ours have it"
		f = c.repair(f, file)
		if state, err = networkd.Look(c.systemdRoot, hostEnd); f.Verdict == repaired && (err != nil || state.ForeignRules || state.ForeignRoutes) {
			f.Verdict, f.Found = risk, f.Found+"; --fix has written "+file.Path+", and another file overrides it"
		}
	}
	g := finding{Object: "systemd-networkd", Expected: "leaves host ends alone", Found: "so", Verdict: fine}
	if state.Claims != "" {
		file := networkd.KeepOff(c.systemdRoot)
		g.Verdict, g.Found = risk, fmt.Sprintf("%s matches %s: it is configured as that says, and its routes are deleted", state.Claims, hostEnd)
		g.Repair = file.String() + "\nnetworkctl reload"
		g = c.repair(g, file)
	}
	return []finding{f, g}
}
