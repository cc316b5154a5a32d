package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// The lessons of the requirement that apply, by their numbers. 3 is TestAddCheckDel, 19 is package acd's.

// TestLesson01ErrorInThePod: an error in the pod's part is not lost behind a later success, and says the line.
func TestLesson01ErrorInThePod(t *testing.T) {
	n := net1(dual)
	// The way to the next hop has gone since: the kernel keeps the route, and takes no copy of it.
	const script = "pod ip route add 192.0.2.1 dev eth0; pod ip route add 198.51.100.0/24 via 192.0.2.1 dev eth0; pod ip route del 192.0.2.1"
	w := newWorld(t, dual, ptp, script, n)
	before := w.Show(t)
	got := verb(t, w, "ADD", n, config(w, n)).Failed(t)
	const want = "ip route replace 198.51.100.0/24 via 192.0.2.1 dev eth0 table 200: network is unreachable: Nexthop has invalid gateway"
	if got.Code != 102 || !strings.HasSuffix(got.Msg, want) || !strings.HasPrefix(got.Details, "undone: ") {
		t.Errorf("got %+v", got)
	}
	Same(t, "the kernel", sorted(lasting(before)), sorted(lasting(w.Show(t))))
}

// TestLesson02Stale: a host route in the table and a neighbour of an earlier pod with the same address are replaced.
func TestLesson02Stale(t *testing.T) {
	n := net1(dual)
	w := newWorld(t, dual, ptp, `ip link add vethdeadbeef type veth peer name other; ip link set vethdeadbeef up; ip link set other up
		ip rule add pref 1000 lookup 500; ip -6 rule add pref 1000 lookup 500
		ip route add 10.10.30.53 dev vethdeadbeef table 500; ip -6 route add fd30::53 dev vethdeadbeef table 500
		ip neigh add 10.10.30.53 lladdr 02:00:00:00:00:99 dev vethptp0 nud permanent`, n)
	add(t, w, n)
	check(t, w, n)
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

// TestLesson04FailedAddLeavesNothing: neither of net1 nor of net2; and a retry succeeds.
func TestLesson04FailedAddLeavesNothing(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprint("later ", later), func(t *testing.T) {
			failed := 0
			for limit := 6; limit < 30; limit++ {
				n := net1(dual)
				w := newWorld(t, dual, calico, "", n)
				if later {
					add(t, w, n)
					n = net2(dual)
					w.Sh(t, n.make())
				}
				before := w.Show(t)
				script := fmt.Sprintf("ulimit -n %d; exec %s", limit, filepath.Join(bin, "router"))
				env := []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=" + id, "CNI_IFNAME=" + n.name, "CNI_NETNS=" + w.Pod}
				got := w.Run(t, exec.Command("/bin/sh", "-c", script), config(w, n), env...)
				if got.Status == 0 {
					break
				}
				failed++
				Same(t, fmt.Sprintf("the kernel, with %d descriptors", limit), sorted(lasting(before)), sorted(lasting(w.Show(t))))
				add(t, w, n)
				check(t, w, n)
			}
			if failed < 3 {
				t.Errorf("ADD failed only %d times", failed)
			}
		})
	}
}

