package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"underlay-cni/conflist/quote"
)

// A MarkUser is a rule of somebody else that reads or writes bits of a packet's or a connection's mark.
type MarkUser struct {
	Where  string // "table ip mangle, chain PREROUTING, handle 12", or the line of iptables-legacy
	Bits   uint32 // all of them where the rule takes the mark as a whole
	Writes bool
	Show   string // the command that shows the rule
}

// String says what the rule does.
func (u MarkUser) String() string {
	verb := "reads"
	if u.Writes {
		verb = "writes"
	}
	bits := fmt.Sprintf("%#x", u.Bits)
	if u.Bits == ^uint32(0) {
		bits = "the whole mark"
	}
	return fmt.Sprintf("%s %s %s", u.Where, verb, bits)
}

// MarkUsers lists the rules of others in a namespace that touch any of the bits: those of nf_tables, iptables-nft's among
// them, and those of iptables-legacy.
func MarkUsers(ns Namespace, bits uint32) (users []MarkUser, err error) {
	c, err := connectLibrary(ns)
	switch {
	case err == nil:
		defer func() { _ = c.CloseLasting() }()
		if users, err = markUsersNFT(c, bits); err != nil && !unsupported(err) {
			return nil, fmt.Errorf("list who uses marks: %w", err)
		}
	case !unsupported(err):
		return nil, err
	}
	var errs []error
	for _, v6 := range []bool{false, true} {
		for _, name := range append([]string{"raw", "security"}, xtableNames...) {
			t := &tool{v6: v6, variant: variantLegacy}
			text, err := t.save(ns, new(nfTables), name)
			errs = append(errs, err)
			users = append(users, markUsersLegacy(t, name, text, bits)...)
		}
	}
	return users, errors.Join(errs...)
}

// ServicesMarks are the bits of connections' marks that the rules of Services take on the node: one with iptables, none with
// nftables.
func ServicesMarks(services Change) uint32 {
	if Choose(services); services.Backend() == IPTables {
		return openedByPod
	}
	return 0
}

// connectLibrary opens a socket of google/nftables, which decodes the expressions of rules. Without a deadline: when one
// passes, it goes on receiving what it never gets, for ever and at full speed.
func connectLibrary(ns Namespace) (c *nftables.Conn, err error) {
	err = ns.Do(func() (err error) {
		// Not WithNetNSFd: it would start a thread for it.
		c, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	return c, nil
}

// ours reports whether a table or a chain is of this package.
func ours(tableName, chain string) bool {
	_, _, table := ownerOfTable(tableName)
	return table || chainName().MatchString(chain)
}

func markUsersNFT(c *nftables.Conn, bits uint32) (users []MarkUser, err error) {
	chains, err := c.ListChains()
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ours(ch.Table.Name, ch.Name) {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("list chain %s %s: %w", ch.Table.Name, ch.Name, err)
		}
		for _, r := range rules {
			read, written := markBits(r.Exprs)
			if (read|written)&bits == 0 {
				continue
			}
			u := MarkUser{
				Where: fmt.Sprintf("table %s %s, chain %s, handle %d", familyWord(ch.Table.Family), ch.Table.Name, ch.Name, r.Handle), Bits: read | written, Writes: written&bits != 0,
				Show: "nft -a list ruleset",
			}
			if words := ch.Table.Name + " " + ch.Name; quote.Sh(ch.Table.Name)+" "+quote.Sh(ch.Name) == words { // nft(8) reads no others
				u.Show = "nft -a list chain " + familyWord(ch.Table.Family) + " " + words
			}
			if u.Writes {
				u.Bits = written
			}
			users = append(users, u)
		}
	}
	return users, nil
}

func familyWord(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	default:
		return strconv.Itoa(int(f))
	}
}

