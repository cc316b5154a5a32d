package conflist

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
)

// A PortRange is the ports from First to Last, both included; First may equal Last, neither is 0.
type PortRange struct{ First, Last uint16 }

// String is the range as nft(8) writes it: 30000-32767, or 80 for a single port.
func (r PortRange) String() string {
	first := strconv.Itoa(int(r.First))
	if r.First == r.Last {
		return first
	}
	return first + "-" + strconv.Itoa(int(r.Last))
}

// PortRanges are sorted, and so far apart that at least one port lies between two of them.
//
// In JSON they are a string: "30000:32767" as iptables(8) writes it, "30000-32767" as the API server and nft(8)
// do, "30080" for one port, and lists of those with commas. Ranges may overlap and come in any order there.
type PortRanges []PortRange

// String is the list with commas and no spaces: 80,30000-32767.
func (r PortRanges) String() string {
	all := make([]string, len(r))
	for i := range r {
		all[i] = r[i].String()
	}
	return strings.Join(all, ",")
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *PortRanges) UnmarshalJSON(raw []byte) error {
	list, err := unquote(raw)
	if err != nil {
		return err
	}
	if list == "" {
		return errEmpty
	}
	var all PortRanges
	for part := range strings.SplitSeq(list, ",") {
		one, err := parsePortRange(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	*r = all.merge()
	return nil
}

func (*PortRanges) accepted() string {
	return `a string of ports from 1 to 65535, "30000-32767" or "30000:32767", lists with commas`
}

func parsePortRange(s string) (PortRange, error) {
	first, last := s, s
	if i := strings.IndexAny(s, ":-"); i >= 0 {
		first, last = s[:i], s[i+1:]
	}
	var r PortRange
	var err error
	if r.First, err = parsePort(first); err != nil {
		return r, err
	}
	if r.Last, err = parsePort(last); err != nil {
		return r, err
	}
	if r.First > r.Last {
		return r, errors.New(quote(s) + " runs backwards")
	}
	return r, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && n == 0:
		return 0, errors.New(quote(s) + " is out of range")
	case err != nil:
		return 0, errors.New(quote(s) + " is not a port")
	}
	return uint16(n), nil
}

// merge sorts the ranges in place and joins those that touch or overlap: the kernel refuses a set of intervals
// that overlap.
func (r PortRanges) merge() PortRanges {
	insertionSort(r, func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	merged := r[:1]
	for _, next := range r[1:] {
		last := &merged[len(merged)-1]
		if int(next.First) > int(last.Last)+1 {
			merged = append(merged, next)
			continue
		}
		last.Last = max(last.Last, next.Last)
	}
	return merged
}
