package plugintest

import (
	"fmt"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
)

// subnets are what is on the interface's link, in both families.
func (n *NIC) subnets() []any {
	return []any{fmt.Sprintf("10.10.%d.0/24", n.Number), fmt.Sprintf("fd%d::/64", n.Number)}
}

// leavesBy tests the way to some destinations, of both families, without a source address and with those of an interface; or only
// with these.
func (w *Trial) leavesBy(t *testing.T, dev string, n *NIC, bound bool, dsts ...string) {
	t.Helper()
	for _, dst := range dsts {
		flag, from := "-4", n.Addr4
		if strings.Contains(dst, ":") {
			flag, from = "-6", n.Addr6
		}
		queries := []string{dst + " from " + from, dst}
		if bound {
			queries = queries[:1]
		}
		for _, query := range queries {
			if out := w.Sh(t, "pod ip "+flag+" route get "+query); !strings.Contains(out, " dev "+dev+" ") {
				t.Errorf("to %s: want %s, got %s", query, dev, out)
			}
		}
	}
}

// HijackOfAWire tests that a hijack of exactly the subnet of an interface leaves that one its wire, whichever came first, with and without
// migration, and takes its place when it goes. Everybody's CHECK is content.
func (s *Subject) HijackOfAWire(t *testing.T) {
	t.Helper()
	first, later := s.First(Dual), s.Later(Dual)
	for _, test := range []struct {
		name      string
		hijacks   []any // of the first
		ofLater   []any
		takesOver bool // the first hijacks the later's
	}{
		{"the first the later's", later.subnets(), []any{}, true},
		{"the later the first's", []any{}, first.subnets(), false},
		{"each the other's", later.subnets(), first.subnets(), true},
		{"each its own", first.subnets(), later.subnets(), false},
	} {
		for mode := -1; mode <= 1; mode++ {
			t.Run(fmt.Sprint(test.name, ", migrate_route ", mode), func(t *testing.T) {
				t.Parallel()
				const key = "additional_hijack_subnet"
				w := s.New(t, Dual, "", first)
				neighbours := func(n *NIC) []string {
					return []string{fmt.Sprintf("10.10.%d.9", n.Number), fmt.Sprintf("fd%d::9", n.Number)}
				}
				look := func(n *NIC, pairs ...any) {
					t.Helper()
					w.Check(t, n, append(pairs, "migrate_route", mode)...)
					w.leavesBy(t, n.Name, n, false, neighbours(n)...)
				}
				alone := func() {
					t.Helper()
					look(first, key, test.hijacks)
					if test.takesOver {
						w.leavesBy(t, s.By, first, false, neighbours(later)...)
					}
				}
				w.Add(t, first, key, test.hijacks, "migrate_route", mode)
				alone()
				w.Sh(t, later.Make())
				for range 2 {
					w.Add(t, later, key, test.ofLater, "migrate_route", mode)
					look(later, key, test.ofLater)
					look(first, key, test.hijacks)
					w.Add(t, first, key, test.hijacks, "migrate_route", mode)
				}
				w.Del(t, later)
				w.Sh(t, "pod ip link del "+later.Name)
				alone()
			})
		}
	}
}

