package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// The lessons of the requirement that apply, by their numbers. 3 is TestAddCheckDel, 19 is package acd's. What a one-line
// test says is written at its method of Subject.

func TestLesson01ErrorInThePod(t *testing.T) {
	n := Net1(Dual)
	ptp.New(t, Dual, "", n).Lesson01ErrorInThePod(t, n, "eth0")
}

// TestLesson02Stale: a host route in the table and a neighbour of an earlier pod with the same address are replaced.
func TestLesson02Stale(t *testing.T) {
	n := Net1(Dual)
	w := ptp.New(t, Dual, `ip link add vethdeadbeef type veth peer name other; ip link set vethdeadbeef up; ip link set other up
		ip rule add pref 1000 lookup 500; ip -6 rule add pref 1000 lookup 500
		ip route add 10.10.30.53 dev vethdeadbeef table 500; ip -6 route add fd30::53 dev vethdeadbeef table 500
		ip neigh add 10.10.30.53 lladdr 02:00:00:00:00:99 dev vethptp0 nud permanent`, n)
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "ip route get 10.10.30.53; ip -6 route get fd30::53"); strings.Contains(out, "vethdeadbeef") || strings.Count(out, "vethptp0") != 2 {
		t.Error(out)
	}
	if out := w.Sh(t, "ip rule; ip -6 rule"); strings.Count(out, "1000:") != 2 {
		t.Errorf("the rule is shared: %s", out)
	}
	if out := w.Sh(t, "ip neigh show 10.10.30.53"); !strings.Contains(out, "02:00:00:00:44:02 PERMANENT") {
		t.Error(out)
	}
}

func TestLesson04FailedAddLeavesNothing(t *testing.T) { calico.Lesson04FailedAddLeavesNothing(t) }

// TestLesson05Del: the overlay's default routes come back, too.
func TestLesson05Del(t *testing.T) {
	ptp.Lesson05Del(
		t,
		DelRow{Name: "with a broken configuration", Pairs: []any{"rp_filter", 7, "overlay_hijack_subnet", LeaveOut, "log_options", []any{}, "host_rule_table", 255, "overlay_interface", "eth7"}},
		DelRow{Name: "with another host_rule_table by now", Pairs: []any{"host_rule_table", 600}},
		DelRow{Name: "with a peer that has gone", Script: "ip link del vethptp0"},
		DelRow{Name: "with a pod without interfaces", Script: "pod ip link del net1; pod ip link del eth0"},
		DelRow{Name: "with a peer that has another name by now", Script: "ip link set vethptp0 down; ip link set vethptp0 name other; ip link set other up"},
		DelRow{Name: "with a firewall that has gone", Script: "pod nft flush ruleset"},
		DelRow{Name: "with an interface that has gone", Script: "pod ip link del net1", Then: func(t *testing.T, w *Trial) {
			t.Helper()
			if out := w.Sh(t, "pod ip route; pod ip -6 route"); strings.Count(out, "default") != 2 {
				t.Errorf("the overlay's default routes are not back:\n%s", out)
			}
		}},
	)
}

// TestLesson05WithoutNetns: without the pod, DEL of one takes that one's routes alone.
func TestLesson05WithoutNetns(t *testing.T) {
	for _, firstGoesFirst := range []bool{true, false} {
		nics := []*NIC{Net1(Dual), Net2(Dual)}
		w := calico.New(t, Dual, "", nics...)
		for _, n := range nics {
			w.Add(t, n)
		}
		if !firstGoesFirst {
			slices.Reverse(nics)
		}
		for i, n := range nics {
			w.Verb(t, "DEL", n, w.Request(n), "CNI_NETNS=").Silent(t, "DEL")
			out := w.Sh(t, "ip route show table all; ip -6 route show table all; ip neigh show nud permanent; ip link")
			for j, n := range nics {
				if there := j > i; strings.Contains(out, n.Addr4+" ") != there || strings.Contains(out, n.Addr6+" ") != there || strings.Contains(out, "."+n.Name) != there {
					t.Errorf("after %d, %s:\n%s", i+1, n.Name, out)
				}
			}
		}
	}
}

