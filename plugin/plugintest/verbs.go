package plugintest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/integration/nettest"
)

// A CheckRow is an object that is taken away, and what CHECK says of it.
type CheckRow struct {
	Name, Take, Says string
	Later            bool // CHECK is that of a later interface, which is there too
}

// Taken is an object of the first interface.
func Taken(name, take, says string) CheckRow { return CheckRow{name, take, says, false} }

// TakenOfLater is an object of a later interface.
func TakenOfLater(name, take, says string) CheckRow { return CheckRow{name, take, says, true} }

// CheckFinds each object that is taken away missing, and only looks.
func (s *Subject) CheckFinds(t *testing.T, rows []CheckRow) {
	t.Helper()
	for _, test := range rows {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			n, later := s.First(Dual), s.Later(Dual)
			w := s.New(t, Dual, "", n, later)
			w.Add(t, n)
			if test.Later {
				n = later
				w.Add(t, later)
			}
			w.Sh(t, test.Take)
			spoilt := w.Show(t)
			if got := w.Verb(t, "CHECK", n, w.Request(n)).Failed(t); got.Code != 120 || !strings.Contains(got.Msg+got.Details, test.Says) {
				t.Errorf("got %+v\nwant %s", got, test.Says)
			}
			nettest.Same(t, "CHECK only looks", spoilt, w.Show(t))
		})
	}
}

// CheckBeforeAdd is an error of CHECK, not of the configuration.
func (s *Subject) CheckBeforeAdd(t *testing.T) {
	t.Helper()
	n := s.First(Dual)
	w := s.New(t, Dual, "", n)
	before := w.Show(t)
	if got := w.Verb(t, "CHECK", n, w.Request(n)).Failed(t); got.Code != 120 {
		t.Errorf("got %+v", got)
	}
	nettest.Same(t, "the kernel", before, w.Show(t))
}

// A StatusRow is a node and a configuration, and the error of STATUS; code 0 is none.
type StatusRow struct {
	Name, Script string
	Pairs        []any
	Code         uint
	Msg          string
}

// Status of nodes and of configurations.
func (s *Subject) Status(t *testing.T, more ...StatusRow) {
	t.Helper()
	const noAddress = "the node has no address that a pod could reach it by"
	for _, test := range append([]StatusRow{
		{"good", "", nil, 0, ""},
		{"good, with IPv6 only", "for i in 20 30 40; do ip -4 addr flush dev enp$i; done", nil, 0, ""},
		{"no address", "for i in 20 30 40; do ip addr flush dev enp$i; done", nil, 50, noAddress},
		{"all interfaces down", "for i in 20 30 40; do ip link set enp$i down; done", nil, 50, noAddress},
		{"a bad configuration", "", []any{"rp_filter", 7}, 7, "rp_filter: 7: wrong type"},
	}, more...) {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			w := s.New(t, Dual, test.Script)
			n := s.First(Dual)
			before := w.Show(t)
			pairs := append(slices.Clone(test.Pairs), "cniVersion", "1.1.0", "prevResult", LeaveOut)
			got := w.Verb(t, "STATUS", n, w.Request(n, pairs...), "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=")
			if test.Code == 0 {
				got.Silent(t, "STATUS")
			} else if f := got.Failed(t); f.Code != test.Code || !strings.HasPrefix(f.Msg, test.Msg) {
				t.Errorf("got %+v", f)
			}
			nettest.Same(t, "the kernel", before, w.Show(t))
		})
	}
}

// GCOfNetworks is a test of GC: an attachment that the list of its network does not name goes; other networks' stay. Nothing is left when
// both have gone.
func (s *Subject) GCOfNetworks(t *testing.T) {
	t.Helper()
	valid := func(nics ...*NIC) []any {
		list := []any{}
		for _, n := range nics {
			list = append(list, map[string]any{"containerID": n.Container, "ifname": n.Name})
		}
		return list
	}
	first, later := s.First(Dual), s.Later(Dual)
	for _, test := range []struct {
		name         string
		of           *NIC
		valid        any
		first, later bool // what is there afterwards
	}{
		{"all valid", first, valid(first), true, true},
		{"null", first, nil, true, true},
		{"absent", first, LeaveOut, true, true},
		{"none of the first's network", first, valid(), false, true},
		{"none of the later's network", later, valid(), true, false},
		{"of the later's network only the first", later, valid(first), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := s.New(t, Dual, "", first, later)
			w.Add(t, first)
			w.Add(t, later)
			for range 2 {
				w.GC(t, test.of, test.valid)
			}
			out := w.onNode(t)
			for n, want := range map[*NIC]bool{first: test.first, later: test.later} {
				for _, of := range s.Traces(n) {
					if strings.Contains(out, of) != want {
						t.Errorf("%s: want %t:\n%s", of, want, out)
					}
				}
			}
			w.GC(t, first, valid())
			w.GC(t, later, valid())
			w.nothingLeft(t)
		})
	}
}

