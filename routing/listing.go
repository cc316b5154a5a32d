package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A ListedRule is a rule of whoever, as the kernel lists it.
type ListedRule struct {
	V6         bool
	Pref       int
	Protocol   uint8        // who has made it, of rt_protos(5): unix.RTPROT_KERNEL for ours
	From, To   netip.Prefix // not valid: any
	Iif, Oif   string       // "": any
	Mark, Mask uint32       // fwmark; Mask 0: any
	Table      int          // with action lookup
	Goto       int          // with action goto
	Action     uint8        // nl.FR_ACT_…
	NoDefault  bool         // suppress_prefixlength 0
	// More says that the rule selects by something else besides: ports, users, a tunnel, not.
	More bool
}

// Kernel reports whether the rule has protocol kernel, as all of ours do, and none that ip(8) makes unless it is told to.
func (r ListedRule) Kernel() bool { return r.Protocol == unix.RTPROT_KERNEL }

// String is the rule as ip-rule(8) lists it, with the numbers of tables, and the protocol unless it is ours.
func (r ListedRule) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d: %s", r.Pref, r.selector())
	switch r.Action {
	case nl.FR_ACT_TO_TBL:
		fmt.Fprintf(&s, " lookup %d", r.Table)
	case nl.FR_ACT_GOTO:
		fmt.Fprintf(&s, " goto %d", r.Goto)
	case nl.FR_ACT_NOP:
		s.WriteString(" nop")
	default:
		fmt.Fprintf(&s, " action %d", r.Action)
	}
	if r.NoDefault {
		s.WriteString(" suppress_prefixlength 0")
	}
	if !r.Kernel() {
		fmt.Fprintf(&s, " proto %d", r.Protocol)
	}
	return s.String()
}

func (r ListedRule) selector() string {
	words := []string{"from all"}
	if r.From.IsValid() {
		words[0] = "from " + r.From.String()
	}
	if r.To.IsValid() {
		words = append(words, "to "+r.To.String())
	}
	if r.Mask != 0 || r.Mark != 0 {
		words = append(words, fmt.Sprintf("fwmark %#x/%#x", r.Mark, r.Mask))
	}
	if r.Iif != "" {
		words = append(words, "iif "+quote.Sh(r.Iif))
	}
	if r.Oif != "" {
		words = append(words, "oif "+quote.Sh(r.Oif))
	}
	if r.More {
		words = append(words, "…")
	}
	return strings.Join(words, " ")
}

// Rule is the same rule as a change of a namespace. Only for a rule without From, Oif and More that is the whole of it.
func (r ListedRule) Rule(n *Namespace) *Rule {
	rule := &Rule{NS: n, V6: r.V6, Pref: r.Pref, Mark: r.Mark, Mask: r.Mask, To: r.To, Iif: r.Iif, Goto: r.Goto, NoDefault: r.NoDefault}
	if r.Action == nl.FR_ACT_TO_TBL {
		rule.Table = n.Table(r.Table)
	}
	return rule
}

// IsNop reports whether the rule decides nothing: it is there to be jumped to.
func (r ListedRule) IsNop() bool { return r.Action == nl.FR_ACT_NOP }

// Rules lists all rules in the order in which the kernel asks them, those of IPv4 first.
func (n *Namespace) Rules() (rules []ListedRule, err error) {
	for _, f := range []family{v4, v6} {
		before := len(rules)
		err := n.dump(unix.RTM_GETRULE, f, func() { rules = rules[:before] }, func(m []byte) error {
			r, err := parseListedRule(m)
			rules = append(rules, r)
			return err
		}, rtmsg(f, 0))
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("list rules: %w", err)
		}
	}
	return rules, nil
}

func parseListedRule(m []byte) (ListedRule, error) {
	known, err := parseRule(m)
	if err != nil {
		return ListedRule{}, err
	}
	msg := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[msg.Len():])
	if err != nil {
		return ListedRule{}, fmt.Errorf("parse a rule: %w", err)
	}
	const inverted = 0x2 // FIB_RULE_INVERT
	r := ListedRule{
		V6: msg.Family == unix.AF_INET6, Pref: known.pref, To: known.to, Iif: known.iif, Mark: known.mark, Mask: known.mask,
		Table: known.table, Goto: known.goTo, Action: msg.Type, NoDefault: known.noDefault, More: msg.Tos != 0 || msg.Flags&inverted != 0,
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.FRA_SRC:
			addr, _ := netip.AddrFromSlice(a.Value)
			r.From = netip.PrefixFrom(addr, int(msg.Src_len))
		case nl.FRA_OIFNAME:
			r.Oif = nl.BytesToString(a.Value)
		case nl.FRA_PROTOCOL:
			r.Protocol = a.Value[0]
		case nl.FRA_UID_RANGE, nl.FRA_IP_PROTO, nl.FRA_SPORT_RANGE, nl.FRA_DPORT_RANGE, nl.FRA_TUN_ID:
			r.More = true
		case nl.FRA_L3MDEV:
			r.More = r.More || a.Value[0] != 0
		}
	}
	return r, nil
}