// TestEth0GoesFirst: the overlay's interface goes before ours; each DEL takes what is left of its own.
func TestEth0GoesFirst(t *testing.T) {
	nics := []*NIC{Net1(Dual), Net2(Dual)}
	w := calico.New(t, Dual, "", nics...)
	for _, n := range nics {
		w.Add(t, n)
	}
	w.Sh(t, "ip link del cali0")
	for _, n := range nics {
		w.Del(t, n)
		w.Sh(t, "pod ip link del "+n.Name)
	}
	out := w.Sh(t, "pod ip rule; pod ip -6 rule; pod ip route show table all; pod ip -6 route show table all; ip route show table all; ip -6 route show table all")
	for _, of := range []string{"1024:", "512:", "eth0", "table 20", "table 5"} {
		if strings.Contains(out, of) {
			t.Errorf("%s is left:\n%s", of, out)
		}
	}
}

// TestLesson07OtherContainer: the second attachment comes with another container ID. Lesson 6: of one that shares its
// first characters.
func TestLesson07OtherContainer(t *testing.T) {
	for _, env := range [][]string{nil, {"CNI_NETNS="}} {
		first, later := Net1(Dual), Net2(Dual)
		later.Container, later.Network = ID[:11]+"0", first.Network
		w := ptp.New(t, Dual, "", first, later)
		w.Add(t, first)
		w.Add(t, later)
		w.Check(t, first)
		w.Check(t, later)
		w.Verb(t, "DEL", later, w.Request(later), env...).Silent(t, "DEL of net2")
		w.Check(t, first)
		w.Verb(t, "DEL", first, w.Request(first), env...).Silent(t, "DEL of net1")
		if out := w.Sh(t, "ip link; ip route show table 500"); strings.Contains(out, "route.") || strings.Contains(out, "10.10.") {
			t.Error(out)
		}
	}
}

func TestLesson08FirstInterfaceOfResult(t *testing.T) { ptp.Lesson08FirstInterfaceOfResult(t) }

// TestLesson16Versions is lesson 9, too.
func TestLesson16Versions(t *testing.T) { ptp.Lesson09And16Versions(t) }

// TestLesson10OtherName: an interface that is not named net<N>; each that moves gets the next free table, and keeps it.
func TestLesson10OtherName(t *testing.T) {
	one, other := Net1(Dual), NewNIC("storage", 40, Dual)
	w := ptp.New(t, Dual, "", one, other)
	for _, n := range []*NIC{one, other} {
		w.Add(t, n, "route_table_start", 300)
		w.Add(t, n, "route_table_start", 300)
		w.Check(t, n, "route_table_start", 300)
	}
	w.Check(t, one, "route_table_start", 300)
	if out := w.Sh(t, "pod ip rule"); !strings.Contains(out, "from 10.244.1.5 lookup 300") || !strings.Contains(out, "from 10.10.30.53 lookup 301") {
		t.Error(out)
	}
}

func TestLesson11NoIPv6Default(t *testing.T) {
	ptp.Lesson11NoIPv6Default(t, "ip -6 addr flush dev vethptp0")
}

// TestLesson12SLAAC: with an address that prevResult does not list nothing fails, with IPv6 off on eth0 before, and nothing is made for it
// on the node.
func TestLesson12SLAAC(t *testing.T) {
	n := Net1(Only4)
	w := ptpOf(Only4).New(t, Dual, n.Make()+"pod sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; sysctl -qw net.ipv6.conf.vethptp0.disable_ipv6=1; pod ip addr add fd30::abcd/64 dev net1 nodad valid_lft 1000 preferred_lft 1000")
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "ip -6 route get fd30::abcd; ip -6 route show table 500 2>&- || :; ip -6 neigh show dev vethptp0 nud permanent; pod ip -6 route get fd20::152 2>&- || :"); strings.Contains(out, "vethptp0") || strings.Contains(out, "dev eth0") {
		t.Error(out)
	}
}

