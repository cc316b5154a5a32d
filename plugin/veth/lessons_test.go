package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// The lessons of the requirement, by their numbers. 3 is TestAddCheckDel, 19 is package acd's. What a one-line test says is
// written at its method of Subject.

func TestLesson01ErrorInThePod(t *testing.T) {
	first, later := Eth0(Dual), Net1(Dual)
	w := subject.New(t, Dual, "", first)
	w.Add(t, first)
	w.Sh(t, later.Make())
	w.Lesson01ErrorInThePod(t, later, later.Name)
	w.Check(t, first)
}

// TestLesson02Stale: a host route and a neighbour of an earlier pod with the same address are replaced.
func TestLesson02Stale(t *testing.T) {
	n := Eth0(Dual)
	w := subject.New(t, Dual, `ip link add vethdeadbeef type veth peer name other; ip link set vethdeadbeef up; ip link set other up
		ip route add 10.10.20.53 dev vethdeadbeef; ip -6 route add fd20::53 dev vethdeadbeef
		ip neigh add 10.10.20.53 lladdr 02:00:00:00:00:99 dev vethdeadbeef nud permanent`, n)
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "ip route get 10.10.20.53; ip -6 route get fd20::53"); strings.Contains(out, "vethdeadbeef") || strings.Count(out, hostEnd(ID)) != 2 {
		t.Error(out)
	}
}

func TestLesson04FailedAddLeavesNothing(t *testing.T) { subject.Lesson04FailedAddLeavesNothing(t) }

func TestLesson05Del(t *testing.T) {
	subject.Lesson05Del(
		t,
		DelRow{Name: "with a broken configuration", Pairs: []any{"rp_filter", 7, "overlay_hijack_subnet", LeaveOut, "log_options", []any{}, "x", 1}},
		DelRow{Name: "with a host end that has gone", Script: "ip link del " + hostEnd(ID), Keeps: true},
		DelRow{Name: "with a pod without interfaces", Script: "pod ip link del veth0; pod ip link del eth0", Keeps: true},
		DelRow{Name: "with a firewall that has gone", Script: "nft flush ruleset; pod nft flush ruleset"},
		DelRow{Name: "with an alias of the operator's", Script: "ip link set " + hostEnd(ID) + " alias mine"},
	)
}

// TestLesson05DelOfLater: DEL of net1 leaves eth0 working, whether the pod is there or not; the pair goes with the last.
func TestLesson05DelOfLater(t *testing.T) {
	for _, env := range [][]string{nil, {"CNI_NETNS="}} {
		first, later := Eth0(Dual), Net1(Dual)
		w := subject.New(t, Dual, "", first)
		w.Add(t, first)
		w.Come(t, later)
		for range 3 {
			w.Verb(t, "DEL", later, w.Request(later), env...).Silent(t, "DEL of net1")
			w.Check(t, first)
		}
		w.Verb(t, "DEL", first, w.Request(first), env...).Silent(t, "DEL of eth0")
		if out := w.Sh(t, "ip link"); strings.Contains(out, hostEnd(ID)) {
			t.Error(out)
		}
	}
}

// TestLesson06SharedPrefix: two container ids that share their first 11 characters.
func TestLesson06SharedPrefix(t *testing.T) {
	a, b := hostEnd("5d0f2e6d7c7a0000000000000000000000"), hostEnd("5d0f2e6d7c7b0000000000000000000000")
	if a == b {
		t.Error(a)
	}
}

// TestLesson07OtherContainer: the second attachment comes with another container id. It uses the same pair, and each DEL
// finds it, in either order, with and without the pod.
func TestLesson07OtherContainer(t *testing.T) {
	for _, env := range [][]string{nil, {"CNI_NETNS="}} {
		for _, firstGoesFirst := range []bool{false, true} {
			t.Run(fmt.Sprint(env, firstGoesFirst), func(t *testing.T) {
				t.Parallel()
				first, later := Eth0(Dual), Net1(Dual)
				later.Container = "hotplug-77"
				w := subject.New(t, Dual, "", first)
				w.Add(t, first)
				w.Come(t, later)
				w.Check(t, first)
				w.Check(t, later)
				order := []*NIC{later, first}
				if firstGoesFirst {
					slices.Reverse(order)
				}
				w.Verb(t, "DEL", order[0], w.Request(order[0]), env...).Silent(t, "the first DEL")
				w.Check(t, order[1])
				for range 2 {
					w.Verb(t, "DEL", order[1], w.Request(order[1]), env...).Silent(t, "the second DEL")
				}
				if out := w.Sh(t, "ip link"); strings.Contains(out, hostEnd(ID)) {
					t.Error(out)
				}
			})
		}
	}
}

func TestLesson08FirstInterfaceOfResult(t *testing.T) { subject.Lesson08FirstInterfaceOfResult(t) }

// TestLesson09Versions is lesson 16, too.
func TestLesson09Versions(t *testing.T) { subject.Lesson09And16Versions(t) }

