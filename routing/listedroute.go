package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A ListedRoute is a route of whoever, as the kernel lists it.
type ListedRoute struct {
	Dst      netip.Prefix
	Via, Src netip.Addr // not valid: none
	Dev      string     // "": it has several next hops, or none
	Metric   int
	Unicast  bool // it is no blackhole, unreachable, prohibit, throw …
	table    int
}

// String is the route as ip-route(8) lists it, with its table.
func (r ListedRoute) String() string {
	var words []string
	if !r.Unicast {
		words = append(words, "(no unicast)")
	}
	words = append(words, dstString(r.Dst))
	if r.Via.IsValid() {
		words = append(words, "via "+r.Via.String())
	}
	if r.Dev != "" {
		words = append(words, "dev "+quote.Sh(r.Dev))
	}
	if r.Src.IsValid() {
		words = append(words, "src "+r.Src.String())
	}
	if r.Metric != 0 {
		words = append(words, fmt.Sprint("metric ", r.Metric))
	}
	return strings.Join(append(words, fmt.Sprint("table ", r.table)), " ")
}

// RoutesIn lists the routes of one table, IPv4 first. A table that does not exist is empty.
func (n *Namespace) RoutesIn(table int) (routes []ListedRoute, err error) {
	names := map[int]string{0: ""}
	var indexes []int
	for _, f := range []family{v4, v6} {
		err := n.dumpTable(f, table, nil, func(d *dumped) {
			routes = append(routes, ListedRoute{Dst: d.dst, Via: d.via, Src: d.src, Metric: d.metric, Unicast: d.msg.Type == unix.RTN_UNICAST, table: table})
			indexes = append(indexes, d.oif)
		})
		if err != nil {
			return nil, err
		}
	}
	for i, index := range indexes {
		if _, known := names[index]; !known {
			// One that is gone has taken its routes along.
			if names[index], err = n.linkName(index); err != nil && !errors.Is(err, unix.ENODEV) {
				return nil, err
			}
		}
		routes[i].Dev = names[index]
	}
	return routes, nil
}
