package conflist

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Prefixes are sorted, IPv4 first, without host bits, and no address is in two of them. None of them is
// 0.0.0.0/0 or ::/0, and none is an IPv4-mapped IPv6 prefix.
//
// In JSON they are a string, "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings. Host bits
// are dropped, order and overlaps do not matter; an empty list is accepted, an empty string is not.
type Prefixes []netip.Prefix

// V4 returns the IPv4 prefixes.
func (p Prefixes) V4() Prefixes { return p[:p.firstIPv6()] }

// V6 returns the IPv6 prefixes.
func (p Prefixes) V6() Prefixes { return p[p.firstIPv6():] }

func (p Prefixes) firstIPv6() int {
	if i := slices.IndexFunc(p, func(one netip.Prefix) bool { return one.Addr().Is6() }); i >= 0 {
		return i
	}
	return len(p)
}

// Overlaps returns the first of the prefixes that shares an address with other, and whether there is one.
func (p Prefixes) Overlaps(other netip.Prefix) (netip.Prefix, bool) {
	for _, one := range p {
		if one.Overlaps(other) {
			return one, true
		}
	}
	return netip.Prefix{}, false
}

// String is the list with commas and no spaces.
func (p Prefixes) String() string {
	all := make([]string, len(p))
	for i := range p {
		all[i] = p[i].String()
	}
	return strings.Join(all, ",")
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Prefixes) UnmarshalJSON(raw []byte) error {
	all, err := unmarshalPrefixes(raw, parsePrefix)
	if err == nil {
		*p = all
	}
	return err
}

func unmarshalPrefixes(raw []byte, parse func(string) (netip.Prefix, error)) (Prefixes, error) {
	var lists []string
	if one, err := unquote(raw); err == nil {
		if one == "" {
			return nil, errEmpty
		}
		lists = []string{one}
	} else if string(raw) == "null" || json.Unmarshal(raw, &lists) != nil {
		return nil, errWrongType
	}
	var all Prefixes
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			one, err := parse(strings.TrimSpace(part))
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	all = all.merge()
	for _, one := range all { // here, since the halves of everything are everything
		if one.Bits() == 0 {
			return nil, errors.New(one.String() + " is every address")
		}
	}
	return all, nil
}

func (*Prefixes) accepted() string {
	return `address/length as in "172.20.252.0/22" or "172.20.252.0/22,fd00::/108", or a list of such strings`
}

func parsePrefix(s string) (netip.Prefix, error) {
	one, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return one, errors.New(quote(s) + " is not address/length")
	case one.Addr().Is4In6():
		return one, errors.New(s + " is IPv4 written as IPv6")
	}
	return one.Masked(), nil
}

// merge sorts the prefixes in place, drops those that others contain and joins halves: the kernel refuses a set of
// intervals that overlap.
func (p Prefixes) merge() Prefixes {
	insertionSort(p, netip.Prefix.Compare)
	merged := p[:0]
	for _, next := range p {
		if n := len(merged); n > 0 && merged[n-1].Overlaps(next) {
			continue // sorted: the wider one came first
		}
		merged = append(merged, next)
		for n := len(merged); n > 1; n-- {
			whole, ok := join(merged[n-2], merged[n-1])
			if !ok {
				break
			}
			merged = append(merged[:n-2], whole)
		}
	}
	return merged
}

// insertionSort sorts a list of a few values. slices.SortFunc would be 10 KB of every plugin for each type.
func insertionSort[T any](list []T, compare func(a, b T) int) {
	for i := range list {
		for j := i; j > 0 && compare(list[j-1], list[j]) > 0; j-- {
			list[j-1], list[j] = list[j], list[j-1]
		}
	}
}

// join returns the prefix whose two halves low and high are.
func join(low, high netip.Prefix) (netip.Prefix, bool) {
	if low.Bits() != high.Bits() || low.Bits() == 0 {
		return netip.Prefix{}, false
	}
	whole := netip.PrefixFrom(low.Addr(), low.Bits()-1).Masked()
	return whole, whole.Addr() == low.Addr() && whole.Contains(high.Addr())
}
