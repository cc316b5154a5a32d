package main

import (
	"fmt"
	"strings"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
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
	for _, f := range facts {
		marks |= f.Marks
		for _, setting := range f.Settings {
			if !seen[setting.String()] {
				seen[setting.String()] = true
				findings = append(findings, c.verify(setting))
			}
		}
	}
	name := plugin.HostEndPrefix + "00000000"
	if len(chosen) > 0 {
		name = chosen[0].HostEndName()
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
	return append(findings, markUsers(inv.Node, marks)...)
}

// markUsers lists who else uses the bits of the plugins' marks.
func markUsers(node *routing.Namespace, marks uint32) []finding {
	findings := []finding{}
	if marks == 0 {
		return findings
	}
	free := fmt.Sprintf("%#x is ours alone", marks)
	const advice = "# give one of both other bits: nodePortMark and serviceMark in the conflist, for which pods have to be made again"
	rules, err := node.Rules()
	if err != nil {
		return append(findings, finding{Object: "bits of the mark", Expected: free, Found: err.Error(), Verdict: wrong})
	}
	for _, r := range rules {
		if r.Mask&marks == 0 || owned(r) {
			continue
		}
		findings = append(findings, finding{
			Object: "bits of the mark", Expected: free, Found: "a rule of others: " + r.String(), Verdict: risk,
			Repair: advice + "\n# or, if nobody needs it: " + deletion(r),
		})
	}
	users, err := firewall.MarkUsers(node, marks)
	if err != nil {
		findings = append(findings, finding{Object: "bits of the mark", Expected: free, Found: err.Error(), Verdict: wrong})
	}
	for _, u := range users {
		f := finding{Object: "bits of the mark", Expected: free, Found: u.String(), Verdict: risk, Repair: advice + "\n" + u.Show}
		switch {
		case strings.Contains(u.Where, "CNI-HOSTPORT-"), strings.Contains(u.Where, "CNI-DN-"):
			f.Verdict, f.Found = note, f.Found+": portmap, which works beside ours"
		case !u.Writes && u.Bits == ^uint32(0):
			f.Verdict = note // packets with other marks are none of its business
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 {
		findings = append(findings, finding{Object: "bits of the mark", Expected: free, Found: "so", Verdict: fine})
	}
	return findings
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
