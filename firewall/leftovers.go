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

// sweep deletes what was left, or tells that there is something. What is in nf_tables, iptables-nft's included, netlink
// tells and takes; only with deep are processes started, and only where iptables-legacy has been used.
func (l *leftovers) sweep(remove, deep bool) error {
	own := "" // the variant that is the backend
	if l.table != "" {
		if !deep {
			return l.sweepNFT(remove, false)
		}
		var err error
		if own, err = (&tool{}).ownVariant(l.ns); err != nil {
			return err
		}
	}
	err := l.sweepNFT(remove, own != variantNFT)
	if deep && own != variantLegacy {
		err = errors.Join(err, l.sweepLegacy(remove))
	}
	return err
}

// sweepNFT sweeps what is in nf_tables: the table of the nftables backend, and with chains those of iptables-nft.
func (l *leftovers) sweepNFT(remove, chains bool) error {
	c, err := connect(l.ns)
	if unsupported(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseLasting() }()
	if l.table != "" {
		_, err := c.ListTableOfFamily(l.table, nftables.TableFamilyINet)
		switch {
		case err != nil:
		case !remove:
			return fmt.Errorf("table inet %s of the nftables backend is still there", l.table)
		default:
			if err := (&table{ns: l.ns, name: l.table, added: true}).Revert(); err != nil {
				return fmt.Errorf("delete table inet %s: %w", l.table, err)
			}
		}
	}
	if !chains {
		return nil
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

func (h *half) nftTable(t xtable) *nftables.Table {
	family := nftables.TableFamilyIPv4
	if h.tool.v6 {
		family = nftables.TableFamilyIPv6
	}
	return &nftables.Table{Name: t.name, Family: family}
}

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
	for i, h := range l.halves(variantLegacy) {
		h.tables = slices.DeleteFunc(h.tables, func(t xtable) bool { return !legacyTable(l.ns, i == 1, t.name) })
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

// legacyTable reports whether iptables-legacy has a table in the namespace. Asking iptables-legacy would make one.
func legacyTable(ns Namespace, v6 bool, name string) (found bool) {
	file := "/proc/thread-self/net/ip_tables_names"
	if v6 {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	_ = ns.Do(func() error {
		names, err := os.ReadFile(file)
		for line := range strings.Lines(string(names)) {
			found = found || strings.TrimSpace(line) == name
		}
		return err
	})
	return found
}
