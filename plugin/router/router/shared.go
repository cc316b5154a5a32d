package router

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// OwnsRule reports whether a rule of the node is one that a plan of this plugin makes, with whatever table.
func OwnsRule(r routing.ListedRule) bool {
	return r.Kernel() && r.Pref == prefHost && looksUp(r, r.Table) && (r.Table < 253 || r.Table > 255)
}

// A shared is what the attachments of all pods have on the node.
type shared struct {
	node    *routing.Namespace
	open    func(*routing.LinkAttrs) *routing.Namespace
	rules   []routing.ListedRule
	links   []*routing.LinkAttrs
	claims  []linkClaim
	planned []string // further names that a plan has
	all     []plugin.Oddity
}

// A linkClaim is a claim with the link that makes it.
type linkClaim struct {
	claim
	key  string
	link *routing.LinkAttrs
}

func (c linkClaim) ofTable(table int, v6 bool) bool { return c.table == table && c.addr.Is6() == v6 }

// OnNode tells what is odd about the rules, the tables and the further names that the attachments of all pods have on the
// node. Of attachments with facts, what is missing is told by their plans. The pod at the other end of a link is opened by
// open, nil if it cannot be, and closed here.
func OnNode(node *routing.Namespace, facts []*plugin.Facts, open func(*routing.LinkAttrs) *routing.Namespace) ([]plugin.Oddity, error) {
	s := &shared{node: node, open: open}
	tables := map[int]bool{}
	for _, f := range facts {
		s.planned = append(s.planned, f.Names...)
		for _, table := range f.Tables {
			tables[table] = true
		}
	}
	if err := s.look(); err != nil {
		return nil, err
	}
	for _, c := range s.claims {
		tables[c.table] = true
	}
	for _, r := range s.rules {
		if OwnsRule(r) {
			tables[r.Table] = true
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		for _, v6 := range []bool{false, true} {
			s.judgeRules(table, v6)
		}
		if err := s.judgeRoutes(table); err != nil {
			return nil, err
		}
	}
	s.judgeClaims()
	return s.all, nil
}

func (s *shared) look() (err error) {
	if s.rules, err = s.node.Rules(); err != nil {
		return err
	}
	if s.links, err = s.node.Links(func(l *routing.LinkAttrs) bool { return l.Kind == "veth" }); err != nil {
		return err
	}
	for _, l := range s.links {
		for _, name := range l.AltNames {
			if rest, ours := strings.CutPrefix(name, ofRoute); ours && len(rest) > keyLength {
				for _, c := range claims(l, rest[:keyLength]) {
					if c.name == name {
						s.claims = append(s.claims, linkClaim{c, rest[:keyLength], l})
					}
				}
			}
		}
	}
	return nil
}

// keyLength is that of a key.
const keyLength = len("01234567.01234567.")

func (s *shared) tell(o plugin.Oddity) { s.all = append(s.all, o) }

// word tells IPv6's from others that read the same.
func word(v6 bool) string {
	if v6 {
		return "IPv6 "
	}
	return ""
}

// judgeRules is about the rules of one family that look up a table.
func (s *shared) judgeRules(table int, v6 bool) {
	used := slices.ContainsFunc(s.claims, func(c linkClaim) bool { return c.ofTable(table, v6) })
	want := &routing.Rule{NS: s.node, V6: v6, Pref: prefHost, Table: s.node.Table(table), Shared: true}
	object := word(v6) + fmt.Sprintf("rule %d for table %d", prefHost, table)
	one := fmt.Sprintf("one rule: %d: from all lookup %d", prefHost, table)
	var there, elsewhere []string
	ours := false
	for _, r := range s.rules {
		switch {
		case r.V6 != v6 || r.Action != nl.FR_ACT_TO_TBL || r.Table != table:
		case r.Pref == prefHost && looksUp(r, table):
			there, ours = append(there, r.String()), ours || r.Kernel()
		default:
			elsewhere = append(elsewhere, r.String())
		}
	}
	switch {
	case used && len(there) == 0:
		o := plugin.Oddity{Object: object, Expected: one, Found: "missing: the node looks for pods on the wire", Weight: plugin.Wrong, Repair: []plugin.Change{want}}
		if len(elsewhere) > 0 {
			o.Found += "; there is " + strings.Join(elsewhere, ", ")
		}
		s.tell(o)
		return
	case len(there) > 1:
		s.tell(plugin.Oddity{Object: object, Expected: one, Found: fmt.Sprintf("%d times: %s", len(there), strings.Join(there, ", "))})
	case ours && !used:
		s.tell(plugin.Oddity{Object: object, Expected: "attachments that use it", Found: "none; it stays until `underlayctl uninstall`"})
	case used:
		s.tell(plugin.Oddity{Object: object, Expected: one, Found: "so", Weight: plugin.Fine})
	}
	if len(elsewhere) > 0 {
		s.tell(plugin.Oddity{Object: object, Expected: one, Found: "besides, a rule of others: " + strings.Join(elsewhere, ", ")})
	}
}

// judgeRoutes is about the routes of a table: whose they are, and whether they lead to them.
func (s *shared) judgeRoutes(table int) error {
	routes, err := s.node.RoutesIn(table)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if !s.claimed(table, r) {
			s.judgeRoute(table, r)
		}
	}
	for _, c := range s.claims {
		leads := slices.ContainsFunc(routes, func(r routing.ListedRoute) bool { return r.Dst == routing.Single(c.addr) && r.Dev == c.link.Name })
		if c.table == table && !leads && !slices.Contains(s.planned, c.name) && s.served(c) {
			s.tell(plugin.Oddity{
				Object: fmt.Sprintf("altname %s of %s", c.name, c.link.Name), Expected: fmt.Sprintf("%s dev %s table %d", c.addr, c.link.Name, table), Found: "no such route",
				Weight: plugin.Wrong, Advice: "# an ADD of the pod, or, if its configuration is known, underlayctl diagnose --fix --conf FILE",
			})
		}
	}
	return nil
}