// IPTables tests ADD, CHECK and DEL with the iptables backend, whose rules jump to the plugin's chains so many times on the node
// and in the pod.
func (s *Subject) IPTables(t *testing.T, jumps int) {
	t.Helper()
	for _, of := range Stacks() {
		t.Run(of.Name, func(t *testing.T) {
			t.Parallel()
			first, later := s.First(of), s.Later(of)
			w := s.New(t, of, "", first, later)
			for _, pairs := range [][]any{{"firewall", "iptables"}, nil} { // of DEL
				for range 2 {
					w.Add(t, first, "firewall", "iptables")
					w.Add(t, later, "firewall", "iptables")
				}
				w.Check(t, first, "firewall", "iptables")
				w.Check(t, later, "firewall", "iptables")
				program := map[bool]string{true: "iptables", false: "ip6tables"}[of.V4]
				if out := w.Sh(t, program+"-save; pod "+program+"-save"); strings.Count(out, "-j "+strings.ToUpper(s.Plugin.Name)+"-") != jumps {
					t.Error(out)
				}
				w.Del(t, later, pairs...)
				w.Del(t, first, pairs...)
			}
		})
	}
}

// IPTablesTakenAway tests that a later interface's ADD writes the pod's rules again, with the pod locked as it is.
func (s *Subject) IPTablesTakenAway(t *testing.T) {
	t.Helper()
	t.Parallel()
	first, later := s.First(Dual), s.Later(Dual)
	w := s.New(t, Dual, "", first, later)
	w.Add(t, first, "firewall", "iptables")
	w.Sh(t, "pod iptables -t mangle -F; pod ip6tables -t mangle -F")
	w.Add(t, later, "firewall", "iptables")
	w.Check(t, later, "firewall", "iptables")
}

// AtOnceInOnePod tests two interfaces whose ADDs a runtime starts at the same time, and their DELs: none disturbs the other,
// and at the end is what was before.
func (s *Subject) AtOnceInOnePod(t *testing.T) {
	t.Helper()
	t.Parallel()
	first, later := s.First(Dual), s.Later(Dual)
	for range 10 {
		w := s.New(t, Dual, "")
		before := w.Show(t)
		w.Sh(t, first.Make()+later.Make())
		for _, verb := range []string{"ADD", "DEL"} {
			var running sync.WaitGroup
			for _, n := range []*NIC{first, later} {
				running.Go(func() {
					if got := w.Verb(t, verb, n, w.Request(n)); got.Status != 0 {
						t.Errorf("%s of %s: %+v", verb, n.Name, got)
					}
				})
			}
			running.Wait()
			if verb == "ADD" {
				w.Check(t, first)
				w.Check(t, later)
			}
		}
		if t.Failed() {
			return
		}
		w.Sh(t, "pod ip link del "+first.Name+"; pod ip link del "+later.Name)
		nettest.Same(t, "at the end", s.Lasting(before), s.Lasting(w.Show(t)))
	}
}

// SkipCall is a test of skip_call: prevResult is passed on as it came, whatever else the configuration says, and nothing is changed; DEL still
// cleans up.
func (s *Subject) SkipCall(t *testing.T) {
	t.Helper()
	n := s.First(Dual)
	w := s.New(t, Dual, "", n)
	before := w.Show(t)
	prev := map[string]any{"cniVersion": "1.0.0", "ips": []any{map[string]any{"address": n.Addr4 + "/24"}}, "x": map[string]any{"y": 1.0}}
	for _, pairs := range [][]any{nil, {"rp_filter", 7}, {"overlay_hijack_subnet", LeaveOut}, {"overlay_interface", "eth7"}} {
		var got map[string]any
		w.AddTo(t, &got, n, append(pairs, "skip_call", true, "prevResult", prev)...)
		if fmt.Sprint(got) != fmt.Sprint(prev) {
			t.Errorf("got %v", got)
		}
		w.Check(t, n, append(pairs, "skip_call", true)...)
	}
	nettest.Same(t, "the kernel", before, w.Show(t))
	w.Add(t, n)
	w.Del(t, n, "skip_call", true)
	nettest.Same(t, "after DEL", s.Lasting(before), s.Lasting(w.Show(t)))
}

// RPFilter tests that of the pod's interfaces, and of the node's that are the plugin's own; with set_host that of others of the
// node too, which stay so.
func (s *Subject) RPFilter(t *testing.T, pod, own, node []string) {
	t.Helper()
	node = append([]string{"all", "default", "lo", "enp20", "enp30", "enp40", "wire20"}, node...)
	show := func(names []string) string {
		return "(cd /proc/sys/net/ipv4/conf; for i in " + strings.Join(names, " ") + "; do cat $i/rp_filter; done)"
	}
	for value := range 3 {
		for _, setHost := range []bool{false, true} {
			t.Run(fmt.Sprint(value, setHost), func(t *testing.T) {
				t.Parallel()
				n := s.First(Dual)
				w := s.New(t, Dual, "cd /proc/sys/net/ipv4/conf; for i in "+strings.Join(node, " ")+"; do echo 1 >$i/rp_filter; done; cd /", n)
				rp := map[string]any{"set_host": setHost, "value": value}
				w.Add(t, n, "rp_filter", rp)
				w.Check(t, n, "rp_filter", rp)
				if got := w.Sh(t, "pod sh -ec '"+show(pod)+"';"+show(own)); got != strings.Repeat(fmt.Sprintln(value), len(pod)+len(own)) {
					t.Errorf("got %q", got)
				}
				want := strings.Repeat("1\n", len(node))
				if setHost {
					want = strings.Repeat(fmt.Sprintln(value), len(node))
				}
				if got := w.Sh(t, show(node)); got != want {
					t.Errorf("node: got %q, want %q", got, want)
				}
				w.Del(t, n)
				if got := w.Sh(t, show(node)); got != want {
					t.Errorf("node, after DEL: got %q, want %q", got, want)
				}
			})
		}
	}
}