func TestLesson13Args(t *testing.T) { ptp.Lesson13Args(t) }

func TestLesson14Crowd(t *testing.T) { ptp.Lesson14Crowd(t) }

// TestLesson17RouteGet: from each source to each class of destination, with two and three interfaces; additional subnets
// leave by the overlay, too.
func TestLesson17RouteGet(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s, flag, outside, service, overlay, more, eth0, node := Only4, "", "192.0.2.9", "172.96.0.10", "10.244.9.1", "10.30.0.9", "10.244.1.5", "10.10.20.152"
		if v6 {
			s, flag, outside, service, overlay, more, eth0, node = Only6, "-6 ", "2001:db8::9", "2001:4860:fd00::a", "fd00:10:244:9::1", "fd99::9", "fd00:10:244:1::5", "fd20::152"
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			w := calico.New(t, s, "")
			addrs := map[string]string{"eth0": eth0}
			for _, n := range []*NIC{Net1(s), Net2(s)} {
				w.Come(t, n, "additional_hijack_subnet", []any{"10.30.0.0/16", "fd99::/64"})
				addrs[n.Name] = map[bool]string{false: n.Addr4, true: n.Addr6}[v6]
				addrs[""] = addrs[n.Name] // the kernel's choice to the outside
				for name, addr := range addrs {
					by, source := name, " from "+addr
					if name == "" {
						by, source = n.Name, ""
					}
					for dst, want := range map[string]string{outside: by, service: "eth0", overlay: "eth0", more: "eth0", node: "eth0"} {
						got := w.Sh(t, "pod ip "+flag+"route get "+dst+source)
						if !strings.Contains(got, " dev "+want+" ") {
							t.Errorf("%s: to %s%s: want %s, got %s", n.Name, dst, source, want, got)
						}
						if src := map[bool]string{true: eth0, false: addr}[want == "eth0"]; source == "" && !strings.Contains(got, " src "+src+" ") {
							t.Errorf("%s: to %s: want the source %s, got %s", n.Name, dst, src, got)
						}
					}
				}
			}
		})
	}
}

// TestPaths, with packets: the node to net1's address by the overlay; a client behind the node, whose address is kept, too,
// with each rp_filter; and net1's address to the node.
func TestPaths(t *testing.T) {
	for name, o := range overlays {
		for filter := range 3 {
			t.Run(fmt.Sprint(name, " rp_filter ", filter), func(t *testing.T) {
				t.Parallel()
				n := Net1(Dual)
				w := o.New(t, Dual, "", n)
				client := w.NewPod(t) // behind the node, on no subnet that anybody hijacks
				client.Sh(t, `ip link add toclient type veth peer name cl0 netns $POD; ip link set toclient up; pod ip link set cl0 up
					ip addr add 192.0.2.1/24 dev toclient; pod ip addr add 192.0.2.2/24 dev cl0; pod ip route add default via 192.0.2.1
					ip addr add 2001:db8::1/64 dev toclient nodad; pod ip addr add 2001:db8::2/64 dev cl0 nodad; pod ip -6 route add default via 2001:db8::1`)
				w.Add(t, n, "rp_filter", map[string]any{"set_host": true, "value": filter})
				Must(t, w.InPod(func() error {
					l, err := net.Listen("tcp", ":8080")
					if err == nil {
						t.Cleanup(func() { _ = l.Close() })
					}
					return err
				}))
				// On a busy machine a link that has just come up drops the first packet: a SYN, or who asks for a neighbour,
				// is sent again after a second.
				const patience = 5 * time.Second
				dial := func(to string) func() error {
					return func() error {
						c, err := net.DialTimeout("tcp", to, patience)
						if err == nil {
							_ = c.Close()
						}
						return err
					}
				}
				for _, to := range []string{"10.10.30.53:8080", "[fd30::53]:8080"} {
					if err := w.OnNode(dial(to)); err != nil {
						t.Errorf("node to %s: %v", to, err)
					}
					if err := client.InPod(dial(to)); err != nil {
						t.Errorf("client to %s: %v", to, err)
					}
				}
				Must(t, w.OnNode(func() error {
					l, err := net.Listen("tcp", ":9090")
					if err == nil {
						t.Cleanup(func() { _ = l.Close() })
					}
					return err
				}))
				for from, to := range map[string]string{"10.10.30.53": "10.10.20.152:9090", "fd30::53": "[fd20::152]:9090", "": "10.10.30.152:9090"} {
					d := net.Dialer{Timeout: patience}
					if from != "" {
						d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
					}
					err := w.InPod(func() error {
						c, err := d.Dial("tcp", to)
						if err == nil {
							_ = c.Close()
						}
						return err
					})
					if err != nil {
						t.Errorf("%s to the node's %s: %v", from, to, err)
					}
				}
			})
		}
	}
}