// judgeRoute is about a route that is not as a further name of its interface says.
func (s *shared) judgeRoute(table int, r routing.ListedRoute) {
	var claimed []string
	for _, c := range s.claims {
		if c.table == table && routing.Single(c.addr) == r.Dst {
			claimed = append(claimed, c.link.Name)
		}
	}
	o := plugin.Oddity{Object: "route " + r.Dst.String() + fmt.Sprintf(" in table %d", table), Expected: "one of an attachment, as an altname of its interface says", Weight: plugin.Risk}
	deletion := fmt.Sprintf("ip %sroute del %s dev %s table %d", flag(r.Dst.Addr()), r.Dst, quote.Sh(r.Dev), table)
	switch {
	case len(claimed) > 0:
		o.Expected, o.Found, o.Weight = "dev "+strings.Join(claimed, " or "), r.String()+": it is not the pod's", plugin.Wrong
		o.Advice = "# underlayctl diagnose --fix, or an ADD of the pod, replaces it"
	case !r.Unicast || !r.Dst.IsSingleIP() || r.Dev == "" || !s.isVeth(r.Dev):
		o.Found = r.String() + ": somebody else's; all packets of the node ask this table first"
		o.Advice = "# another host_rule_table, for which pods have to be made again; or, if nobody needs it: " + deletion
	default:
		switch has, known := s.podHas(r.Dev, r.Dst.Addr()); {
		case has:
			o.Found, o.Weight = r.String()+": no altname tells whose it is, and the pod has the address: of another plugin", plugin.Note
		case known:
			o.Found, o.Advice = r.String()+": no altname tells whose it is, and the pod does not have the address", deletion
		default:
			o.Found, o.Advice = r.String()+": no altname tells whose it is", "# if the pod does not have the address: "+deletion
		}
	}
	s.tell(o)
}

func flag(addr netip.Addr) string {
	if addr.Is6() {
		return "-6 "
	}
	return ""
}

func (s *shared) isVeth(name string) bool {
	return slices.ContainsFunc(s.links, func(l *routing.LinkAttrs) bool { return l.Name == name })
}

