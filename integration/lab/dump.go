package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Dump is what the kernel knows about a network namespace, one fact a line. Each line says of what kind it is, so
// that the difference of two dumps can be read by itself.
type Dump []string

// Dump writes down links, addresses, routes of all tables, rules, permanent neighbours, the nftables ruleset and the
// settings under net.ipv4.conf and net.ipv6.conf. The same state always gives the same text: what the kernel lists in
// the order of a hash is sorted, counters are left out, and so is what the kernel adds by itself, up to a second later,
// when an interface gets its carrier: IPv6 link-local addresses and their routes.
func (n *Namespace) Dump() (Dump, error) {
	var d Dump
	for _, part := range []struct {
		family string
		kinds  []kind
	}{
		{"-4", []kind{{"route", "route show table all", false}, {"rule", "rule show", true}}},
		{"-6", []kind{{"route6", "route show table all", false}, {"rule6", "rule show", true}}},
		{"", []kind{{"addr", "addr show", false}, {"neigh", "neigh show nud permanent", false}, {"proxy", "neigh show proxy", false}}},
	} {
		lines, err := n.list(part.family, part.kinds)
		if err != nil {
			return nil, fmt.Errorf("dump %s: %w", n.Name, err)
		}
		d = append(d, lines...)
	}
	for _, part := range []func() (Dump, error){n.dumpLinks, n.dumpFirewall, n.dumpSysctls} {
		lines, err := part()
		if err != nil {
			return nil, fmt.Errorf("dump %s: %w", n.Name, err)
		}
		d = append(d, lines...)
	}
	return d, nil
}

// A kind of fact is what a line of ip(8) lists.
type kind struct {
	name, line string
	ordered    bool // the order of the lines means something
}

// list runs lines of ip(8) in one process, which is most of the time that a Dump takes. lo is listed between them, as a
// mark.
func (n *Namespace) list(family string, kinds []kind) (d Dump, err error) {
	var batch strings.Builder
	for _, k := range kinds {
		batch.WriteString(k.line + "\nlink show dev lo\n")
	}
	cmd := exec.Command("ip", strings.Fields("-o "+family+" -batch -")...)
	cmd.Stdin = strings.NewReader(batch.String())
	text, err := n.Exec(cmd)
	if err != nil {
		return nil, err
	}
	lines := words(string(text))
	for _, k := range kinds {
		end := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "1: lo: <") })
		if end < 0 {
			return nil, fmt.Errorf("ip %s: the answer ends early: %q", k.line, text)
		}
		part := lines[:end]
		lines = lines[end+1:]
		if !k.ordered {
			slices.Sort(part)
		}
		for _, line := range part {
			if !linkLocal.MatchString(line) {
				d = append(d, k.name+" "+line)
			}
		}
	}
	return d, nil
}

// String is the whole text.
func (d Dump) String() string { return strings.Join(d, "\n") + "\n" }

// Since is what d has and the older dump has not, in the order of d.
func (d Dump) Since(older Dump) Dump {
	count := map[string]int{}
	for _, line := range older {
		count[line]++
	}
	var added Dump
	for _, line := range d {
		if count[line]--; count[line] < 0 {
			added = append(added, line)
		}
	}
	return added
}

var (
	linkLocal = regexp.MustCompile(`inet6 fe80:|\b(fe80:|ff00::/8).* proto kernel`)
	linkFact  = regexp.MustCompile(`^\d+: ([^:@]+)\S* <(\S*)> .*?(mtu \d+).*?(group \S+)`)
	linkMAC   = regexp.MustCompile(`link/\S+ \S+`)
	linkAlias = regexp.MustCompile(`alias .*$`)
	blanks    = regexp.MustCompile(`\s+`)
)

// dumpLinks keeps of ip-link(8) what somebody has set: not the queue lengths, nor the carrier.
func (n *Namespace) dumpLinks() (Dump, error) {
	lines, err := n.lines("ip", "-o", "link", "show")
	if err != nil {
		return nil, err
	}
	var d Dump
	for _, line := range lines {
		fact := linkFact.FindStringSubmatch(line)
		if fact == nil {
			return nil, fmt.Errorf("ip link show: a line that makes no sense: %q", line)
		}
		state := "down"
		if slices.Contains(strings.Split(fact[2], ","), "UP") {
			state = "up"
		}
		own, names, _ := strings.Cut(line, " altname ")
		d = append(d, strings.TrimSpace(strings.Join([]string{
			"link", fact[1], state, fact[3], fact[4], linkMAC.FindString(own), linkAlias.FindString(own),
		}, " ")))
		if names != "" {
			further := strings.Split(names, " altname ")
			slices.Sort(further)
			for _, name := range further {
				d = append(d, fmt.Sprintf("altname %s %s", fact[1], name))
			}
		}
	}
	return d, nil
}

