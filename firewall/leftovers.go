package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// leftovers are what other backends, or the other variant of iptables, may hold of one rule set.
type leftovers struct {
	ns     Namespace
	node   bool                         // not a pod
	table  string                       // of nftables; "" if that is the backend
	halves func(variant string) []*half // of iptables, in both families
}

func (n nftBackend) nodeLeft(ns Namespace, node Node) *leftovers {
	return &leftovers{ns: ns, node: true, halves: nodeHalves(ns, node)}
}

func (n nftBackend) podLeft(ns Namespace, p Pod) *leftovers {
	return &leftovers{ns: ns, halves: podHalves(ns, p)}
}

func (b iptBackend) nodeLeft(ns Namespace, n Node) *leftovers {
	return &leftovers{ns: ns, node: true, table: podTable + "-" + n.Network, halves: nodeHalves(ns, n)}
}

func (b iptBackend) podLeft(ns Namespace, p Pod) *leftovers {
	return &leftovers{ns: ns, table: podTable, halves: podHalves(ns, p)}
}

func nodeHalves(ns Namespace, n Node) func(string) []*half {
	n.Addr4, n.Addr6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	return func(variant string) []*half { return iptBackend{variant}.node(ns, n).halves }
}

func podHalves(ns Namespace, p Pod) func(string) []*half {
	p.IPv4, p.IPv6 = true, true
	return func(variant string) []*half { return iptBackend{variant}.pod(ns, p).halves }
}

// The variants of iptables, as the names of the programs have them.
const (
	variantNFT    = "-nft"
	variantLegacy = "-legacy"
)

// settle deletes what was left and opens FORWARD. What is in nf_tables, iptables-nft's included, netlink tells and takes;
// only with deep are processes started, and only where iptables-legacy has been used.
func (l *leftovers) settle(deep bool) error {
	return l.with(func(c *nftables.Conn) error {
		if err := l.sweep(c, true, deep); err != nil {
			return err
		}
		return l.open(c, deep)
	})
}

// settled tells what settle would have to do.
func (l *leftovers) settled() error {
	return l.with(func(c *nftables.Conn) error { return errors.Join(l.sweep(c, false, true), l.isOpen(c)) })
}

// with calls f with a socket, nil where the kernel has no nf_tables.
func (l *leftovers) with(f func(*nftables.Conn) error) error {
	c, err := connect(l.ns)
	if unsupported(err) {
		return f(nil)
	}
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseLasting() }()
	return f(c)
}

func (l *leftovers) sweep(c *nftables.Conn, remove, deep bool) error {
	own := "" // the variant that is the backend
	if l.table != "" {
		if !deep {
			return l.sweepTable(c, remove)
		}
		var err error
		if own, err = (&tool{}).ownVariant(l.ns); err != nil {
			return err
		}
	}
	err := l.sweepTable(c, remove)
	if own != variantNFT {
		err = errors.Join(err, l.sweepNFT(c, remove))
	}
	if deep && own != variantLegacy {
		err = errors.Join(err, l.sweepLegacy(remove))
	}
	return err
}

// sweepTable sweeps the table of the nftables backend.
func (l *leftovers) sweepTable(c *nftables.Conn, remove bool) error {
	if c == nil || l.table == "" || !exists(c, &nftables.Table{Name: l.table, Family: nftables.TableFamilyINet}) {
		return nil
	}
	if !remove {
		return fmt.Errorf("table inet %s of the nftables backend is still there", l.table)
	}
	if err := (&table{ns: l.ns, name: l.table, added: true}).Revert(); err != nil {
		return fmt.Errorf("delete table inet %s: %w", l.table, err)
	}
	return nil
}

// sweepNFT sweeps the chains of iptables-nft.
func (l *leftovers) sweepNFT(c *nftables.Conn, remove bool) error {
	if c == nil || !exists(c, xtableOf("mangle", false)) && !exists(c, xtableOf("mangle", true)) {
		return nil // every rule set has something there
	}
	for _, h := range l.halves(variantNFT) {
		name := h.holds(c)
		switch {
		case name == "":
		case !remove:
			return fmt.Errorf("%s: chain %s is still there", h.tool, name)
		default:
			if err := h.removeNFT(c); err != nil {
				return fmt.Errorf("%s: delete chain %s and what belongs to it: %w", h.tool, name, err)
			}
		}
	}
	return nil
}