// podHas tells whether the pod at the other end of an interface has an address, if that is known.
func (s *shared) podHas(dev string, addr netip.Addr) (has, known bool) {
	i := slices.IndexFunc(s.links, func(l *routing.LinkAttrs) bool { return l.Name == dev })
	pod := s.open(s.links[i])
	if pod == nil {
		return false, false
	}
	defer pod.Close()
	addrs, err := pod.Addresses(nil)
	return slices.ContainsFunc(addrs, func(a routing.Address) bool { return a.Prefix.Addr() == addr }), err == nil
}

// served tells whether the attachment of a claim is there, so that a DEL finds the claim.
func (s *shared) served(c linkClaim) bool {
	return slices.ContainsFunc(c.link.AltNames, func(name string) bool { return strings.HasPrefix(name, ofAttachment+c.key) })
}

// judgeClaims is about what further names tell that no plan has, and that several tell.
func (s *shared) judgeClaims() {
	for i, c := range s.claims {
		for _, other := range s.claims[:i] {
			if c.table == other.table && c.addr == other.addr && c.link.Index != other.link.Index {
				s.tell(plugin.Oddity{
					Object: "address " + c.addr.String(), Expected: "one pod's", Weight: plugin.Wrong,
					Found:  fmt.Sprintf("that of the pods behind %s and %s: the node reaches one of them", other.link.Name, c.link.Name),
					Advice: "# make one of both pods again, and look at the IPAM",
				})
			}
		}
	}
	for _, l := range s.leftovers() {
		s.tell(plugin.Oddity{Object: "altname " + l.Name, Expected: "an attachment of " + l.Dev, Found: "none: no DEL finds it", Weight: plugin.Wrong, Repair: l.Changes})
	}
	for _, c := range s.claims {
		examined := slices.ContainsFunc(s.planned, func(name string) bool { return strings.HasPrefix(name, ofAttachment+c.key) })
		if examined && s.served(c) && !slices.Contains(s.planned, c.name) {
			repair := c.end(s.node.Link(c.link.Name))
			if slices.ContainsFunc(s.claims, func(other linkClaim) bool {
				return other.name != c.name && other.addr == c.addr && other.link.Index == c.link.Index
			}) { // which needs the neighbour
				repair = slices.DeleteFunc(repair, func(change plugin.Change) bool { _, is := change.(*routing.NoNeigh); return is })
			}
			s.tell(plugin.Oddity{
				Object: "altname " + c.name, Expected: "what the attachment's plan has", Found: "of an earlier configuration, or of an address that it no longer has",
				Weight: plugin.Risk, Repair: repair,
			})
		}
	}
}

// A Leftover is a claim of an interface that knows nothing of its attachment: no DEL finds it.
type Leftover struct {
	Name, Dev string
	Changes   []plugin.Change // take it away
}

// Leftovers are those of a node.
func Leftovers(node *routing.Namespace) ([]Leftover, error) {
	s := &shared{node: node}
	err := s.look()
	return s.leftovers(), err
}

func (s *shared) leftovers() (all []Leftover) {
	for _, c := range s.claims {
		if !s.served(c) {
			all = append(all, Leftover{c.name, c.link.Name, c.end(s.node.Link(c.link.Name))})
		}
	}
	return all
}

// Used tells whether an attachment has a route that a rule leads to.
func Used(node *routing.Namespace, r routing.ListedRule) (bool, error) {
	s := &shared{node: node}
	err := s.look()
	return slices.ContainsFunc(s.claims, func(c linkClaim) bool { return c.ofTable(r.Table, r.V6) }), err
}

// Unclaimed are the routes of a table that no further name of their interface claims.
func Unclaimed(node *routing.Namespace, table int) ([]routing.ListedRoute, error) {
	s := &shared{node: node}
	if err := s.look(); err != nil {
		return nil, err
	}
	routes, err := node.RoutesIn(table)
	return slices.DeleteFunc(routes, func(r routing.ListedRoute) bool { return s.claimed(table, r) }), err
}

// claimed tells whether a further name of a route's interface claims it.
func (s *shared) claimed(table int, r routing.ListedRoute) bool {
	return slices.ContainsFunc(s.claims, func(c linkClaim) bool {
		return c.table == table && r.Dst == routing.Single(c.addr) && c.link.Name == r.Dev
	})
}