// RivalOfAHijack tests that a route to exactly a hijacked prefix, which the IPAM plugin has given the interface by a next hop, makes way for the
// hijack in both families, and is there again if the ADD fails. CHECK finds one that comes later, and ADD takes it away. The interface is the
// first one, a later one, or one of others.
func (s *Subject) RivalOfAHijack(t *testing.T, others ...*NIC) {
	t.Helper()
	for _, n := range append(others, s.First(Dual), s.Later(Dual)) {
		for _, metric := range []int{512, 1024} {
			t.Run(fmt.Sprint(n.Name, " with metric ", metric), func(t *testing.T) {
				t.Parallel()
				route := func(verb, metric4, metric6 string) string {
					return fmt.Sprintf("pod ip route %s 172.96.0.0/18 via 10.10.%d.1 dev %s%s; pod ip -6 route %[1]s 2001:4860:fd00::/108 via fd%[2]d::1 dev %[3]s%[5]s;", verb, n.Number, n.Name, metric4, metric6)
				}
				w := s.New(t, Dual, "")
				if first := s.First(Dual); n.Name == s.Later(Dual).Name {
					w.Come(t, first)
				}
				w.Sh(t, n.Make()+route("add", " metric 2000", " metric 2000")+route("append", "", fmt.Sprint(" metric ", metric)))
				before, failed := w.Show(t), 0
				for limit := 6; w.Limited(t, "ADD", limit, n, w.Request(n)).Status != 0; limit++ {
					failed++
					nettest.Same(t, fmt.Sprintf("the kernel, with %d descriptors", limit), s.WithoutTables(before), s.WithoutTables(w.Show(t)))
				}
				if failed < 3 {
					t.Errorf("ADD failed only %d times", failed)
				}
				for range 2 {
					w.Check(t, n)
					w.leavesBy(t, s.By, n, false, "172.96.0.10", "2001:4860:fd00::a")
					w.Add(t, n)
				}
				if out := w.Sh(t, "pod ip route; pod ip -6 route"); strings.Count(out, "metric 2000") != 2 {
					t.Errorf("what is no rival stays:\n%s", out)
				}
				w.Sh(t, route("add", "", " metric 512"))
				got := w.Verb(t, "CHECK", n, w.Request(n)).Failed(t)
				for _, says := range []string{"route is still there: ip route  172.96.0.0/18 via", "route is still there: ip -6 route  2001:4860:fd00::/108 via"} {
					if !strings.Contains(got.Msg, says) {
						t.Errorf("CHECK says %+v\nwant %s", got, says)
					}
				}
				w.Add(t, n)
				w.Check(t, n)
				w.leavesBy(t, s.By, n, false, "172.96.0.10", "2001:4860:fd00::a")
			})
		}
	}
}

// OwnHijacks tests interfaces each of which hijacks subnets and addresses of its own, also where the last one moves nothing: what has
// an interface's address reaches them by the node, whoever comes and goes behind it, and CHECK is content.
func (s *Subject) OwnHijacks(t *testing.T, nics ...*NIC) {
	t.Helper()
	for mode := -1; mode <= 0; mode++ {
		t.Run(fmt.Sprint("the last with migrate_route ", mode), func(t *testing.T) {
			t.Parallel()
			w := s.New(t, Dual, "")
			pairs := func(i int) []any {
				list := []any{fmt.Sprintf("172.%d.0.0/16", 30+i), fmt.Sprintf("192.0.2.%d", 30+i), fmt.Sprintf("fd99:%d::/64", 30+i), fmt.Sprintf("2001:db8:9::%d", 30+i)}
				of := []any{"additional_hijack_subnet", list}
				if i == len(nics)-1 {
					of = append(of, "migrate_route", mode)
				}
				return of
			}
			look := func(count int) {
				t.Helper()
				for i, n := range nics[:count] {
					w.Check(t, n, pairs(i)...)
					if i == len(nics)-1 && mode == 0 {
						continue // it may have no table of its own
					}
					w.leavesBy(t, s.By, n, true, fmt.Sprintf("172.%d.0.1", 30+i), fmt.Sprintf("192.0.2.%d", 30+i), fmt.Sprintf("fd99:%d::1", 30+i), fmt.Sprintf("2001:db8:9::%d", 30+i))
				}
			}
			for i, n := range nics {
				w.Come(t, n, pairs(i)...)
				look(i + 1)
			}
			for i, n := range nics {
				w.Add(t, n, pairs(i)...)
			}
			look(len(nics))
			for i := len(nics) - 1; i > 0; i-- {
				w.Del(t, nics[i], pairs(i)...)
				w.Sh(t, "pod ip link del "+nics[i].Name)
				look(i)
			}
		})
	}
}