// RPFilterOfAll tests that of all in the pod, of which the kernel takes the greater one: it may be no other than the interfaces',
// and is left alone where it cannot matter.
func (s *Subject) RPFilterOfAll(t *testing.T) {
	t.Helper()
	for value := range 3 {
		for all := range 3 {
			t.Run(fmt.Sprintf("%d where all is %d", value, all), func(t *testing.T) {
				t.Parallel()
				n := s.First(Only4)
				set := "pod sysctl -qw net/ipv4/conf/all/rp_filter="
				w := s.New(t, Only4, set+fmt.Sprint(all), n)
				key := []any{"rp_filter", map[string]any{"value": value}}
				want := value
				if value == 2 {
					want = all
				}
				w.Add(t, n, key...)
				if got := w.Sh(t, "pod cat /proc/sys/net/ipv4/conf/all/rp_filter"); got != fmt.Sprintln(want) {
					t.Errorf("got %s, want %d", got, want)
				}
				w.Sh(t, set+fmt.Sprint(all))
				if got := w.Verb(t, "CHECK", n, w.Request(n, key...)); want == all {
					got.Silent(t, "CHECK")
				} else if f, says := got.Failed(t), fmt.Sprintf("sysctl net/ipv4/conf/all/rp_filter is %d, not %d", all, value); !strings.Contains(f.Msg+f.Details, says) {
					t.Errorf("got %+v, want %s", f, says)
				}
			})
		}
	}
}

// HardwareAddress is a test of mac_prefix: the prefix and the address make the address; the result has it; the runtime's wins; only_op_mac does no more.
func (s *Subject) HardwareAddress(t *testing.T) {
	t.Helper()
	const conflict = `{"enabled": true, "interval": "20ms", "retries": 1}`
	type list = []any
	for _, test := range []struct {
		name     string
		stack    Stack
		pairs    []any
		byPrefix bool // or it stays as it is
		more     bool
	}{
		{"IPv4", Only4, list{"mac_prefix", "0a:1b"}, true, true},
		{"IPv6", Only6, list{"mac_prefix", "0a-1b"}, true, true},
		{"with a check", Dual, list{"mac_prefix", "0a:1b", "ip_conflict", json.RawMessage(conflict)}, true, true},
		{"the runtime's wins", Dual, list{"mac_prefix", "0a:1b", "runtimeConfig", map[string]any{"mac": s.First(Dual).MAC}}, false, true},
		{"only_op_mac", Dual, list{"mac_prefix", "0a:1b", "only_op_mac", true}, true, false},
		{"only_op_mac without a prefix", Dual, list{"only_op_mac", true}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := s.First(test.stack)
			w := s.New(t, test.stack, "", n)
			want := n.MAC
			if test.byPrefix {
				want = n.MACByPrefix("0a:1b")
			}
			var got types100.Result
			for range 2 {
				w.AddTo(t, &got, n, test.pairs...)
				w.Check(t, n, test.pairs...)
			}
			out := w.Sh(t, "pod ip link; ip rule; ip -6 rule")
			if got.Interfaces[0].Mac != want || !strings.Contains(out, "link/ether "+want) || strings.Contains(out, s.Seen) != test.more {
				t.Errorf("the result says %s:\n%s", got.Interfaces[0].Mac, out)
			}
			if count := map[bool]int{true: 1 + len(s.Appended), false: 1}[test.more]; len(got.Interfaces) != count {
				t.Errorf("interfaces: %v", got.Interfaces)
			}
		})
	}
}

// Conflict is a test of ip_conflict: another machine on the wire has the address: code 110, and nothing is changed.
func (s *Subject) Conflict(t *testing.T) {
	t.Helper()
	for _, of := range []Stack{Only4, Only6} {
		t.Run(of.Name, func(t *testing.T) {
			n := s.First(of)
			w := s.New(t, Dual, "", n)
			other := w.NewPod(t)
			taken := *n
			taken.MAC = "02:00:00:00:66:66"
			other.Sh(t, taken.Make())
			before := w.Show(t)
			got := w.Verb(t, "ADD", n, w.Request(n, "ip_conflict", map[string]any{"enabled": true, "interval": "100ms"})).Failed(t)
			if got.Code != 110 || !strings.Contains(got.Msg, taken.MAC) || !strings.Contains(got.Msg, " of "+n.Name) {
				t.Errorf("got %+v", got)
			}
			nettest.Same(t, "the kernel", before, w.Show(t))
		})
	}
}