// TestLesson05Del: any number of times, without the pod, with a broken configuration, before any ADD. The node has nothing
// left but the shared rule.
func TestLesson05Del(t *testing.T) {
	for _, test := range []struct {
		name   string
		config func(*World, *nic) any
		script string // after ADD
		env    []string
		noADD  bool
	}{
		{name: "before any ADD", noADD: true},
		{name: "before any ADD, without a netns", noADD: true, env: []string{"CNI_NETNS="}},
		{name: "without a netns", env: []string{"CNI_NETNS="}},
		{name: "with a netns that is gone", env: []string{"CNI_NETNS=/run/netns/no-such-pod"}},
		{name: "with the node's own netns", env: []string{"CNI_NETNS=/proc/self/ns/net"}},
		{name: "without prevResult", config: func(w *World, n *nic) any { return config(w, n, "prevResult", leaveOut) }},
		{name: "with a broken configuration", config: func(w *World, n *nic) any {
			return config(w, n, "rp_filter", 7, "overlay_hijack_subnet", leaveOut, "log_options", []any{}, "host_rule_table", 255, "overlay_interface", "eth7")
		}},
		{name: "with another host_rule_table by now", config: func(w *World, n *nic) any { return config(w, n, "host_rule_table", 600) }},
		{name: "with a peer that has gone", script: "ip link del vethptp0"},
		{name: "with an interface that has gone", script: "pod ip link del net1"},
		{name: "with a pod without interfaces", script: "pod ip link del net1; pod ip link del eth0"},
		{name: "with a peer that has another name by now", script: "ip link set vethptp0 down; ip link set vethptp0 name other; ip link set other up"},
		{name: "with a firewall that has gone", script: "pod nft flush ruleset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := net1(dual)
			w := newWorld(t, dual, ptp, "", n)
			if !test.noADD {
				add(t, w, n)
			}
			stdin := any(config(w, n))
			if test.config != nil {
				stdin = test.config(w, n)
			}
			w.Sh(t, test.script)
			for range 3 {
				verb(t, w, "DEL", n, stdin, test.env...).Silent(t, "DEL")
			}
			left := w.Sh(t, "ip link; ip route show table all; ip -6 route show table all; ip neigh show nud permanent")
			for _, of := range []string{"table 500", "router.", "route.", "10.10.30.53", "fd30::53"} {
				if strings.Contains(left, of) {
					t.Errorf("%s is left:\n%s", of, left)
				}
			}
			if test.env == nil {
				left := w.Sh(t, "pod ip rule; pod ip -6 rule; pod ip route show table all; pod ip -6 route show table all")
				for _, of := range []string{"1024:", "512:", "table 200", "table 512", "proto static"} {
					if strings.Contains(left, of) {
						t.Errorf("%s is left in the pod:\n%s", of, left)
					}
				}
				if test.name == "with an interface that has gone" && strings.Count(left, "default") < 2 {
					t.Error(left)
				}
			}
		})
	}
}

// TestLesson05WithoutNetns: without the pod, DEL of one takes that one's routes alone.
func TestLesson05WithoutNetns(t *testing.T) {
	for _, firstGoesFirst := range []bool{true, false} {
		nics := []*nic{net1(dual), net2(dual)}
		w := newWorld(t, dual, calico, "", nics...)
		for _, n := range nics {
			add(t, w, n)
		}
		if !firstGoesFirst {
			slices.Reverse(nics)
		}
		for i, n := range nics {
			verb(t, w, "DEL", n, config(w, n), "CNI_NETNS=").Silent(t, "DEL")
			out := w.Sh(t, "ip route show table all; ip -6 route show table all; ip neigh show nud permanent; ip link")
			for j, n := range nics {
				if there := j > i; strings.Contains(out, n.addr4+" ") != there || strings.Contains(out, n.addr6+" ") != there || strings.Contains(out, "."+n.name) != there {
					t.Errorf("after %d, %s:\n%s", i+1, n.name, out)
				}
			}
		}
	}
}

// TestEth0GoesFirst: the overlay's interface goes before ours; each DEL takes what is left of its own.
func TestEth0GoesFirst(t *testing.T) {
	nics := []*nic{net1(dual), net2(dual)}
	w := newWorld(t, dual, calico, "", nics...)
	for _, n := range nics {
		add(t, w, n)
	}
	w.Sh(t, "ip link del cali0")
	for _, n := range nics {
		del(t, w, n)
		w.Sh(t, "pod ip link del "+n.name)
	}
	out := w.Sh(t, "pod ip rule; pod ip -6 rule; pod ip route show table all; pod ip -6 route show table all; ip route show table all; ip -6 route show table all")
	for _, of := range []string{"1024:", "512:", "eth0", "table 20", "table 5"} {
		if strings.Contains(out, of) {
			t.Errorf("%s is left:\n%s", of, out)
		}
	}
}

// TestLesson07OtherContainer: the second attachment comes with another container id. Lesson 6: of one that shares its
// first characters.
func TestLesson07OtherContainer(t *testing.T) {
	for _, env := range [][]string{nil, {"CNI_NETNS="}} {
		first, later := net1(dual), net2(dual)
		later.container, later.network = id[:11]+"0", first.network
		w := newWorld(t, dual, ptp, "", first, later)
		add(t, w, first)
		add(t, w, later)
		check(t, w, first)
		check(t, w, later)
		verb(t, w, "DEL", later, config(w, later), env...).Silent(t, "DEL of net2")
		check(t, w, first)
		verb(t, w, "DEL", first, config(w, first), env...).Silent(t, "DEL of net1")
		if out := w.Sh(t, "ip link; ip route show table 500"); strings.Contains(out, "route.") || strings.Contains(out, "10.10.") {
			t.Error(out)
		}
	}
}

