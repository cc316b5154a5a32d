package routing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// MainTable is the id of the table that `ip route` shows.
const MainTable = unix.RT_TABLE_MAIN

// A Table is a routing table of a namespace: one with a fixed id, or one that belongs to an interface.
type Table struct {
	NS *Namespace

	id    int
	dev   *Link // the owner of a table of a device; nil for a fixed id
	start int
	not   []int // ids that are somebody's though they may be empty
	owned bool  // the first route of a device's table has been added
}

// Table names a table by its id.
func (n *Namespace) Table(id int) *Table { return &Table{NS: n, id: id} }

// DeviceTable names the table of one interface: start plus the interface's index, or the next id that
// nobody uses. Two interfaces never get the same one, nothing is scanned and nothing is locked; and the
// table empties itself when the interface goes. Some ids it never gets.
func (n *Namespace) DeviceTable(start int, dev *Link, not ...int) *Table {
	return &Table{NS: n, dev: dev, start: start, not: not}
}

// String is the id, or what a shell would compute it from while the interface does not exist yet.
func (t *Table) String() string {
	if t.id == 0 {
		return fmt.Sprintf("$((%d + $(cat %s)))", t.start, quote.Sh("/sys/class/net/"+t.dev.Name+"/ifindex"))
	}
	return fmt.Sprint(t.id)
}

// ID is the id of the table; for an interface's table the first free one. The error is ErrNoLink while
// that interface does not exist.
func (t *Table) ID() (int, error) {
	if t.id != 0 {
		return t.id, nil
	}
	index, err := t.dev.Index()
	if err != nil {
		return 0, err
	}
	return t.next(t.start+index, index)
}

// next takes the first id from the given one on that holds no route of another interface.
func (t *Table) next(id, dev int) (int, error) {
	for ; ; id++ {
		if slices.Contains(t.not, id) {
			continue
		}
		taken, err := t.NS.Used(id, dev)
		if err != nil {
			return 0, err
		}
		if !taken {
			t.id = id
			return id, nil
		}
	}
}

// Find takes the id of an interface's table from the rule that looks it up: what an earlier process
// chose. Without such a rule it stays to be chosen.
func (t *Table) Find(pref int) error {
	for _, f := range []family{v4, v6} {
		rules, err := t.NS.rules(f)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.pref == pref && r.iif == t.dev.Name {
				t.id = r.table
				return nil
			}
		}
	}
	return nil
}

// Used reports whether a table holds a route, in either family, that leaves by none of the interfaces of some indexes.
func (n *Namespace) Used(id int, except ...int) (bool, error) {
	found := false
	for _, f := range []family{v4, v6} {
		err := n.dumpTable(f, id, nil, func(r *dumped) {
			found = found || !slices.ContainsFunc(except, r.leavesBy)
		})
		if err != nil {
			return false, err
		}
	}
	return found, nil
}

// HasDefault reports whether the main table has a default route that leaves by none of the interfaces of some indexes.
func (n *Namespace) HasDefault(ipv6 bool, except ...int) (found bool, err error) {
	f := v4
	if ipv6 {
		f = v6
	}
	err = n.dumpTable(f, MainTable, &where{}, func(r *dumped) {
		found = found || r.plain() && !slices.ContainsFunc(except, r.leavesBy)
	})
	return found, err
}

// where says which routes of a table are looked for: those to prefixes of some length, and, unless it is 0, by the interface of an
// index. Those may be few where others have filled the table.
type where struct{ bits, oif int }

// dumpTable lists the routes of one table, filtered by the kernel, and further as it lists them: what is not looked for is not even
// parsed. A table that does not exist is empty. Nil: all of them.
func (n *Namespace) dumpTable(f family, id int, only *where, each func(*dumped)) error {
	parts := []nl.NetlinkRequestData{rtmsg(f, id), attr32(unix.RTA_TABLE, uint32(id))}
	if only != nil && only.oif != 0 {
		parts = append(parts, attr32(unix.RTA_OIF, uint32(only.oif)))
	}
	err := n.dump(unix.RTM_GETROUTE, f, func() {}, func(m []byte) error {
		if only != nil && int(m[1]) != only.bits { // struct rtmsg: the family, the length of the destination
			return nil
		}
		r, err := parseRoute(m)
		if err == nil && r.table == id {
			each(r)
		}
		return err
	}, parts...)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the routes of table %d: %w", id, err)
	}
	return nil
}