func exists(c *nftables.Conn, t *nftables.Table) bool {
	_, err := c.ListTableOfFamily(t.Name, t.Family)
	return err == nil
}

// xtableOf is a table of iptables-nft.
func xtableOf(name string, v6 bool) *nftables.Table {
	family := nftables.TableFamilyIPv4
	if v6 {
		family = nftables.TableFamilyIPv6
	}
	return &nftables.Table{Name: name, Family: family}
}

// holds is the name of a chain of the half that iptables-nft has, but for those in filter, which are not only of the
// iptables backend (see open).
func (h *half) holds(c *nftables.Conn) string {
	for _, t := range h.tables {
		if t.name == "filter" {
			continue
		}
		for _, ch := range t.chains {
			if _, err := c.ListChain(h.nftTable(t), ch.name); err == nil {
				return ch.name
			}
		}
	}
	return ""
}

func (h *half) nftTable(t xtable) *nftables.Table { return xtableOf(t.name, h.tool.v6) }

// removeNFT deletes what iptables-nft has of the half, in one transaction and without it: the program may be gone.
func (h *half) removeNFT(c *nftables.Conn) (err error) {
	for range attempts {
		var ours []*nftables.Chain
		for _, t := range h.tables {
			nt := h.nftTable(t)
			for _, ch := range t.chains {
				if _, err := c.ListChain(nt, ch.name); err != nil {
					continue
				}
				for _, r := range jumpsTo(c, nt, ch) {
					if err := c.DelRule(r); err != nil {
						return err
					}
				}
				ours = append(ours, &nftables.Chain{Name: ch.name, Table: nt})
			}
		}
		for _, ch := range ours {
			c.FlushChain(ch)
		}
		for _, ch := range ours {
			c.DelChain(ch)
		}
		if err = c.Flush(); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// jumpsTo are the rules of the built-in chain that jump to one of ours.
func jumpsTo(c *nftables.Conn, t *nftables.Table, ch xchain) (jumps []*nftables.Rule) {
	if ch.from == "" {
		return nil
	}
	rules, err := c.GetRules(t, &nftables.Chain{Name: ch.from, Table: t})
	if err != nil {
		return nil // there is no such chain, then
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Chain == ch.name {
				jumps = append(jumps, r)
			}
		}
	}
	return jumps
}

// sweepLegacy sweeps what iptables-legacy holds. Where there is no such program, there is nothing of ours: whoever has
// made its tables has it elsewhere, in a container.
func (l *leftovers) sweepLegacy(remove bool) error {
	var errs []error
	used := legacyTables(l.ns)
	if len(used[0])+len(used[1]) == 0 {
		return nil
	}
	for i, h := range l.halves(variantLegacy) {
		h.tables = slices.DeleteFunc(h.tables, func(t xtable) bool { return !slices.Contains(used[i], t.name) })
		if len(h.tables) == 0 || !h.tool.orPlain(l.ns) {
			continue
		}
		found, err := h.observe()
		name := ""
		for j, t := range h.tables {
			if err == nil && t.name != "filter" && !found[j].empty() { // of filter there may be something, see open
				name = t.chains[0].name
			}
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case name == "":
		case !remove:
			errs = append(errs, fmt.Errorf("%s: chain %s is still there", h.tool, name))
		default:
			errs = append(errs, h.remove())
		}
	}
	return errors.Join(errs...)
}

// legacyTables are the tables of iptables-legacy in the namespace, for IPv4 and IPv6. Asking iptables-legacy would make
// them.
func legacyTables(ns Namespace) (names [2][]string) {
	_ = ns.Do(func() error {
		for i, file := range []string{"ip_tables_names", "ip6_tables_names"} {
			text, _ := os.ReadFile("/proc/thread-self/net/" + file) // the kernel has none, or not in this family
			names[i] = strings.Fields(string(text))
		}
		return nil
	})
	return names
}