// TestLesson08FirstInterfaceOfResult: interfaces[0] is a bridge or a veth of the node.
func TestLesson08FirstInterfaceOfResult(t *testing.T) {
	n := net1(dual)
	w := newWorld(t, dual, ptp, "", n)
	prev := n.prevResult(w, "1.0.0")
	prev["interfaces"] = []any{
		map[string]any{"name": "cni0", "mac": "02:00:00:00:00:01"},
		map[string]any{"name": "net1", "mac": n.mac, "sandbox": w.Pod},
	}
	prev["ips"] = []any{map[string]any{"address": "10.10.30.53/24", "gateway": "10.10.30.1", "interface": 1}}
	var got types100.Result
	Must(t, json.Unmarshal([]byte(add(t, w, n, "prevResult", prev, "mac_prefix", "0a:1b")), &got))
	if len(got.Interfaces) != 2 || got.Interfaces[0].Mac != "02:00:00:00:00:01" || got.Interfaces[1].Mac != "0a:1b:0a:0a:1e:35" {
		t.Errorf("interfaces: %v", got.Interfaces)
	}
}

// TestLesson16Versions: the kernel's state is the same for every version. Lesson 9: also without ips, and without
// interfaces in 0.1.0 and 0.2.0.
func TestLesson16Versions(t *testing.T) {
	var want []string
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			n := net1(dual)
			w := newWorld(t, dual, ptp, "", n)
			prev := n.prevResult(w, version)
			delete(prev, "ips")
			delete(prev, "routes")
			if version < "0.3.0" {
				prev = map[string]any{"cniVersion": version, "ip4": map[string]any{"ip": "10.10.30.53/24"}}
			}
			add(t, w, n, "cniVersion", version, "prevResult", prev)
			state := w.Show(t)
			for i := range state {
				state[i] = strings.ReplaceAll(state[i], w.Pod, "POD")
			}
			slices.Sort(state)
			if want == nil {
				want = state
			}
			Same(t, "the kernel", want, state)
			if version > "0.4" {
				check(t, w, n, "cniVersion", version, "prevResult", prev)
			}
		})
	}
}

// TestLesson10OtherName: an interface that is not named net<N>; each that moves gets the next free table, and keeps it.
func TestLesson10OtherName(t *testing.T) {
	one, other := net1(dual), newNIC("storage", 40, dual)
	w := newWorld(t, dual, ptp, "", one, other)
	for _, n := range []*nic{one, other} {
		add(t, w, n, "route_table_start", 300)
		add(t, w, n, "route_table_start", 300)
		check(t, w, n, "route_table_start", 300)
	}
	check(t, w, one, "route_table_start", 300)
	if out := w.Sh(t, "pod ip rule"); !strings.Contains(out, "from 10.244.1.5 lookup 300") || !strings.Contains(out, "from 10.10.30.53 lookup 301") {
		t.Error(out)
	}
}

// TestLesson11NoIPv6Default: a node without an IPv6 default route, or without IPv6, is no error.
func TestLesson11NoIPv6Default(t *testing.T) {
	for name, script := range map[string]string{
		"no default route": "ip -6 route del default",
		"no IPv6":          "for i in 20 30 40; do ip addr del fd$i::152/64 dev enp$i; done; ip -6 addr flush dev vethptp0",
	} {
		t.Run(name, func(t *testing.T) {
			n := net1(dual)
			w := newWorld(t, dual, ptp, script, n)
			add(t, w, n)
			check(t, w, n)
			if out := w.Sh(t, "pod ip route"); !strings.Contains(out, "10.10.20.152 dev eth0") {
				t.Error(out)
			}
		})
	}
}

