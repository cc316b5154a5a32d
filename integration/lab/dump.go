package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
		kind   string
		listed bool // the order of the lines means something
		args   []string
	}{
		{"addr", false, []string{"ip", "-o", "addr", "show"}},
		{"route", false, []string{"ip", "-4", "route", "show", "table", "all"}},
		{"route6", false, []string{"ip", "-6", "route", "show", "table", "all"}},
		{"rule", true, []string{"ip", "-4", "rule", "show"}},
		{"rule6", true, []string{"ip", "-6", "rule", "show"}},
		{"neigh", false, []string{"ip", "neigh", "show", "nud", "permanent"}},
		{"proxy", false, []string{"ip", "neigh", "show", "proxy"}},
	} {
		lines, err := n.lines(part.args...)
		if err != nil {
			return nil, fmt.Errorf("dump %s: %w", n.Name, err)
		}
		if !part.listed {
			slices.Sort(lines)
		}
		for _, line := range lines {
			if !linkLocal.MatchString(line) {
				d = append(d, part.kind+" "+line)
			}
		}
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
		d = append(d, strings.TrimSpace(strings.Join([]string{
			"link", fact[1], state, fact[3], fact[4], linkMAC.FindString(line), linkAlias.FindString(line),
		}, " ")))
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

// dumpSysctls leaves out what cannot be read: the secret of a stable address that has not been made yet.
func (n *Namespace) dumpSysctls() (Dump, error) {
	var d Dump
	err := n.Do(func() error {
		for _, pattern := range []string{"net/ipv4/conf/*/*", "net/ipv6/conf/*/*", "net/ipv4/ip_forward"} {
			files, err := filepath.Glob("/proc/sys/" + pattern)
			if err != nil {
				return fmt.Errorf("list settings: %w", err)
			}
			for _, file := range files {
				value, err := os.ReadFile(file)
				switch {
				case errors.Is(err, fs.ErrNotExist), filepath.Base(file) == "stable_secret":
				case err != nil:
					return fmt.Errorf("read a setting: %w", err)
				default:
					d = append(d, fmt.Sprintf("sysctl %s %s", strings.TrimPrefix(file, "/proc/sys/"), strings.TrimSpace(string(value))))
				}
			}
		}
		return nil
	})
	slices.Sort(d)
	return d, err
}

// lines runs a program and splits what it prints, with single blanks between words.
func (n *Namespace) lines(args ...string) ([]string, error) {
	text, err := n.Run(args[0], args[1:]...)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(blanks.ReplaceAllString(strings.ReplaceAll(line, `\`, " "), " ")))
	}
	return lines, nil
}
