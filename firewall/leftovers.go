package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// leftovers are what other backends, or the other variant of iptables, may hold of one rule set.
type leftovers struct {
	ns     Namespace
	node   bool                         // not a pod
	table  string                       // of nftables; "" if that is the backend
	halves func(variant string) []*half // of iptables, in both families
}

func (nftBackend) nftLeft(string) string { return "" }

func (iptBackend) nftLeft(table string) string { return table }

// The variants of iptables, as the names of the programs have them.
const (
	variantNFT    = "-nft"
	variantLegacy = "-legacy"
)

// settle deletes what was left and opens FORWARD. What is in nf_tables, iptables-nft's included, netlink tells and takes;
// only with deep are processes started, and only where iptables-legacy has been used.
func (l *leftovers) settle(deep bool) error {
	return l.with(func(n *nfTables) error {
		if err := l.sweep(n, true, deep); err != nil {
			return err
		}
		return l.open(n, deep)
	})
}

// settled tells what settle would have to do.
func (l *leftovers) settled() error {
	return l.with(func(n *nfTables) error { return errors.Join(l.sweep(n, false, true), l.isOpen(n)) })
}

// nfTables are the tables of nf_tables in a namespace, by one question for all of them, and the socket for more.
type nfTables struct {
	*conn
	tables []*nftables.Table
}

// has reports whether there is a table.
func (n *nfTables) has(t *nftables.Table) bool {
	return slices.ContainsFunc(n.tables, func(other *nftables.Table) bool { return other.Family == t.Family && other.Name == t.Name })
}

// with calls f with the tables, none where the kernel has no nf_tables.
func (l *leftovers) with(f func(*nfTables) error) error {
	c, err := connect(l.ns)
	if unsupported(err) {
		return f(new(nfTables))
	}
	if err != nil {
		return err
	}
	defer c.close()
	tables, err := c.tables()
	if err != nil && !unsupported(err) {
		return fmt.Errorf("list tables: %w", err)
	}
	return f(&nfTables{c, tables})
}

func (l *leftovers) sweep(n *nfTables, remove, deep bool) error {
	own := "" // the variant that is the backend
	if l.table != "" {
		if !deep {
			return l.sweepTable(n, remove)
		}
		var err error
		if own, err = (&tool{}).ownVariant(l.ns); err != nil {
			return err
		}
	}
	err := l.sweepTable(n, remove)
	if own != variantNFT {
		err = errors.Join(err, l.sweepNFT(n, remove))
	}
	if deep && own != variantLegacy {
		err = errors.Join(err, l.sweepLegacy(remove))
	}
	return err
}

// sweepTable sweeps the table of the nftables backend, if it is no other of that name.
func (l *leftovers) sweepTable(n *nfTables, remove bool) error {
	if l.table == "" || !n.has(&nftables.Table{Name: l.table, Family: nftables.TableFamilyINet}) {
		return nil
	}
	left := &table{ns: l.ns, name: l.table, added: true}
	if foreign, err := left.foreign(n.conn); foreign || err != nil {
		return err
	}
	if !remove {
		return fmt.Errorf("table inet %s of the nftables backend is still there", l.table)
	}
	if err := left.Revert(); err != nil {
		return fmt.Errorf("delete table inet %s: %w", l.table, err)
	}
	return nil
}

// sweepNFT sweeps the chains of iptables-nft.
func (l *leftovers) sweepNFT(n *nfTables, remove bool) error {
	if !n.has(xtableOf("mangle", false)) && !n.has(xtableOf("mangle", true)) {
		return nil // every rule set has something there
	}
	for _, h := range l.halves(variantNFT) {
		name := h.holds(n)
		switch {
		case name == "":
		case !remove:
			return fmt.Errorf("%s: chain %s is still there", h.tool, name)
		default:
			if err := h.removeNFT(n.conn); err != nil {
				return fmt.Errorf("%s: delete chain %s and what belongs to it: %w", h.tool, name, err)
			}
		}
	}
	return nil
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
func (h *half) holds(n *nfTables) string {
	for _, t := range h.tables {
		if t.name == "filter" || !n.has(h.nftTable(t)) {
			continue
		}
		for _, ch := range t.chains {
			if _, err := n.policy(h.nftTable(t), ch.name); err == nil {
				return ch.name
			}
		}
	}
	return ""
}

func (h *half) nftTable(t xtable) *nftables.Table { return xtableOf(t.name, h.tool.v6) }

// removeNFT deletes what iptables-nft has of the half, in one transaction and without it: the program may be gone.
func (h *half) removeNFT(c *conn) (err error) {
	for range attempts {
		var tx transaction
		var flush, remove []func()
		for _, t := range h.tables {
			nt := h.nftTable(t)
			for _, ch := range t.chains {
				if _, err := c.policy(nt, ch.name); err != nil {
					continue
				}
				for _, r := range jumpsTo(c, nt, ch) {
					tx.deleteRule(nt, ch.from, &r)
				}
				flush = append(flush, func() { tx.deleteRule(nt, ch.name, nil) })
				remove = append(remove, func() { tx.deleteChain(nt, ch.name) })
			}
		}
		for _, step := range append(flush, remove...) { // they jump to one another
			step()
		}
		if err = tx.commit(c); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// jumpsTo are the rules of the built-in chain that jump to one of ours.
func jumpsTo(c *conn, t *nftables.Table, ch xchain) (jumps []kernelRule) {
	if ch.from == "" {
		return nil
	}
	rules, err := c.rules(t, ch.from)
	if err != nil {
		return nil // there is no such chain, then
	}
	return slices.DeleteFunc(rules[ch.from], func(r kernelRule) bool { return r.target != ch.name })
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
		v4, _ := os.ReadFile("/proc/thread-self/net/ip_tables_names") // the kernel has none, or not in this family
		v6, _ := os.ReadFile("/proc/thread-self/net/ip6_tables_names")
		names = [2][]string{strings.Fields(string(v4)), strings.Fields(string(v6))}
		return nil
	})
	return names
}