// TestLesson15AtOnce: all share the rule of each family, and the table.
func TestLesson15AtOnce(t *testing.T) {
	overlayOf := func(i int) string {
		return strings.NewReplacer("PEER", fmt.Sprint("cali", i), "10.244.1.5", fmt.Sprint("10.244.1.", 5+i), "1::5/128", fmt.Sprintf("1::%d/128", 5+i), "1::5 ", fmt.Sprintf("1::%d ", 5+i)).Replace(pair+calico4+calico6) + "\n"
	}
	behind(noOverlay).Lesson15AtOnce(t, overlayOf, func(t *testing.T, w *Trial, count int) {
		t.Helper()
		out := w.Sh(t, "ip rule; ip -6 rule; ip route show table 500; ip -6 route show table 500")
		if strings.Count(out, "1000:") != 2 || strings.Count(out, " dev cali") != 2*count {
			t.Error(out)
		}
	})
}

// TestPublishedExample: the NetworkAttachmentDefinition of the Multus setup, as it is.
func TestPublishedExample(t *testing.T) {
	t.Parallel()
	n := Net1(Dual)
	w := calico.New(t, Dual, "", n)
	var published Request
	Must(t, json.Unmarshal([]byte(`{
		"type": "router", "overlay_interface": "eth0", "migrate_route": -1, "skip_call": false,
		"service_hijack_subnet": ["172.96.0.0/18", "2001:4860:fd00::/108"], "overlay_hijack_subnet": ["10.240.0.0/12", "fd00:10:244::/96"],
		"additional_hijack_subnet": [], "rp_filter": { "set_host": true, "value": 0 },
		"log_options": { "log_level": "debug", "log_file": "/var/log/meta-plugins/router.log" },
		"ip_conflict": { "enabled": true, "interval": "1s", "retries": 5 }, "mac_prefix": "0a:0b" }`), &published))
	published["log_options"] = map[string]any{"log_level": "debug", "log_file": filepath.Join(t.TempDir(), "router.log")}
	var pairs []any
	for key, value := range published {
		pairs = append(pairs, key, value)
	}
	pairs = append(pairs, "cniVersion", "0.3.1")
	w.Add(t, n, pairs...)
	w.Check(t, n, append(pairs, "cniVersion", "0.4.0")...) // 0.3.1 has no CHECK
	if out := w.Sh(t, "pod ip link show net1; ip route get 10.10.30.53; pod ip route get 192.0.2.9; pod ip route get 172.96.0.10"); strings.Count(out, "dev cali0")+strings.Count(out, "dev net1")+strings.Count(out, "dev eth0") != 3 || !strings.Contains(out, "0a:0b:0a:0a:1e:35") {
		t.Error(out)
	}
	w.Del(t, n, pairs...)
}
