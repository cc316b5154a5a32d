package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// paths asks the kernel what it does with packets of the attachment.
func (c *call) paths(s *subject) ([]finding, *plugin.Facts, error) {
	r, err := s.request("CHECK")
	if err != nil {
		return nil, nil, err
	}
	facts, err := s.kind.facts(r)
	if err != nil {
		return nil, nil, err
	}
	findings := []finding{}
	for _, w := range facts.Ways {
		findings = append(findings, askWay(w))
	}
	rules, err := s.node.Rules()
	if err != nil {
		return nil, nil, err
	}
	for _, w := range facts.Walks {
		findings = append(findings, s.walk(w, rules))
	}
	if facts.MarkedBack {
		findings = append(findings, s.reversePath(facts.HostEnd))
	}
	neighbours, err := s.neighbours(facts)
	if err != nil {
		return nil, nil, err
	}
	findings = append(findings, neighbours...)
	for _, o := range facts.Oddities {
		findings = append(findings, c.odd(o))
	}
	return append(findings, markUsers(s.pod, "pod: ", facts.PodMarks, "")...), facts, nil
}

// askWay is `ip route get`.
func askWay(w plugin.Way) finding {
	where := "node: "
	if w.NS.Path != "" {
		where = "pod: "
	}
	f := finding{Object: where + w.Name, Expected: "dev " + quote.Sh(w.Dev), Verdict: fine}
	if w.Not {
		f.Expected = "not dev " + quote.Sh(w.Dev)
	}
	answer, err := w.NS.RouteGet(w.Query)
	switch {
	case err != nil:
		f.Found = err.Error()
	case (answer.Dev == w.Dev) == w.Not:
		f.Found = fmt.Sprintf("%s: %s", w.Query.Line(w.NS), answer)
	default:
		f.Found = answer.String()
		return f
	}
	f.Verdict = wrong
	f.Repair = w.Advice
	if f.Repair == "" {
		f.Repair = "# the objects above; if they are as they should be, a rule or a route of somebody else: " + w.NS.Command("ip rule; ip route show table all")
	}
	return f
}

// walk goes through the rules as the kernel does with a packet, and tells which one comes in the way.
func (s *subject) walk(w plugin.Walk, rules []routing.ListedRule) finding {
	f := finding{Object: "node: " + familyWord(w.V6) + "rules for " + w.Name, Verdict: fine}
	var prefs, met []string
	for _, pref := range w.Prefs {
		prefs = append(prefs, strconv.Itoa(pref))
	}
	f.Expected = "asks " + strings.Join(prefs, ", ")
	from := 0
	for _, r := range rules {
		if r.V6 != w.V6 || r.Pref == 0 || r.Pref < from || !meets(r, w) {
			continue
		}
		if r.Pref > w.Prefs[len(w.Prefs)-1] {
			break // what was looked for is not there
		}
		mine := s.kind.ownsRule(r)
		if w.Same != nil {
			mine = w.Same(r)
		}
		if !mine && owned(r) || w.Same != nil && mine && !slices.Contains(w.Prefs, r.Pref) {
			continue // of another plugin, which works beside this one; or it does the same too early
		}
		met = append(met, strconv.Itoa(r.Pref))
		f.Found = "asks " + strings.Join(met, ", ")
		if !mine {
			f.Verdict, f.Found = wrong, fmt.Sprintf("%s first: %s", f.Found, r)
			if r.Action == nl.FR_ACT_TO_TBL { // a look-up that may find nothing
				f.Verdict = risk
			}
			f.Repair = "# it is somebody else's: " + deletion(r)
			return f
		}
		if len(met) == len(prefs) {
			break
		}
		from = max(from, r.Goto)
	}
	if !slices.Equal(met, prefs) {
		f.Verdict, f.Repair = wrong, "# the rules above"
		if f.Found == "" {
			f.Found = "asks none of them"
		}
	}
	return f
}

// meets tells whether a rule is for the packet for certain, and may send it elsewhere: what is for the machine itself, it
// may take first, wherever somebody has moved that rule.
func meets(r routing.ListedRule, w plugin.Walk) bool {
	return r.Table != unix.RT_TABLE_LOCAL && !r.More && !r.From.IsValid() && !r.To.IsValid() && r.Oif == "" && (r.Iif == "" || r.Iif == w.Iif) && w.Mark&r.Mask == r.Mark
}

// deletion is a line that deletes a rule of others.
func deletion(r routing.ListedRule) string {
	flag := ""
	if r.V6 {
		flag = "-6 "
	}
	return fmt.Sprintf("ip %srule del pref %d", flag, r.Pref)
}

// reversePath is about rp_filter of the host end: every value works, as long as the look-up takes the mark along.
func (s *subject) reversePath(hostEnd *routing.Link) finding {
	f := finding{Object: "node: rp_filter of " + hostEnd.Name, Expected: "any, with src_valid_mark 1", Verdict: fine}
	effective := func(key string) (int, error) {
		most := 0
		for _, dev := range []string{"all", hostEnd.Name} {
			text, err := s.node.Sysctl("net/ipv4/conf/" + dev + "/" + key)
			if err != nil {
				return 0, err
			}
			value, err := strconv.Atoi(text)
			if err != nil {
				return 0, err
			}
			most = max(most, value)
		}
		return most, nil
	}
	filter, err := effective("rp_filter")
	mark, err2 := effective("src_valid_mark")
	if err := errors.Join(err, err2); err != nil {
		f.Found, f.Verdict = err.Error(), wrong
		return f
	}
	f.Found = fmt.Sprintf("rp_filter %d, src_valid_mark %d", filter, mark)
	if filter != 0 && mark == 0 {
		f.Verdict, f.Repair = wrong, "sysctl -w "+quote.Sh("net/ipv4/conf/"+hostEnd.Name+"/src_valid_mark=1")
	}
	return f
}

// neighbours compares what each side believes of the other with the addresses that the interfaces have.
func (s *subject) neighbours(facts *plugin.Facts) ([]finding, error) {
	changes, err := s.changes()
	if err != nil {
		return nil, err
	}
	findings := []finding{}
	for _, change := range changes {
		n, ok := change.(*routing.Neigh)
		if !ok {
			continue
		}
		where, other := "node: ", facts.PodEnd
		if n.Dev.NS.Path != "" {
			where, other = "pod: ", facts.HostEnd
		}
		f := finding{Object: where + n.Addr.String() + " on " + n.Dev.Name, Verdict: fine}
		believed, err := n.Found()
		attrs, err2 := other.Attrs()
		if err := errors.Join(err, err2); err != nil {
			f.Expected, f.Found, f.Verdict, f.Repair = "lladdr of "+other.Name, err.Error(), wrong, n.String()
			findings = append(findings, f)
			continue
		}
		f.Expected, f.Found = fmt.Sprintf("lladdr %s, which %s has", attrs.MAC, other.Name), "lladdr "+believed.String()
		if !bytes.Equal(believed, attrs.MAC) {
			f.Verdict, f.Repair = wrong, n.String()
		}
		findings = append(findings, f)
	}
	return findings, nil
}
