package firewall

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/firewall/lockfile"
)

// The iptables backend: chains of its own, each jumped to once. A process costs 1 to 2 ms, whatever it does: so one
// process for each family checks the jumps of all tables, and only when they are not there it looks closer and writes.
type iptBackend struct{ variant string }

// add adds tables in one family.
func (s *ruleset) add(v6 bool, variant string, tables []xtable) {
	s.halves = append(s.halves, &half{tool: &tool{v6: v6, variant: variant}, ns: s.ns, owner: s.owner, tables: tables})
}

// A ruleset is what one network, or one pod, has in iptables.
type ruleset struct {
	ns     Namespace
	owner  string // begins every comment: "veth-host cni0"
	halves []*half
	shared bool // others rely on it: it is there, as a rule, and Revert leaves it
	there  bool // they are there, as a rule
	refuse error
}

// A half is the rule set in one family.
type half struct {
	tool   *tool
	ns     Namespace
	owner  string
	tables []xtable
	added  bool // by Apply, from nothing
	wrote  bool
	seal   string
}

// An xtable is what this package has in one table of iptables(8).
type xtable struct {
	name   string // mangle, nat, filter
	chains []xchain
}

// An xchain is a chain of this package. One without a built-in chain to be jumped to from is gone to by another.
type xchain struct {
	name  string
	from  string // the built-in chain
	last  bool   // the jump is the built-in chain's last rule: all others come first
	gone  bool   // only another configuration has it
	rules []xrule
}

// An xrule is a rule, in the words of iptables(8), and a comment that says what it is for.
type xrule struct {
	match, target string
	comment       string
}

func (h *half) line(c xchain, r xrule) string {
	return strings.Join(strings.Fields("-A "+c.name+" "+r.match), " ") + " " + h.comment(r) + " " + r.target
}

func (h *half) comment(r xrule) string {
	return fmt.Sprintf("-m comment --comment %q", h.owner+": "+r.comment)
}

// jump is the rule in a built-in chain. Its comment carries a digest of the whole rule set: it tells which version is
// there, because the jump is written in one transaction with the chains.
func (h *half) jump(c xchain) string {
	return fmt.Sprintf("-m comment --comment %q -j %s", h.owner+" ["+h.digest()+"]", c.name)
}

func (h *half) digest() string {
	if h.seal == "" {
		sum := fnv.New32a()
		for _, t := range h.tables {
			for _, c := range t.chains {
				_, _ = fmt.Fprintln(sum, t.name, c.name, c.from, c.last)
				for _, r := range c.rules {
					_, _ = fmt.Fprintln(sum, h.line(c, r))
				}
			}
		}
		h.seal = fmt.Sprintf("%08x", sum.Sum32())
	}
	return h.seal
}

// String is a command that a shell can run: iptables-restore(8) with the chains on its standard input, and the same for
// IPv6.
func (s *ruleset) String() string {
	var texts []string
	for _, h := range s.halves {
		texts = append(texts, s.ns.Command(fmt.Sprintf("%s <<'EOF'\n%sEOF", h.tool.restoreLine(), h.transaction(nil))))
	}
	return strings.Join(texts, "\n")
}

// Backend is what the configuration calls it.
func (s *ruleset) Backend() string { return IPTables }