// TestLesson12SLAAC: an address that prevResult does not list is served too, with IPv6 off on eth0 before.
func TestLesson12SLAAC(t *testing.T) {
	n := net1(only4)
	w := newWorld(t, dual, overlay{"", "vethptp0", func(stack) string { return ptp.make(only4) }},
		n.make()+"pod sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; sysctl -qw net.ipv6.conf.vethptp0.disable_ipv6=1; pod ip addr add fd30::abcd/64 dev net1 nodad valid_lft 1000 preferred_lft 1000")
	add(t, w, n)
	check(t, w, n)
	if out := w.Sh(t, "ip -6 route get fd30::abcd; pod ip -6 route get fd20::152; pod ip -6 route get 2001:4860:fd00::a"); strings.Count(out, "vethptp0") != 1 || strings.Count(out, "dev eth0") != 2 {
		t.Error(out)
	}
}

// TestLesson13Args: unknown CNI_ARGS are for the log only.
func TestLesson13Args(t *testing.T) {
	n := net1(dual)
	w := newWorld(t, dual, ptp, "", n)
	for _, args := range []string{"X=1;K8S_POD_NAME=a", "no assignment", ";;="} {
		if got := verb(t, w, "ADD", n, config(w, n), "CNI_ARGS="+args); got.Status != 0 {
			t.Errorf("%.20s: %+v", args, got)
		}
	}
}

// TestLesson14Crowd: 1000 links and 8000 neighbours on the node, and ADD stays under 100 ms.
func TestLesson14Crowd(t *testing.T) {
	const crowd = `
		i=0; while [ $i -lt 500 ]; do echo "link add crowd$i up type veth peer name other$i"; i=$((i+1)); done | ip -batch -
		i=0; while [ $i -lt 8000 ]; do echo "neigh add 10.99.$((i/250)).$((i%250+1)) lladdr 02:00:00:00:00:01 dev crowd$((i%500)) nud permanent"; i=$((i+1)); done | ip -batch -;`
	var took []time.Duration
	n := net1(dual)
	w := newWorld(t, dual, ptp, crowd, n)
	for range 5 {
		start := time.Now()
		add(t, w, n)
		took = append(took, time.Since(start))
		del(t, w, n)
	}
	slices.Sort(took)
	t.Log(took)
	if took[0] > 100*time.Millisecond { // others use the machine too: the fastest tells what it costs
		t.Errorf("ADD takes %s", took)
	}
}