// dumpFirewall names the table in front of each line of it.
func (n *Namespace) dumpFirewall() (Dump, error) {
	text, err := n.Run("nft", "--stateless", "list", "ruleset")
	if err != nil && NFT.Supported() == nil { // a kernel without nf_tables has no rules in it
		return nil, err
	}
	var d Dump
	var tables []xtable
	name, byIPTables := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if table, ok := strings.CutPrefix(line, "table "); ok {
			name = strings.TrimSuffix(table, " {")
			family, table, _ := strings.Cut(name, " ")
			// nft shows what targets of iptables say in one family at a time only, whichever comes first.
			if byIPTables = family != "inet" && slices.Contains(builtIn, table); byIPTables {
				tables = append(tables, xtable{family + "tables-nft", table})
			}
		}
		if line != "" && !byIPTables {
			d = append(d, fmt.Sprintf("nft %s: %s", name, line))
		}
	}
	legacy, err := n.legacyTables()
	if err != nil {
		return nil, err
	}
	tables = append(tables, legacy...)
	slices.SortFunc(tables, func(a, b xtable) int { return cmp.Or(cmp.Compare(a.program, b.program), cmp.Compare(a.name, b.name)) })
	for _, t := range tables {
		lines, err := n.lines(t.program, "-w", "-t", t.name, "-S")
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			d = append(d, fmt.Sprintf("%s %s: %s", t.program, t.name, line))
		}
	}
	return d, nil
}

// An xtable is a table of iptables(8), with the program that made it. Asked for a table that is not there, that
// program would make it.
type xtable struct{ program, name string }

// builtIn are the tables of iptables.
var builtIn = []string{"filter", "mangle", "nat", "raw", "security"}

// legacyTables are those that the kernel has.
func (n *Namespace) legacyTables() (tables []xtable, err error) {
	for _, family := range []string{"ip", "ip6"} {
		var names []byte
		err := n.Do(func() (err error) {
			names, err = os.ReadFile("/proc/thread-self/net/" + family + "_tables_names")
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list the tables of %stables-legacy: %w", family, err)
		}
		for name := range strings.FieldsSeq(string(names)) {
			tables = append(tables, xtable{family + "tables-legacy", name})
		}
	}
	return tables, nil
}

// dumpSysctls leaves out what cannot be read: the secret of a stable address that has not been made yet. It opens each
// directory once, because the kernel keeps the names below /proc/sys/net of all namespaces in one list.
func (n *Namespace) dumpSysctls() (Dump, error) {
	var d Dump
	err := n.Do(func() error {
		for _, part := range []struct{ dir, pattern string }{{"net/ipv4/conf", "*/*"}, {"net/ipv6/conf", "*/*"}, {"net/ipv4", "ip_forward"}} {
			root, err := os.OpenRoot("/proc/sys/" + part.dir)
			if err != nil {
				return fmt.Errorf("list settings: %w", err)
			}
			defer root.Close()
			files, err := fs.Glob(root.FS(), part.pattern)
			if err != nil {
				return fmt.Errorf("list settings: %w", err)
			}
			for _, file := range files {
				value, err := root.ReadFile(file)
				switch {
				case errors.Is(err, fs.ErrNotExist), filepath.Base(file) == "stable_secret":
				case err != nil:
					return fmt.Errorf("read a setting: %w", err)
				default:
					d = append(d, fmt.Sprintf("sysctl %s/%s %s", part.dir, file, strings.TrimSpace(string(value))))
				}
			}
		}
		return nil
	})
	slices.Sort(d)
	return d, err
}

// lines runs a program and splits what it prints.
func (n *Namespace) lines(args ...string) ([]string, error) {
	text, err := n.Run(args[0], args[1:]...)
	return words(text), err
}

// words splits a text into lines, with single blanks between words.
func words(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(blanks.ReplaceAllString(strings.ReplaceAll(line, `\`, " "), " ")))
	}
	return lines
}
