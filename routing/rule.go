package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A Rule is one rule of the policy database, in one family. Its action is Goto, Table or, with neither,
// nop. It is added with protocol kernel: ip-rule(8) prints none for it, and systemd-networkd, which
// deletes foreign rules when it restarts, leaves it alone.
type Rule struct {
	NS         *Namespace
	V6         bool
	Pref       int
	Mark, Mask uint32       // fwmark; Mask 0: any
	From, To   netip.Prefix // not valid: any
	Iif        string       // "": any
	Table      *Table
	// NoDefault makes the table's default routes not count (suppress_prefixlength 0).
	NoDefault bool
	Goto      int // pref of the rule to go on with; 0: none
	// Shared keeps Revert from deleting the rule: others may have found it there meanwhile.
	Shared bool

	added bool
}

func (r *Rule) family() family {
	if r.V6 {
		return v6
	}
	return v4
}

// String is the line of ip-rule(8).
func (r *Rule) String() string { return r.NS.line("%s", r.line("add")) }

func (r *Rule) line(verb string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "ip %srule %s pref %d", r.family().flag(), verb, r.Pref)
	if r.From.IsValid() {
		fmt.Fprintf(&s, " from %s", dstString(r.From))
	}
	if r.To.IsValid() {
		fmt.Fprintf(&s, " to %s", r.To)
	}
	if r.Mask != 0 {
		fmt.Fprintf(&s, " fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.Iif != "" {
		fmt.Fprintf(&s, " iif %s", quote.Sh(r.Iif))
	}
	switch {
	case r.Goto != 0:
		fmt.Fprintf(&s, " goto %d", r.Goto)
	case r.Table == nil:
		s.WriteString(" nop")
	default:
		fmt.Fprintf(&s, " lookup %s", r.Table)
	}
	if r.NoDefault {
		s.WriteString(" suppress_prefixlength 0")
	}
	if verb == "add" {
		s.WriteString(" protocol kernel")
	}
	return s.String()
}

// message is the rule as the kernel takes it. A Table that has not been chosen yet is an error that wraps
// ErrNoLink.
func (r *Rule) message() ([]nl.NetlinkRequestData, error) {
	// struct fib_rule_hdr has the layout of struct rtmsg, with the action in place of the type.
	msg := rtmsg(r.family(), 0)
	parts := []nl.NetlinkRequestData{msg, attr32(nl.FRA_PRIORITY, uint32(r.Pref)), attr(nl.FRA_PROTOCOL, nl.Uint8Attr(unix.RTPROT_KERNEL))}
	if r.Mask != 0 {
		parts = append(parts, attr32(nl.FRA_FWMARK, r.Mark), attr32(nl.FRA_FWMASK, r.Mask))
	}
	if r.From.IsValid() {
		msg.Src_len = uint8(r.From.Bits())
		parts = append(parts, attr(nl.FRA_SRC, r.From.Addr().AsSlice()))
	}
	if r.To.IsValid() {
		msg.Dst_len = uint8(r.To.Bits())
		parts = append(parts, attr(nl.FRA_DST, r.To.Addr().AsSlice()))
	}
	if r.Iif != "" {
		parts = append(parts, attr(nl.FRA_IIFNAME, nl.ZeroTerminated(r.Iif)))
	}
	if r.NoDefault {
		parts = append(parts, attr32(nl.FRA_SUPPRESS_PREFIXLEN, 0))
	}
	switch {
	case r.Goto != 0:
		msg.Type = nl.FR_ACT_GOTO
		parts = append(parts, attr32(nl.FRA_GOTO, uint32(r.Goto)))
	case r.Table == nil:
		msg.Type = nl.FR_ACT_NOP
	default:
		id, err := r.Table.ID()
		if err != nil {
			return nil, err
		}
		msg.Type = nl.FR_ACT_TO_TBL
		parts = append(parts, attr32(nl.FRA_TABLE, uint32(id)))
	}
	return parts, nil
}