// TestLesson17RouteGet: from each source to each class of destination, with two and three interfaces; additional subnets
// leave by the overlay, too.
func TestLesson17RouteGet(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s, flag, outside, service, overlay, more, eth0, node := only4, "", "192.0.2.9", "172.96.0.10", "10.244.9.1", "10.30.0.9", "10.244.1.5", "10.10.20.152"
		if v6 {
			s, flag, outside, service, overlay, more, eth0, node = only6, "-6 ", "2001:db8::9", "2001:4860:fd00::a", "fd00:10:244:9::1", "fd99::9", "fd00:10:244:1::5", "fd20::152"
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s, calico, "")
			addrs := map[string]string{"eth0": eth0}
			for _, n := range []*nic{net1(s), net2(s)} {
				w.Sh(t, n.make())
				add(t, w, n, "additional_hijack_subnet", []any{"10.30.0.0/16", "fd99::/64"})
				addrs[n.name] = map[bool]string{false: n.addr4, true: n.addr6}[v6]
				addrs[""] = addrs[n.name] // the kernel's choice to the outside
				for name, addr := range addrs {
					by, source := name, " from "+addr
					if name == "" {
						by, source = n.name, ""
					}
					for dst, want := range map[string]string{outside: by, service: "eth0", overlay: "eth0", more: "eth0", node: "eth0"} {
						got := w.Sh(t, "pod ip "+flag+"route get "+dst+source)
						if !strings.Contains(got, " dev "+want+" ") {
							t.Errorf("%s: to %s%s: want %s, got %s", n.name, dst, source, want, got)
						}
						if src := map[bool]string{true: eth0, false: addr}[want == "eth0"]; source == "" && !strings.Contains(got, " src "+src+" ") {
							t.Errorf("%s: to %s: want the source %s, got %s", n.name, dst, src, got)
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
	for _, o := range overlays {
		for filter := range 3 {
			t.Run(fmt.Sprint(o.name, " rp_filter ", filter), func(t *testing.T) {
				t.Parallel()
				n := net1(dual)
				w := newWorld(t, dual, o, "", n)
				client := w.NewPod(t) // behind the node, on no subnet that anybody hijacks
				client.Sh(t, `ip link add toclient type veth peer name cl0 netns $POD; ip link set toclient up; pod ip link set cl0 up
					ip addr add 192.0.2.1/24 dev toclient; pod ip addr add 192.0.2.2/24 dev cl0; pod ip route add default via 192.0.2.1
					ip addr add 2001:db8::1/64 dev toclient nodad; pod ip addr add 2001:db8::2/64 dev cl0 nodad; pod ip -6 route add default via 2001:db8::1`)
				add(t, w, n, "rp_filter", map[string]any{"set_host": true, "value": filter})
				Must(t, w.InPod(func() error {
					l, err := net.Listen("tcp", ":8080")
					if err == nil {
						t.Cleanup(func() { _ = l.Close() })
					}
					return err
				}))
				dial := func(to string) func() error {
					return func() error {
						c, err := net.DialTimeout("tcp", to, time.Second)
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
					d := net.Dialer{Timeout: time.Second}
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

// TestLesson15AtOnce: 40 pods at once, which share the rule of each family.
func TestLesson15AtOnce(t *testing.T) {
	const count = 40
	w := newWorld(t, dual, overlay{"", "", func(stack) string { return "" }}, "")
	pods, nics, answers := make([]*World, count), make([]*nic, count), make([]Answer, count)
	for i := range pods {
		pods[i] = w.NewPod(t)
		n := net1(dual)
		n.container, n.addr4, n.addr6 = fmt.Sprint("pod-", i), fmt.Sprintf("10.10.30.%d", 60+i), fmt.Sprintf("fd30::%d", 60+i)
		pods[i].Sh(t, strings.NewReplacer("PEER", fmt.Sprint("cali", i), "10.244.1.5", fmt.Sprint("10.244.1.", 5+i), "1::5/128", fmt.Sprintf("1::%d/128", 5+i), "1::5 ", fmt.Sprintf("1::%d ", 5+i)).Replace(
			pair+calico4+calico6)+`
			ip link add link enp30 name net1 netns $POD type macvlan mode bridge; pod ip link set net1 up; pod ip addr add `+n.addr4+"/24 dev net1; pod ip addr add "+n.addr6+"/64 dev net1 nodad")
		nics[i] = n
	}
	var all sync.WaitGroup
	for i := range pods {
		stdin := config(pods[i], nics[i])
		all.Go(func() { answers[i] = verb(t, pods[i], "ADD", nics[i], stdin) })
	}
	all.Wait()
	for i, a := range answers {
		if a.Status != 0 {
			t.Errorf("%+v", a)
		}
		check(t, pods[i], nics[i])
	}
	out := w.Sh(t, "ip rule; ip -6 rule; ip route show table 500; ip -6 route show table 500")
	if strings.Count(out, "1000:") != 2 || strings.Count(out, " dev cali") != 2*count {
		t.Error(out)
	}
	for i := range pods {
		verb(t, pods[i], "DEL", nics[i], config(pods[i], nics[i]), "CNI_NETNS=").Silent(t, "DEL")
	}
	if out := w.Sh(t, "ip link; ip route show table 500; ip -6 route show table 500"); strings.Contains(out, "route.") || strings.Contains(out, " dev cali") {
		t.Error(out)
	}
}

// TestPublishedExample: the NetworkAttachmentDefinition of the Multus setup, as it is.
func TestPublishedExample(t *testing.T) {
	t.Parallel()
	n := net1(dual)
	w := newWorld(t, dual, calico, "", n)
	var published request
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
	add(t, w, n, pairs...)
	check(t, w, n, append(pairs, "cniVersion", "0.4.0")...) // 0.3.1 has no CHECK
	if out := w.Sh(t, "pod ip link show net1; ip route get 10.10.30.53; pod ip route get 192.0.2.9; pod ip route get 172.96.0.10"); strings.Count(out, "dev cali0")+strings.Count(out, "dev net1")+strings.Count(out, "dev eth0") != 3 || !strings.Contains(out, "0a:0b:0a:0a:1e:35") {
		t.Error(out)
	}
	del(t, w, n, pairs...)
}