// markBits follows the marks through the registers of a rule: which bits are compared, and which are written.
func markBits(exprs []expr.Any) (read, written uint32) {
	type register struct {
		of        string // whose mark it holds, "" for anything else
		seen, set uint32 // bits that are left of the mark, and bits that differ from it
	}
	const whole = ^uint32(0)
	regs := map[uint32]register{}
	access := func(mark, store bool, reg uint32, of string) {
		switch r := regs[reg]; {
		case !mark && !store:
			delete(regs, reg)
		case mark && !store:
			regs[reg] = register{of: of, seen: whole}
		case mark && r.of == of:
			written |= r.set
		case mark:
			written = whole
		}
	}
	compare := func(reg uint32) {
		if r := regs[reg]; r.of != "" {
			read |= r.seen
		}
	}
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			access(e.Key == expr.MetaKeyMARK, e.SourceRegister, e.Register, "packet")
		case *expr.Ct:
			access(e.Key == expr.CtKeyMARK, e.SourceRegister, e.Register, "connection")
		case *expr.Bitwise:
			if r := regs[e.SourceRegister]; r.of != "" && len(e.Mask) == 4 && len(e.Xor) == 4 {
				mask, xor := binaryutil.NativeEndian.Uint32(e.Mask), binaryutil.NativeEndian.Uint32(e.Xor)
				regs[e.DestRegister] = register{of: r.of, seen: r.seen & mask, set: r.set | ^mask | xor}
			} else {
				delete(regs, e.DestRegister)
			}
		case *expr.Immediate:
			delete(regs, e.Register)
		case *expr.Cmp:
			compare(e.Register)
		case *expr.Lookup:
			compare(e.SourceRegister)
		case *expr.Match:
			if e.Name == "mark" || e.Name == "connmark" { // struct xt_mark_mtinfo1: mark, mask
				read |= word(e.Info, 1)
			}
		case *expr.Target:
			switch e.Name {
			case "MARK": // struct xt_mark_tginfo2: mark, mask
				written |= word(e.Info, 0) | word(e.Info, 1)
			case "CONNMARK": // struct xt_connmark_tginfo1: ctmark, ctmask, nfmask
				written |= word(e.Info, 0) | word(e.Info, 1)
			}
		}
	}
	return read, written
}

// word is a 32-bit number of the data of an extension of iptables.
func word(info xt.InfoAny, index int) uint32 {
	data, ok := info.(*xt.Unknown)
	if !ok || len(*data) < 4*index+4 {
		return 0
	}
	return binary.NativeEndian.Uint32((*data)[4*index:])
}

// markOption is an option of iptables(8) that reads or writes a mark, as iptables-save prints it.
var markOption = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`--(mark|set-x?mark|(?:nf|ct)mask) (0x[0-9a-f]+)(?:/(0x[0-9a-f]+))?`)
})

func markUsersLegacy(t *tool, table, text string, bits uint32) (users []MarkUser) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		chain, _, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
		if !strings.HasPrefix(line, "-A ") || ours("", chain) {
			continue
		}
		u := MarkUser{Where: fmt.Sprintf("%s -t %s %s", t, table, line), Show: fmt.Sprintf("%s -t %s -S %s", t, table, chain)}
		for _, option := range markOption().FindAllStringSubmatch(line, -1) {
			value, _ := strconv.ParseUint(option[2], 0, 32)
			mask := uint64(^uint32(0))
			if option[3] != "" {
				mask, _ = strconv.ParseUint(option[3], 0, 32)
			}
			writes := option[1] != "mark"
			if writes && option[1] != "set-mark" && option[1] != "set-xmark" {
				mask = value // --nfmask, --ctmask
			}
			if writes && option[3] != "" {
				mask |= value
			}
			if uint32(mask)&bits != 0 {
				u.Bits |= uint32(mask)
				u.Writes = u.Writes || writes
			}
		}
		if u.Bits != 0 {
			users = append(users, u)
		}
	}
	return users
}

// ClosedForward lists the programs of iptables whose FORWARD has a policy of DROP in a namespace. Verify of a node's
// rules tells whether what belongs to pods passes all the same. It is an error if one cannot be listed.
func ClosedForward(ns Namespace) (programs []string, err error) {
	l := &leftovers{ns: ns}
	err = l.with(func(n *nfTables) error {
		var errs []error
		for _, variant := range []string{variantNFT, variantLegacy} {
			closed, err := l.closed(n, variant)
			errs = append(errs, err)
			for i, is := range closed {
				if is {
					programs = append(programs, (&tool{v6: i == 1, variant: variant}).String())
				}
			}
		}
		return errors.Join(errs...)
	})
	return programs, err
}