// Apply adds the rule. It is no error if the very same one is already there.
func (r *Rule) Apply() error {
	parts, err := r.message()
	if err != nil {
		return err
	}
	err = r.NS.request(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	r.added = done(err)
	return err
}

// Verify tells whether the rule is there.
func (r *Rule) Verify() error {
	found, err := r.find()
	if err == nil && !found {
		err = fmt.Errorf("rule is missing: %s", r.line(""))
	}
	return err
}

func (r *Rule) find() (bool, error) {
	want := rule{pref: r.Pref, iif: r.Iif, mark: r.Mark, mask: r.Mask, from: r.From, to: r.To, noDefault: r.NoDefault, goTo: r.Goto}
	if r.Table != nil {
		id, err := r.Table.ID()
		if err != nil {
			return false, err
		}
		want.table = id
	}
	rules, err := r.NS.rules(r.family())
	return slices.Contains(rules, want), err
}

// Revert deletes the rule if Apply added it, and for this owner alone. It is no error if it is already
// gone.
func (r *Rule) Revert() error {
	if !r.added || r.Shared {
		return nil
	}
	return (&NoRule{r}).Apply()
}

// A rule is what the kernel lists of one, comparable.
type rule struct {
	pref, table, goTo int
	mark, mask        uint32
	iif               string
	from, to          netip.Prefix
	noDefault         bool
}

// KeepRules has the namespace list its rules once for all questions that follow, until it changes one: whoever is root in a pod may
// have put in thousands. It is for one verb of a plugin, which is over in a moment.
func (n *Namespace) KeepRules() { n.kept = map[family][]rule{} }

// rules lists the rules of one family.
func (n *Namespace) rules(f family) ([]rule, error) {
	if rules, ok := n.kept[f]; ok {
		return rules, nil
	}
	rules, err := n.listRules(f)
	if err == nil && n.kept != nil {
		n.kept[f] = rules
	}
	return rules, err
}

func (n *Namespace) listRules(f family) (rules []rule, err error) {
	err = n.dump(unix.RTM_GETRULE, f, func() { rules = nil }, func(m []byte) error {
		r, err := parseRule(m)
		rules = append(rules, r)
		return err
	}, rtmsg(f, 0))
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return rules, nil
}

func parseRule(m []byte) (rule, error) {
	msg := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return rule{}, fmt.Errorf("parse a rule: %w", err)
	}
	var r rule
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.FRA_PRIORITY:
			r.pref = int(uint32Of(a.Value))
		case nl.FRA_TABLE:
			r.table = int(uint32Of(a.Value))
		case nl.FRA_GOTO:
			r.goTo = int(uint32Of(a.Value))
		case nl.FRA_FWMARK:
			r.mark = uint32Of(a.Value)
		case nl.FRA_FWMASK:
			r.mask = uint32Of(a.Value)
		case nl.FRA_IIFNAME:
			r.iif = nl.BytesToString(a.Value)
		case nl.FRA_SRC:
			addr, _ := netip.AddrFromSlice(a.Value)
			r.from = netip.PrefixFrom(addr, int(msg.Src_len))
		case nl.FRA_DST:
			addr, _ := netip.AddrFromSlice(a.Value)
			r.to = netip.PrefixFrom(addr, int(msg.Dst_len))
		case nl.FRA_SUPPRESS_PREFIXLEN:
			r.noDefault = uint32Of(a.Value) == 0 // all ones: none
		}
	}
	return r, nil
}

// Iifs lists the names of interfaces that rules of one pref name as their iif, each once. An interface may be
// gone: ip-rule(8) shows such a rule as "[detached]".
func (n *Namespace) Iifs(pref int) (names []string, err error) {
	for _, f := range []family{v4, v6} {
		rules, err := n.rules(f)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if r.pref == pref && r.iif != "" && !slices.Contains(names, r.iif) {
				names = append(names, r.iif)
			}
		}
	}
	return names, nil
}

// Froms lists what rules of one pref say "from", in both families, with the tables that they look up.
func (n *Namespace) Froms(pref int) (rules []*Rule, err error) {
	for _, f := range []family{v4, v6} {
		all, err := n.rules(f)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if r.pref == pref && r.from.IsValid() && r.table != 0 {
				rules = append(rules, &Rule{NS: n, V6: f == v6, Pref: pref, From: r.from, Table: n.Table(r.table)})
			}
		}
	}
	return rules, nil
}

