package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Rule is one rule of the policy database, in one family. Its action is Goto, Table or, with neither,
// nop. It is added with protocol kernel: ip-rule(8) prints none for it, and systemd-networkd, which
// deletes foreign rules when it restarts, leaves it alone.
type Rule struct {
	NS         *Namespace
	V6         bool
	Pref       int
	Mark, Mask uint32       // fwmark; Mask 0: any
	To         netip.Prefix // not valid: any
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
func (r *Rule) String() string { return r.line("add") }

func (r *Rule) line(verb string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "ip %srule %s pref %d", r.family().flag(), verb, r.Pref)
	if r.To.IsValid() {
		fmt.Fprintf(&s, " to %s", r.To)
	}
	if r.Mask != 0 {
		fmt.Fprintf(&s, " fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.Iif != "" {
		fmt.Fprintf(&s, " iif %s", r.Iif)
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
	return r.NS.line("%s", s.String())
}

func (r *Rule) netlink() (*netlink.Rule, error) {
	out := netlink.NewRule()
	out.Family, out.Priority, out.IifName = int(r.family()), r.Pref, r.Iif
	out.Protocol = unix.RTPROT_KERNEL
	if r.Mask != 0 {
		out.Mark, out.Mask = r.Mark, &r.Mask
	}
	if r.To.IsValid() {
		out.Dst = &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), r.To.Addr().BitLen())}
	}
	if r.NoDefault {
		out.SuppressPrefixlen = 0
	}
	switch {
	case r.Goto != 0:
		out.Goto = r.Goto
	case r.Table == nil:
		out.Type = nl.FR_ACT_NOP
	default:
		id, err := r.Table.ID()
		if err != nil {
			return nil, err
		}
		out.Table = id
	}
	return out, nil
}

// Apply adds the rule. It is no error if the very same one is already there.
func (r *Rule) Apply() error {
	rule, err := r.netlink()
	if err != nil {
		return err
	}
	err = r.NS.rt.RuleAdd(rule)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	r.added = err == nil
	return err
}

// Verify tells whether the rule is there.
func (r *Rule) Verify() error {
	want, err := r.netlink()
	if err != nil {
		return err
	}
	rules, err := r.NS.rules(r.family())
	if err != nil {
		return err
	}
	for i := range rules {
		if sameRule(&rules[i], want) {
			return nil
		}
	}
	return fmt.Errorf("rule is missing: %s", strings.TrimPrefix(r.line(""), "ip "))
}

func sameRule(got, want *netlink.Rule) bool {
	mask := func(r *netlink.Rule) uint32 {
		if r.Mask == nil {
			return 0
		}
		return *r.Mask
	}
	dst := func(r *netlink.Rule) string {
		if r.Dst == nil {
			return ""
		}
		return r.Dst.String()
	}
	return got.Priority == want.Priority && got.Mark == want.Mark && mask(got) == mask(want) &&
		got.IifName == want.IifName && got.Goto == want.Goto && got.Table == want.Table &&
		got.SuppressPrefixlen == want.SuppressPrefixlen && dst(got) == dst(want)
}

// Revert deletes the rule if Apply added it, and for this owner alone. It is no error if it is already
// gone.
func (r *Rule) Revert() error {
	if !r.added || r.Shared {
		return nil
	}
	return (&NoRule{r}).Apply()
}

// rules lists the rules of one family.
func (n *Namespace) rules(f family) (rules []netlink.Rule, err error) {
	err = retry(func() (err error) {
		rules, err = n.rt.RuleList(int(f))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return rules, nil
}

// DetachedIifs lists the names of interfaces that rules of one pref name as their iif, but that do not
// exist: ip-rule(8) shows such a rule as "[detached]".
func (n *Namespace) DetachedIifs(pref int) ([]string, error) {
	var names []string
	for _, f := range []family{v4, v6} {
		rules, err := n.rules(f)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if r.Priority != pref || r.IifName == "" || slices.Contains(names, r.IifName) {
				continue
			}
			_, err := n.Link(r.IifName).Index()
			if errors.Is(err, ErrNoLink) {
				names = append(names, r.IifName)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// NoRule is the absence of a rule.
type NoRule struct{ *Rule }

// String is the line of ip-rule(8).
func (n *NoRule) String() string { return n.line("del") }

// Apply deletes the rule, as often as it is there. It is no error if it is already gone.
func (n *NoRule) Apply() error {
	rule, err := n.netlink()
	if errors.Is(err, ErrNoLink) {
		return nil // the rule's table has gone with its interface; NoIif takes such rules
	}
	if err != nil {
		return err
	}
	return n.NS.deleteRules(rule)
}

// Verify tells whether the rule is gone.
func (n *NoRule) Verify() error {
	if n.Rule.Verify() == nil {
		return fmt.Errorf("rule is still there: %s", strings.TrimPrefix(n.line(""), "ip "))
	}
	return nil
}

// Revert does nothing: what is gone was ours.
func (*NoRule) Revert() error { return nil }

func (n *Namespace) deleteRules(rule *netlink.Rule) error {
	for {
		err := n.rt.RuleDel(rule)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EAFNOSUPPORT) {
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

// String is the line of ip-rule(8), for IPv4; the one for IPv6 is the same behind ip -6.
func (n *NoIif) String() string {
	return n.NS.line("ip rule del pref %d iif %s", n.Pref, n.Iif)
}

// Apply deletes the rules until there is none. It is no error if there is none.
func (n *NoIif) Apply() error {
	for _, f := range []family{v4, v6} {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.IifName = int(f), n.Pref, n.Iif
		if err := n.NS.deleteRules(rule); err != nil {
			return err
		}
	}
	return nil
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
			if r.Priority == n.Pref && r.IifName == n.Iif && (except == 0 || r.Table != except) {
				return fmt.Errorf("rule is still there: %d: iif %s lookup %d", n.Pref, n.Iif, r.Table)
			}
		}
	}
	return nil
}

// Revert does nothing: what is gone was ours.
func (*NoIif) Revert() error { return nil }
