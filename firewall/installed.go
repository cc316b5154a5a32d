package firewall

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"

	"underlay-cni/conflist/quote"
)

// Installed is a rule set of this package that is there, found by its name: whatever configuration has made it, and with
// whichever backend. It is a Change: Apply removes it.
type Installed struct {
	Owner   string // the plugin: veth-host, veth or router
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
func FindInstalled(ns Namespace) (all []*Installed, err error) {
	err = (&leftovers{ns: ns}).with(func(n *nfTables) error {
		for _, t := range n.tables {
			if owner, network, ok := ownerOfTable(t.Name); ok && t.Family == nftables.TableFamilyINet {
				all = append(all, &Installed{Owner: owner, Network: network, Holder: NFTables, ns: ns, table: &table{ns: ns, name: t.Name, added: true}})
			}
		}
		var errs []error
		for _, v6 := range []bool{false, true} {
			for _, variant := range []string{variantNFT, variantLegacy} {
				found, err := findChains(ns, &tool{v6: v6, variant: variant}, n)
				all, errs = append(all, found...), append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
	return all, err
}

// vethTable is the name of veth's table in a pod, and with a dot the prefix of a network's on the node. Router has a table
// in pods only.
const (
	vethTable   = "veth"
	routerTable = "router"
)

// ownerOfTable tells the plugin and the network of a table of nftables by its name; in a pod there is no network.
func ownerOfTable(name string) (owner, network string, ok bool) {
	if name == podTable || name == vethTable || name == routerTable {
		return name, "", true
	}
	if network, ok = strings.CutPrefix(name, podTable+"-"); ok {
		return podTable, network, true
	}
	network, ok = strings.CutPrefix(name, vethTable+".")
	return vethTable, network, ok
}

// InPod tells whether it is the rule set of a pod.
func (i *Installed) InPod() bool { return i.Network == "" && i.Group == 0 }

// xtableNames are the tables of iptables that this package has chains in.
var xtableNames = []string{"mangle", "nat", "filter"}

// save returns what iptables-save(8) prints of one table, nothing if there is no such table: then it would be made.
func (t *tool) save(ns Namespace, n *nfTables, name string) (string, error) {
	var exists bool
	if t.variant == variantNFT {
		exists = n.has(xtableOf(name, t.v6))
	} else {
		used := legacyTables(ns)
		exists = slices.Contains(used[0], name) && !t.v6 || slices.Contains(used[1], name) && t.v6
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

// chainName is the name of a chain of this package, with its plugin and the group of its network. Those of veth-host never
// look like those of veth: HOST is no group. Router has two, in pods.
var chainName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:(` + podChains + `|VETH)-(?:(\d+)-)?(?:PRE|POD|SRC|POST|FWD|OUT)|(ROUTER)-(?:PRE|OUT))$`)
})

// ownerOf is the plugin and the network in the comment of a jump.
var ownerOf = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`--comment "?(` + podTable + `|` + vethTable + `) (\S+) \[`)
})

// findChains finds those of all networks in one family of one variant.
func findChains(ns Namespace, t *tool, n *nfTables) (all []*Installed, err error) {
	type key struct{ prefix, group string }
	sets := map[key]*Installed{}
	for i, name := range xtableNames {
		text, err := t.save(ns, n, name)
		if err != nil {
			return nil, err
		}
		of := func(chain string) *Installed {
			match := chainName().FindStringSubmatch(chain)
			if match == nil {
				return nil
			}
			k := key{match[1] + match[3], match[2]}
			if sets[k] == nil {
				set := &Installed{Owner: strings.ToLower(k.prefix), Holder: t.String(), ns: ns, tool: t, names: xtableNames, seen: make(seen, len(xtableNames))}
				_, _ = fmt.Sscan(k.group, &set.Group)
				sets[k], all = set, append(all, set)
			}
			if sets[k].seen[i].chains == nil {
				sets[k].seen[i].chains = map[string][]string{}
			}
			return sets[k]
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if declared, ok := strings.CutPrefix(line, ":"); ok {
				chain, _, _ := strings.Cut(declared, " ")
				if s := of(chain); s != nil {
					s.seen[i].chains[chain] = nil
				}
				continue
			}
			from, _, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
			target := line[strings.LastIndex(line, " ")+1:]
			if s := of(target); s != nil && !chainName().MatchString(from) && strings.HasPrefix(line, "-A ") {
				s.seen[i].jumps = append(s.seen[i].jumps, line)
				if owner := ownerOf().FindStringSubmatch(line); owner != nil && owner[1] == s.Owner {
					s.Network = owner[2]
				}
			}
		}
	}
	return all, nil
}

// String is the command that removes it.
func (i *Installed) String() string {
	if i.table != nil {
		return i.ns.Command("nft delete table inet " + quote.Sh(i.table.name))
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
