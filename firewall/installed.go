package firewall

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/nftables"
)

// Installed is a rule set of this package that is there, found by its name: whatever configuration has made it, and with
// whichever backend. It is a Change: Apply removes it.
type Installed struct {
	Network string // "" in a pod, and where iptables does not tell
	Group   uint32 // of the network, which the chains of iptables are named by; 0 for nftables
	Holder  string // nftables, or the program that lists it: ip6tables-legacy

	ns    Namespace
	table *table   // of nftables
	tool  *tool    // of iptables
	names []string // of the tables of iptables
	seen  seen     // what is in them
}

// FindInstalled lists the rule sets of all networks, and that of a pod, in a namespace. It makes no tables by asking.
func FindInstalled(ns Namespace) ([]*Installed, error) {
	c, err := connect(ns)
	if err != nil && !unsupported(err) {
		return nil, err
	}
	var tables []*nftables.Table
	if err == nil {
		defer func() { _ = c.CloseLasting() }()
		if tables, err = c.ListTables(); err != nil && !unsupported(err) {
			return nil, fmt.Errorf("list tables: %w", err)
		}
	}
	var all []*Installed
	for _, t := range tables {
		network, isNetwork := strings.CutPrefix(t.Name, podTable+"-")
		if t.Family == nftables.TableFamilyINet && (isNetwork || t.Name == podTable) {
			if !isNetwork {
				network = ""
			}
			all = append(all, &Installed{Network: network, Holder: NFTables, ns: ns, table: &table{ns: ns, name: t.Name, added: true}})
		}
	}
	var errs []error
	for _, v6 := range []bool{false, true} {
		for _, variant := range []string{variantNFT, variantLegacy} {
			found, err := findChains(ns, &tool{v6: v6, variant: variant}, tables)
			all, errs = append(all, found...), append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// xtableNames are the tables of iptables that this package has chains in.
var xtableNames = []string{"mangle", "nat", "filter"}

// save returns what iptables-save(8) prints of one table, nothing if there is no such table: then it would be made.
func (t *tool) save(ns Namespace, tables []*nftables.Table, name string) (string, error) {
	exists := t.variant == variantLegacy && legacyTable(ns, t.v6, name)
	for _, nt := range tables {
		family := nftables.TableFamilyIPv4
		if t.v6 {
			family = nftables.TableFamilyIPv6
		}
		exists = exists || t.variant == variantNFT && nt.Family == family && nt.Name == name
	}
	plain := *t
	if !exists || !plain.orPlain(ns) {
		return "", nil
	}
	text, err := plain.run(ns, "-save", "", "-t", name)
	if refused(err) {
		return "", nil // a table of that name that iptables cannot read: nothing of iptables' is in it
	}
	return text, err
}

// chainName is the name of a chain of this package, with the group of its network.
var chainName = regexp.MustCompile(`^` + podChains + `-(?:(\d+)-)?(?:PRE|POD|POST|FWD|OUT)$`)

// ownerOf is the network in the comment of a jump.
var ownerOf = regexp.MustCompile(`--comment "?` + podTable + ` (\S+) \[`)

// findChains finds those of all networks in one family of one variant.
func findChains(ns Namespace, t *tool, tables []*nftables.Table) (all []*Installed, err error) {
	byGroup := map[string]*Installed{}
	for i, name := range xtableNames {
		text, err := t.save(ns, tables, name)
		if err != nil {
			return nil, err
		}
		of := func(chain string) *tableSeen {
			match := chainName.FindStringSubmatch(chain)
			if match == nil {
				return nil
			}
			set := byGroup[match[1]]
			if set == nil {
				set = &Installed{Holder: t.String(), ns: ns, tool: t, names: xtableNames, seen: make(seen, len(xtableNames))}
				_, _ = fmt.Sscan(match[1], &set.Group)
				byGroup[match[1]], all = set, append(all, set)
			}
			if set.seen[i].chains == nil {
				set.seen[i].chains = map[string][]string{}
			}
			return &set.seen[i]
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if declared, ok := strings.CutPrefix(line, ":"); ok {
				chain, _, _ := strings.Cut(declared, " ")
				if s := of(chain); s != nil {
					s.chains[chain] = nil
				}
				continue
			}
			from, _, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
			target := line[strings.LastIndex(line, " ")+1:]
			if s := of(target); s != nil && !chainName.MatchString(from) && strings.HasPrefix(line, "-A ") {
				s.jumps = append(s.jumps, line)
				if owner := ownerOf.FindStringSubmatch(line); owner != nil {
					byGroup[chainName.FindStringSubmatch(target)[1]].Network = owner[1]
				}
			}
		}
	}
	return all, nil
}

// String is the command that removes it.
func (i *Installed) String() string {
	if i.table != nil {
		return i.ns.Command("nft delete table inet " + i.table.name)
	}
	return i.ns.Command(fmt.Sprintf("%s <<'EOF'\n%sEOF", i.tool.restoreLine(), i.transaction()))
}

// Name is what an operator sees of it.
func (i *Installed) Name() string {
	if i.table != nil {
		return "table inet " + i.table.name
	}
	var names []string
	for n, t := range i.seen {
		for _, chain := range sorted(t.chains) {
			names = append(names, i.names[n]+" "+chain)
		}
	}
	return i.Holder + " " + strings.Join(names, ", ")
}

// Backend is what the configuration calls it.
func (i *Installed) Backend() string {
	if i.table != nil {
		return NFTables
	}
	return IPTables
}

func (i *Installed) transaction() string {
	var text strings.Builder
	for n, t := range i.seen {
		if !t.empty() {
			fmt.Fprintf(&text, "*%s\n", i.names[n])
			t.drop(&text, nil)
			text.WriteString("COMMIT\n")
		}
	}
	return text.String()
}

// Apply removes it, in one transaction for each table. It is no error if it is already gone.
func (i *Installed) Apply() error {
	if i.table != nil {
		return i.table.Revert()
	}
	t := *i.tool
	t.orPlain(i.ns)
	err := t.restore(i.ns, i.transaction())
	if refused(err) && i.Verify() == nil {
		return nil
	}
	return err
}

// Verify tells whether it is gone.
func (i *Installed) Verify() error {
	all, err := FindInstalled(i.ns)
	for _, other := range all {
		if other.Holder == i.Holder && other.Name() == i.Name() {
			return fmt.Errorf("%s is still there", i.Name())
		}
	}
	return err
}

// Revert does nothing: what is gone was ours.
func (*Installed) Revert() error { return nil }