// each does the same in both families at the same time.
func (s *ruleset) each(do func(*half) error) error {
	errs := make([]error, len(s.halves))
	var running sync.WaitGroup
	for i, h := range s.halves {
		running.Go(func() { errs[i] = do(h) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// Apply makes the rules what they should be. Those that are shared are there as a rule: their jumps are looked at. Any
// others are missing as a rule, so they are written without a look.
func (s *ruleset) Apply() error {
	if s.refuse != nil {
		return s.refuse
	}
	err := s.each(func(h *half) error { return h.apply(s.shared || s.there, s.shared) })
	if err != nil { // nobody can rely on one family alone
		err = errors.Join(err, s.undo())
	}
	return err
}

func (s *ruleset) wrote() bool {
	return slices.ContainsFunc(s.halves, func(h *half) bool { return h.wrote })
}

// apply writes each table in one transaction, which fails if the table is not as it was found: chains are created
// exclusively, and a chain cannot be deleted while there are other jumps to it than those found. So of the processes
// that find the same at the same moment one succeeds, and the others find it done. iptables-nft is not as exclusive as
// that: when somebody else writes at the same moment it begins again, takes a chain that is there by then for its own,
// and adds the rules a second time. Hence a lock, of those who have found something to be written for all pods; the rules in
// a pod are written by one process at a time, which has the lock of the pod, see package plugin.
func (h *half) apply(there, shared bool) error {
	if there {
		if same, err := h.look(); err != nil || same {
			return err
		}
	}
	if shared {
		unlock, err := lock(h.ns)
		if err != nil {
			return err
		}
		defer unlock()
		if same, err := h.look(); err != nil || same {
			return err
		}
	}
	var found seen // at first, nothing is expected
	h.added = true
	tried := false // again, though nobody was in the way
	for range attempts {
		err := h.tool.restore(h.ns, h.transaction(found))
		if err == nil {
			h.wrote = true
			return nil
		}
		if !refused(err) {
			h.added = h.added && !errors.Is(err, ErrUnavailable)
			return err
		}
		if same, err := h.look(); err != nil || same {
			h.added = false
			return err
		}
		again, observeErr := h.observe()
		switch {
		case observeErr != nil:
			return errors.Join(err, observeErr)
		case !again.equal(found) || !tried:
			tried = again.equal(found)
			// The tables that this process has written already are as they should be.
			h.added = h.added && !h.differs(again)
			found = again
		case there && h.added: // nobody is in the way, and nobody can rely on half of it
			return errors.Join(err, h.remove())
		default:
			return err
		}
	}
	return fmt.Errorf("%s: chains of %s: %w", h.tool, h.owner, ErrChanging)
}

// sharedPatience is how long a process waits for others that write what pods share. The first of many pods that start at the same
// time writes, and the others look, one after another: where iptables(8) is slow, each takes seconds.
const sharedPatience = 30 * time.Second

// lock is held by one process at a time that writes what pods share, on the node. Where another one has it for too long, the
// error is ErrBusy.
func lock(ns Namespace) (unlock func(), err error) {
	var stat unix.Stat_t
	if err := ns.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &stat) }); err != nil {
		return nil, fmt.Errorf("look at /proc/thread-self/ns/net: %w", err)
	}
	unlock, err = lockfile.Take(lockfile.Firewall, stat.Ino, sharedPatience)
	if errors.Is(err, lockfile.ErrHeld) {
		return nil, fmt.Errorf("the lock in %s: %w", lockfile.Path, ErrBusy)
	}
	return unlock, err
}

// differs tells whether there is anything of which this process would not have written.
func (h *half) differs(found seen) bool {
	for i, t := range h.tables {
		if !found[i].empty() && h.compare(t, found[i]) != nil {
			return true
		}
	}
	return false
}

// look asks whether the jumps of all tables are there, in one process. A process that says no says no more.
func (h *half) look() (same bool, err error) {
	var text strings.Builder
	for _, t := range h.tables {
		fmt.Fprintf(&text, "*%s\n", t.name)
		for _, c := range t.chains {
			if c.from != "" && !c.gone {
				fmt.Fprintf(&text, "-C %s %s\n", c.from, h.jump(c))
			}
		}
		text.WriteString("COMMIT\n")
	}
	err = h.tool.restore(h.ns, text.String())
	if refused(err) {
		return false, nil
	}
	return err == nil, err
}

// transaction is the input of iptables-restore(8) that turns what was found into what should be. What was never looked
// at is expected to be empty.
func (h *half) transaction(found seen) string {
	var text strings.Builder
	for i, t := range h.tables {
		var was tableSeen
		if found != nil {
			was = found[i]
		}
		if found != nil && h.compare(t, was) == nil {
			continue
		}
		fmt.Fprintf(&text, "*%s\n", t.name)
		kept := was.drop(&text, t.keeps)
		for _, c := range t.chains {
			if !c.gone && !kept[c.name] {
				fmt.Fprintf(&text, "-N %s\n", c.name)
			}
		}
		for _, c := range t.chains {
			for _, r := range c.rules {
				text.WriteString(h.line(c, r) + "\n")
			}
		}
		for _, c := range t.chains {
			switch {
			case c.from == "" || c.gone:
			case c.last:
				fmt.Fprintf(&text, "-A %s %s\n", c.from, h.jump(c))
			default:
				fmt.Fprintf(&text, "-I %s 1 %s\n", c.from, h.jump(c))
			}
		}
		text.WriteString("COMMIT\n")
	}
	return text.String()
}

// Verify compares the rules with the kernel's.
func (s *ruleset) Verify() error {
	return s.each(func(h *half) error {
		found, err := h.observe()
		if err != nil {
			return err
		}
		var diffs []error
		for i, t := range h.tables {
			if diff := h.compare(t, found[i]); diff != nil {
				diffs = append(diffs, fmt.Errorf("%s -t %s: %w", h.tool, t.name, diff))
			}
		}
		return errors.Join(diffs...)
	})
}

// compare tells what differs in one table, nil if nothing does. The kernel never changes a rule in place, so the rules
// are known by their comments, and the jump says which version of them is there.
func (h *half) compare(t xtable, found tableSeen) error {
	for _, c := range t.chains {
		rules, exists := found.chains[c.name]
		if c.gone {
			if exists {
				return fmt.Errorf("chain %s is of another configuration", c.name)
			}
			continue
		}
		if !exists {
			return fmt.Errorf("chain %s is missing", c.name)
		}
		same := len(rules) == len(c.rules)
		for i := 0; same && i < len(rules); i++ {
			same = strings.Contains(rules[i], h.comment(c.rules[i]))
		}
		if !same {
			return fmt.Errorf("chain %s is not as it should be (%d rules, %d wanted)", c.name, len(rules), len(c.rules))
		}
		if c.from == "" {
			continue
		}
		jumps := found.jumpsTo(c.name)
		if len(jumps) != 1 || !strings.HasSuffix(jumps[0], h.jump(c)) {
			return fmt.Errorf("%s has %d jumps to %s, want one with the comment [%s]", c.from, len(jumps), c.name, h.digest())
		}
	}
	return nil
}

// Revert deletes the rules if Apply made them and nobody else relies on them.
func (s *ruleset) Revert() error {
	if s.shared {
		return nil
	}
	return s.undo()
}

// undo deletes what Apply has made from nothing.
func (s *ruleset) undo() error {
	return s.each(func(h *half) error {
		if !h.added {
			return nil
		}
		return h.remove()
	})
}

// remove deletes the rules, whichever version of them is there. It is no error if they are already gone.
func (h *half) remove() error {
	for range attempts {
		found, err := h.observe()
		if err != nil || found.empty() {
			return err
		}
		var text strings.Builder
		for i, t := range h.tables {
			if !found[i].empty() {
				fmt.Fprintf(&text, "*%s\n", t.name)
				found[i].drop(&text, nil)
				text.WriteString("COMMIT\n")
			}
		}
		if err := h.tool.restore(h.ns, text.String()); err != nil && !refused(err) {
			return err
		}
	}
	return fmt.Errorf("%s: chains of %s: %w", h.tool, h.owner, ErrChanging)
}

// seen is what was found of a half: one for each of its tables.
type seen []tableSeen

// A tableSeen is what was found of an xtable, in the words of `iptables -S`.
type tableSeen struct {
	jumps  []string            // rules of built-in chains
	chains map[string][]string // the rules of those that exist
}

func (s seen) empty() bool {
	return !slices.ContainsFunc(s, func(t tableSeen) bool { return !t.empty() })
}

func (s seen) equal(other seen) bool {
	if s.empty() || other.empty() {
		return s.empty() && other.empty()
	}
	return slices.EqualFunc(s, other, func(a, b tableSeen) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
}

func (t tableSeen) empty() bool { return len(t.jumps) == 0 && len(t.chains) == 0 }

func (t tableSeen) jumpsTo(chain string) (jumps []string) {
	for _, j := range t.jumps {
		if strings.HasSuffix(j, " -j "+chain) {
			jumps = append(jumps, j)
		}
	}
	return jumps
}

// drop writes the lines that delete exactly this, but for the chains to be kept, which are emptied. The lines fail if
// any of it is gone, or if there are more jumps.
func (t tableSeen) drop(text *strings.Builder, keep func(string, tableSeen) bool) (kept map[string]bool) {
	kept = map[string]bool{}
	for _, j := range t.jumps {
		fmt.Fprintln(text, strings.Replace(j, "-A ", "-D ", 1))
	}
	for _, name := range sorted(t.chains) {
		fmt.Fprintln(text, "-F", name)
	}
	for _, name := range sorted(t.chains) {
		if kept[name] = keep != nil && keep(name, t); !kept[name] {
			fmt.Fprintln(text, "-X", name)
		}
	}
	return kept
}

// keeps reports whether a chain can stay for its new rules. One without a jump cannot: that it has none is part of what
// was found, and only the chain's deletion fails if there is one by now. All others do, because the kernel may not find
// the new one of two chains of the same name in a transaction, while the table of names grows.
func (t xtable) keeps(name string, found tableSeen) bool {
	i := slices.IndexFunc(t.chains, func(c xchain) bool { return c.name == name })
	return !t.chains[i].gone && (t.chains[i].from == "" || len(found.jumpsTo(name)) > 0)
}

// observe lists the chains of the half, and the rules of the built-in chains that jump to them.
func (h *half) observe() (seen, error) {
	found := make(seen, len(h.tables))
	for i, t := range h.tables {
		found[i].chains = map[string][]string{}
		for _, c := range t.chains {
			rules, err := h.tool.list(h.ns, t.name, c.name)
			if err != nil {
				return nil, err
			}
			if rules != nil {
				found[i].chains[c.name] = rules[1:]
			}
			if c.from == "" {
				continue
			}
			if rules, err = h.tool.list(h.ns, t.name, c.from); err != nil {
				return nil, err
			}
			found[i].jumps = append(found[i].jumps, tableSeen{jumps: rules}.jumpsTo(c.name)...)
		}
	}
	return found, nil
}

// Probe makes the rule set in a namespace of its own: there is no other way to know which matches and targets the
// kernel and the programs have.
func (b iptBackend) Probe(_ Namespace, n Node) error {
	return inScratch(func(ns Namespace) Change { return b.Node(ns, n) })
}