// TestLesson10OtherName: an interface that is not named net<N> gets the next free table, and keeps it.
func TestLesson10OtherName(t *testing.T) {
	first, one, other, two := Eth0(Dual), Net1(Dual), NewNIC("storage", 40, Dual), NewNIC("net2", 20, Dual)
	two.Addr4, two.Addr6, two.MAC = "10.10.20.54", "fd20::54", "02:00:00:00:77:54"
	w := subject.New(t, Dual, "", first)
	w.Add(t, first)
	for i, n := range []*NIC{one, other, two} {
		w.Come(t, n)
		w.Add(t, n)
		w.Check(t, n)
		rule := fmt.Sprintf("1024:\tfrom %s lookup %d", n.Addr4, 200+i)
		if i == 2 { // 201 would be net2's, but storage has it
			rule = fmt.Sprintf("1024:\tfrom %s lookup 202", n.Addr4)
		}
		if out := w.Sh(t, "pod ip rule"); !strings.Contains(out, rule) {
			t.Errorf("%s is missing:\n%s", rule, out)
		}
	}
}

func TestLesson11NoIPv6Default(t *testing.T) { subject.Lesson11NoIPv6Default(t, "") }

// TestLesson12SLAAC: with an address that prevResult does not list nothing fails, and nothing is made for it on the node.
func TestLesson12SLAAC(t *testing.T) {
	n := Eth0(Only4)
	w := subject.New(t, Dual, "pod ip addr add fd20::abcd/64 dev eth0 nodad valid_lft 1000 preferred_lft 1000", n)
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "ip -6 route get fd20::abcd; pod ip -6 route get fd20::152"); strings.Contains(out, "veth") {
		t.Error(out)
	}
}

func TestLesson13Args(t *testing.T) { subject.Lesson13Args(t) }

func TestLesson14Crowd(t *testing.T) { subject.Lesson14Crowd(t) }

// TestLesson15AtOnce: the network has one table, of all pods.
func TestLesson15AtOnce(t *testing.T) {
	subject.Lesson15AtOnce(t, func(int) string { return "" }, func(t *testing.T, w *Trial, _ int) {
		t.Helper()
		if out := w.Sh(t, "nft list tables"); strings.Count(out, "veth") != 1 {
			t.Error(out)
		}
	})
}

// TestLesson17RouteGet: from each source to each class of destination, with one, two and three interfaces.
func TestLesson17RouteGet(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s, flag, outside, service, overlay := Only4, "", "192.0.2.9", "172.96.0.10", "10.244.1.1"
		if v6 {
			s, flag, outside, service, overlay = Only6, "-6 ", "2001:db8::9", "2001:4860:fd00::a", "fd00:10:244::1"
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			w := subject.New(t, s, "")
			nics := []*NIC{Eth0(s), Net1(s), Net2(s)}
			addr := func(n *NIC) string {
				if v6 {
					return n.Addr6
				}
				return n.Addr4
			}
			for i, n := range nics {
				w.Come(t, n)
				for _, from := range append([]*NIC{nil}, nics[:i+1]...) {
					by, source := "eth0", ""
					if from != nil {
						by, source = from.Name, " from "+addr(from)
					}
					node := strings.Replace(addr(nics[0]), "53", "152", 1)
					for dst, want := range map[string]string{outside: by, service: "veth0", overlay: "veth0", node: "veth0"} {
						got := w.Sh(t, "pod ip "+flag+"route get "+dst+source)
						if !strings.Contains(got, " dev "+want+" ") {
							t.Errorf("%d interfaces, to %s%s: want %s, got %s", i+1, dst, source, want, got)
						}
						if from == nil && !strings.Contains(got, " src "+addr(nics[0])+" ") {
							t.Errorf("%d interfaces, to %s: want the source %s, got %s", i+1, dst, addr(nics[0]), got)
						}
					}
				}
			}
		})
	}
}

// TestLesson18Redirect: iptables REDIRECT in the pod translates to an address of the interface that a packet comes in by:
// without veth_link_address veth0 has none, and the packet is dropped.
func TestLesson18Redirect(t *testing.T) {
	for _, test := range []struct {
		name  string
		works bool
		pairs []any
	}{
		{"with veth_link_address", true, []any{"veth_link_address", []any{"169.254.100.1", "fe80::64"}}},
		{"without", false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := Eth0(Only4)
			w := subject.New(t, Dual, "", n)
			w.Add(t, n, test.pairs...)
			w.Check(t, n, test.pairs...)
			w.Sh(t, "pod nft 'table ip istio { chain prerouting { type nat hook prerouting priority dstnat; iifname veth0 tcp dport 80 redirect to :15006; }; }'")
			Must(t, w.InPod(func() error {
				l, err := net.Listen("tcp4", ":15006")
				if err == nil {
					t.Cleanup(func() { _ = l.Close() })
				}
				return err
			}))
			err := w.OnNode(func() error {
				patience := time.Second
				if test.works { // a link that has just come up may drop the first SYN
					patience = 5 * time.Second
				}
				c, err := net.DialTimeout("tcp4", "10.10.20.53:80", patience)
				if err == nil {
					_ = c.Close()
				}
				return err
			})
			if (err == nil) != test.works {
				t.Errorf("connecting: %v", err)
			}
		})
	}
}

// TestForeignHostEnd: what only has the name of ours is not ours. It stays.
func TestForeignHostEnd(t *testing.T) {
	n := Eth0(Dual)
	w := subject.New(t, Dual, "ip link add "+hostEnd(ID)+" type veth peer name other; ip link set "+hostEnd(ID)+" alias mine", n)
	before := w.Show(t)
	w.Del(t, n)
	Same(t, "the kernel", before, w.Show(t))
}
