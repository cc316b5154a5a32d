package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The nftables backend: one table of family inet per network and one in each pod. Adding to nftables is
// nearly free, while deleting anything costs an RCU grace period (8 to 16 ms): so it looks first, and
// writes only when what it finds is not what it wants.
type nftBackend struct{}

// A table is the whole of one nftables table as this package wants it.
type table struct {
	ns     Namespace
	name   string
	chains []chain
	shared bool   // others rely on it: it is there, as a rule, and Revert leaves it
	there  bool   // it is there, as a rule
	added  bool   // by Apply, from nothing
	fresh  bool   // Apply has written it
	sum    []byte // of text
}

// A chain with a hook is a base chain; one without is only jumped to.
type chain struct {
	name     string
	kind     nftables.ChainType // filter, nat, route
	hook     *nftables.ChainHook
	hookName string
	priority nftables.ChainPriority
	rules    []rule
}

// A rule is a list of terms and a comment that says what it is for.
type rule struct {
	terms   []term
	comment string
}

func (r rule) String() string {
	words := make([]string, 0, len(r.terms)+1)
	for _, t := range r.terms {
		words = append(words, t.text)
	}
	return strings.Join(append(words, fmt.Sprintf("comment %q", r.comment)), " ")
}

// typeDigest is a user data type that nft(8) does not know and therefore ignores.
const typeDigest userdata.Type = 0xd6

// digest tells a rule of this table from any other, by what nft(8) would print for the whole table and by
// the rule's place in it. It is kept in the rule's user data, beside the comment. The kernel never changes
// a rule in place, so a rule that carries the digest is the one that was written with it; and since a
// table is written in one transaction, each of its rules tells which version of the table is there.
func (t *table) digest(chain, rule int) []byte {
	if t.sum == nil {
		h := fnv.New128a()
		_, _ = h.Write([]byte(t.text()))
		t.sum = h.Sum(nil)
	}
	return append(slices.Clip(t.sum), byte(chain), byte(rule))
}

// String is a command that a shell can run: nft(8) with the table on its standard input.
func (t *table) String() string { return t.ns.Command("nft -f - <<'EOF'\n" + t.text() + "EOF") }

// text is the table in the words of nft(8).
func (t *table) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "table inet %s {\n", t.name)
	for _, c := range t.chains {
		fmt.Fprintf(&s, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(&s, "\t\ttype %s hook %s priority %d; policy accept;\n", c.kind, c.hookName, c.priority)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&s, "\t\t%s\n", r)
		}
		s.WriteString("\t}\n")
	}
	s.WriteString("}\n")
	return s.String()
}

// attempts bounds how often Apply looks again after somebody else has changed the table meanwhile.
const attempts = 5

// Apply makes the table what it should be, in one transaction. A shared table is there as a rule, so it is
// looked at. Any other is missing as a rule, so it is created without a look. It is created
// exclusively: of the processes that find it missing at the same moment one succeeds, and the others find
// it there. A table of that name that is somebody else's stays, which is an error.
func (t *table) Apply() error {
	c, err := connect(t.ns)
	if err != nil {
		return err
	}
	defer c.close()
	if t.shared || t.there {
		if state, err := t.compare(c); err != nil || state == nil {
			return err
		}
	}
	exists := false
	for range attempts {
		var tx transaction
		if exists {
			if state, err := t.compare(c); err != nil || state == nil {
				return err
			}
			switch foreign, err := t.foreign(c); {
			case err != nil:
				return err
			case foreign:
				return fmt.Errorf("table inet %s: it is somebody else's: no rule of it is ours; accepted: none of that name, an empty one or ours", t.name)
			}
			tx.deleteTable(t.netlink())
		}
		t.queue(&tx)
		err = tx.commit(c)
		switch {
		case err == nil:
			t.added, t.fresh = !exists, true
			return nil
		case errors.Is(err, fs.ErrExist):
			exists = true
		case errors.Is(err, fs.ErrNotExist) && exists:
			exists = false // deleted by somebody else since we looked
		default:
			t.added = !exists // it may have been: the answer can get lost
			return err
		}
	}
	return fmt.Errorf("table inet %s: %w", t.name, ErrChanging)
}

