package main

import (
	"fmt"

	"underlay-cni/firewall"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// objects compares the changes of the plan with the kernel, one row each, in order: with --fix each is repaired before
// the next one is looked at, since a pair that is made again has lost all that was on it.
func (c *call) objects(s *subject) ([]finding, error) {
	changes, err := s.changes()
	if err != nil {
		return nil, err
	}
	findings := []finding{}
	for _, change := range changes {
		findings = append(findings, c.verify(change))
	}
	return findings, nil
}

// verify makes a row of a change.
func (c *call) verify(change plugin.Change) finding {
	err := change.Verify()
	l := lineOf(change) // of the firewall's backend that is chosen by then
	f := finding{Object: l.Where + " " + nameOf(change), Expected: l.brief(), Found: "so", Verdict: fine}
	if err == nil {
		return f
	}
	f.Found, f.Verdict, f.Repair = err.Error(), wrong, l.Command
	if _, ok := change.(firewall.Repairer); ok {
		// Rules that are typed work, but lack the mark that says which configuration they are of.
		f.Repair = "underlayctl diagnose --fix"
	}
	return c.repair(f, change)
}

// repair applies the change of a row that is not as it should be, and looks again.
func (c *call) repair(f finding, change plugin.Change) finding {
	if !c.fix {
		return f
	}
	apply := change.Apply
	if r, ok := change.(firewall.Repairer); ok {
		apply = r.Repair
	}
	err := apply()
	if err == nil {
		err = change.Verify()
	}
	if err != nil {
		f.Found = fmt.Sprintf("%s; --fix: %v", f.Found, err)
		return f
	}
	f.Verdict = repaired
	return f
}

// nameOf says what kind of object a change is about.
func nameOf(c plugin.Change) string {
	switch c := c.(type) {
	case *routing.Veth:
		return "veth pair"
	case *routing.AltName:
		return "altname " + c.Name
	case *routing.NoAltName:
		return "altname " + c.Name
	case *routing.LinkMAC:
		return "address of " + c.Link.Name
	case *routing.LinkAddress:
		return "address " + c.Addr.String()
	case *routing.LinkUp:
		return "link " + c.Link.Name
	case *routing.NoLink:
		return "link " + c.Link.Name
	case *routing.Sysctls, *routing.InetConf:
		return "sysctl"
	case *routing.Neigh:
		return "neighbour " + c.Addr.String()
	case *routing.Route:
		return "route " + c.Dst.String()
	case *routing.NoRoute:
		return "old route " + c.Dst.String()
	case *routing.SpareRoute:
		return "route " + c.Dst.String()
	case *routing.Source:
		return "source to " + c.Route.Dst.Addr().String()
	case *routing.Rule:
		return fmt.Sprintf("%srule %d", familyWord(c.V6), c.Pref)
	case *routing.NoRule:
		return fmt.Sprintf("old %srule %d", familyWord(c.V6), c.Pref)
	case *routing.NoIif:
		return fmt.Sprintf("old rules %d", c.Pref)
	case interface{ Backend() string }:
		return "firewall"
	default:
		return "change"
	}
}

// familyWord tells objects of IPv6 from others that read the same.
func familyWord(v6 bool) string {
	if v6 {
		return "IPv6 "
	}
	return ""
}