// LooksUp reports whether the rule leads to the table that a route is in, and to routes of its family.
func (r *Rule) LooksUp(route *Route) bool {
	return r.Table.id == route.Table.id && r.V6 == route.Dst.Addr().Is6()
}

// HasIif reports whether a rule of one pref, in one family, is for packets that come in by an interface of that name.
func (n *Namespace) HasIif(v6 bool, pref int, iif string) (bool, error) {
	rules, err := n.rules((&Rule{V6: v6}).family())
	return slices.ContainsFunc(rules, func(r rule) bool { return r.pref == pref && r.iif == iif }), err
}

// Prefs tells which of some prefs have a rule, in either family.
func (n *Namespace) Prefs(prefs ...int) (map[int]bool, error) {
	found := make(map[int]bool)
	for _, f := range []family{v4, v6} {
		rules, err := n.rules(f)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if slices.Contains(prefs, r.pref) {
				found[r.pref] = true
			}
		}
	}
	return found, nil
}

// NoRule is the absence of a rule.
type NoRule struct{ *Rule }

// String is the line of ip-rule(8).
func (n *NoRule) String() string { return n.NS.line("%s", n.line("del")) }

// Apply deletes the rule, as often as it is there. It is no error if it is already gone.
func (n *NoRule) Apply() error {
	parts, err := n.message()
	if errors.Is(err, ErrNoLink) {
		return nil // the rule's table has gone with its interface; NoIif takes such rules
	}
	if err != nil {
		return err
	}
	return n.NS.deleteRules(parts)
}

// Verify tells whether the rule is gone.
func (n *NoRule) Verify() error {
	there, err := n.find()
	return gone(there, err, "rule is still there: %s", n.line(""))
}

// Revert does nothing: what is gone was ours.
func (*NoRule) Revert() error { return nil }

func (n *Namespace) deleteRules(parts []nl.NetlinkRequestData) error {
	for {
		err := n.request(unix.RTM_DELRULE, 0, parts...)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// NoIif is the absence of rules of one pref for packets that come in by an interface of that name, in
// both families and whatever their table. A rule outlives its interface as "[detached]" and attaches
// itself to the next one of that name, old table and all: so they go before a new one is added.
type NoIif struct {
	NS   *Namespace
	Pref int
	Iif  string
	// Except is the table of the rule that is to be added next: Verify does not mind that one.
	Except *Table
}

// String is the line of ip-rule(8), for both families.
func (n *NoIif) String() string {
	return n.NS.line("ip rule del pref %d iif %s", n.Pref, quote.Sh(n.Iif)) + "; " + n.NS.line("ip -6 rule del pref %d iif %s", n.Pref, quote.Sh(n.Iif))
}

// Apply deletes the rules until there is none, in one family whatever happens in the other. It is no error if there is
// none.
func (n *NoIif) Apply() error {
	var errs []error
	for _, f := range []family{v4, v6} {
		parts := []nl.NetlinkRequestData{rtmsg(f, 0), attr32(nl.FRA_PRIORITY, uint32(n.Pref)), attr(nl.FRA_IIFNAME, nl.ZeroTerminated(n.Iif))}
		errs = append(errs, n.NS.deleteRules(parts))
	}
	return errors.Join(errs...)
}

// Verify tells whether there is no such rule.
func (n *NoIif) Verify() error {
	except := 0
	if n.Except != nil {
		except = n.Except.id
	}
	for _, f := range []family{v4, v6} {
		rules, err := n.NS.rules(f)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.pref == n.Pref && r.iif == n.Iif && (except == 0 || r.table != except) {
				return fmt.Errorf("rule is still there: %d: iif %s lookup %d", n.Pref, quote.Sh(n.Iif), r.table)
			}
		}
	}
	return nil
}

// Revert does nothing: what is gone was ours.
func (*NoIif) Revert() error { return nil }