// foreign tells whether the table is somebody else's. It is ours if any rule has a digest, of whichever release, or one of our
// comments, which is what a ruleset that was saved and restored has; or if it has no rules, and nothing else but chains
// of ours.
func (t *table) foreign(c *conn) (bool, error) {
	rules, err := c.rules(t.netlink(), "")
	if err != nil {
		return false, fmt.Errorf("list table inet %s: %w", t.name, err)
	}
	for _, chain := range rules {
		if slices.ContainsFunc(chain, t.wroteRule) {
			return false, nil
		}
	}
	if len(rules) == 0 {
		all, err := c.holds(t.netlink())
		for _, ch := range t.chains {
			if _, missing := c.policy(t.netlink(), ch.name); missing == nil {
				all--
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look at table inet %s: %w", t.name, err)
		}
		return all > 0, nil // 0, too, if it has gone meanwhile
	}
	return true, nil
}

// wroteRule tells whether a rule looks like one of this package.
func (t *table) wroteRule(r kernelRule) bool {
	return userdata.Get(r.data, typeDigest) != nil || slices.ContainsFunc(t.chains, func(ch chain) bool {
		return slices.ContainsFunc(ch.rules, func(own rule) bool {
			comment, ok := userdata.GetString(r.data, userdata.TypeComment)
			return ok && comment == own.comment
		})
	})
}

func (t *table) Backend() string { return NFTables }

func (t *table) wrote() bool { return t.fresh }

func (t *table) netlink() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

// queue adds the whole table to the transaction. It has to be a new one.
func (t *table) queue(tx *transaction) {
	nt := t.netlink()
	tx.addTable(nt, unix.NLM_F_EXCL)
	for _, ch := range t.chains {
		tx.addChain(nt, ch)
	}
	for i, ch := range t.chains {
		for j, r := range ch.rules {
			data := userdata.AppendString(nil, userdata.TypeComment, r.comment)
			tx.addRule(nt, ch.name, r, userdata.Append(data, typeDigest, t.digest(i, j)))
		}
	}
}

// Verify compares the table with the kernel's.
func (t *table) Verify() error {
	c, err := connect(t.ns)
	if err != nil {
		return err
	}
	defer c.close()
	state, err := t.compare(c)
	if state == nil && err == nil {
		state, err = t.comparePolicies(c)
	}
	return errors.Join(state, err)
}

// compare tells whether all rules are there, which is all that an ADD asks.
func (t *table) compare(c *conn) (state, err error) {
	rules, err := c.rules(t.netlink(), "")
	if err != nil {
		return nil, fmt.Errorf("list table inet %s: %w", t.name, err)
	}
	var missing, other []string
	for i, ch := range t.chains {
		got := rules[ch.name]
		same := len(got) == len(ch.rules)
		for j := 0; same && j < len(got); j++ {
			same = bytes.Equal(userdata.Get(got[j].data, typeDigest), t.digest(i, j))
		}
		switch {
		case len(got) == 0:
			missing = append(missing, ch.name)
		case !same:
			other = append(other, ch.name)
		}
	}
	switch {
	case len(missing) == len(t.chains):
		return fmt.Errorf("table inet %s is missing or empty", t.name), nil
	case len(missing)+len(other) == len(t.chains):
		return fmt.Errorf("table inet %s is of another configuration", t.name), nil
	case len(missing)+len(other) > 0:
		return fmt.Errorf("table inet %s has other rules in %s", t.name, strings.Join(append(missing, other...), ", ")), nil
	}
	return nil, nil
}

// comparePolicies tells whether a base chain drops what no rule has decided.
func (t *table) comparePolicies(c *conn) (state, err error) {
	for _, ch := range t.chains {
		if ch.hook == nil {
			continue
		}
		policy, err := c.policy(t.netlink(), ch.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // compare has said so
		}
		if err != nil {
			return nil, fmt.Errorf("list chain inet %s %s: %w", t.name, ch.name, err)
		}
		if policy != nftables.ChainPolicyAccept {
			return fmt.Errorf("chain inet %s %s has policy drop, not accept", t.name, ch.name), nil
		}
	}
	return nil, nil
}

// Revert deletes the table if Apply created it and nobody else relies on it. It is no error if it is
// already gone.
func (t *table) Revert() error {
	if t.shared {
		return nil
	}
	return t.undo()
}

// undo deletes what Apply has made from nothing.
func (t *table) undo() error {
	if !t.added {
		return nil
	}
	c, err := connect(t.ns)
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	tx.deleteTable(t.netlink())
	if err := tx.commit(c); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Probe looks for a table of this package, which is proof. Where there is none, it makes one in a namespace of its own.
func (b nftBackend) Probe(ns Namespace, n Node) error {
	return b.probe(ns, func(ns Namespace) Change { return b.Node(ns, n) })
}

func (nftBackend) probe(ns Namespace, set func(Namespace) Change) error {
	c, err := connect(ns)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer c.close()
	tables, err := c.tables()
	if err != nil {
		return fmt.Errorf("%w: list tables: %w", ErrUnavailable, err)
	}
	first := ""
	if want, ok := set(ns).(*table); ok {
		first = want.chains[0].name
	}
	ours := func(t *nftables.Table) bool { // with the chain that an earlier release did not have
		if t.Family != nftables.TableFamilyINet || !strings.HasPrefix(t.Name, "veth") {
			return false
		}
		_, err := c.policy(t, first)
		return err == nil
	}
	if slices.ContainsFunc(tables, ours) {
		return nil
	}
	return try(set)
}

// try makes a table in a namespace of its own.
func try(set func(Namespace) Change) error {
	if err := inScratch(set); err != nil {
		return fmt.Errorf("%w: make a table: %w", ErrUnavailable, err)
	}
	return nil
}
