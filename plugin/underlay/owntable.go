package underlay

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"underlay-cni/routing"
)

// Before compares names as people do: eth0, net1, net2, net10.
func Before(a, b string) bool {
	wordA, numberA := split(a)
	wordB, numberB := split(b)
	if wordA != wordB {
		return wordA < wordB
	}
	return numberA < numberB
}

// split parts a name from the number at its end, -1 if there is none.
func split(name string) (word string, number int) {
	word = strings.TrimRight(name, "0123456789")
	number, err := strconv.Atoi(name[len(word):])
	if err != nil {
		number = -1
	}
	return word, number
}

// OwnTable is the pod's table for the routes of an interface: the one that an earlier ADD has chosen; else start for
// net1, the next for net2, and so on; for any other name start. Where that one is taken, by the kernel, by another
// interface's addresses or by routes of others, it is the next that is free. by is the interface towards the node, whose
// routes are in all of these tables; it need not exist yet. Tables that the same plan gives to others are taken, too.
func OwnTable(pod *routing.Namespace, start int, dev, by *routing.Link, addrs []netip.Addr, taken ...int) (*routing.Table, error) {
	rules, err := pod.Froms(PrefFrom)
	if err != nil {
		return nil, err
	}
	live, err := pod.Addresses(nil)
	if err != nil {
		return nil, err
	}
	others := map[int]bool{}
	for _, r := range rules {
		if slices.Contains(addrs, r.From.Addr()) {
			return r.Table, nil
		}
		id, err := r.Table.ID()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(live, func(a routing.Address) bool { return a.Prefix.Addr() == r.From.Addr() }) {
			others[id] = true
		}
	}
	index, err := dev.Index()
	if err != nil {
		return nil, err
	}
	byIndex, err := by.Index()
	if err != nil {
		byIndex = index // there is none yet
	}
	id := start
	if word, number := split(dev.Name); word == "net" && number > 0 && number < 1<<16 {
		id += number - 1
	}
	for ; ; id++ {
		if others[id] || reserved(id) || slices.Contains(taken, id) {
			continue
		}
		used, err := pod.Used(id, index, byIndex)
		if err != nil {
			return nil, err
		}
		if !used {
			return pod.Table(id), nil
		}
	}
}

// reserved are the kernel's own tables, and ours for answers.
func reserved(id int) bool { return 253 <= id && id <= 255 || id == TableReply }
