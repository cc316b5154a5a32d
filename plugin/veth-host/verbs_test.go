package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth-host/vethhost"
)

// attachment is the tests', and hostEnd the name of its host end.
var (
	attachment = plugin.Attachment{Network: "cni0", ContainerID: ID, IfName: "eth0"}
	hostEnd    = attachment.HostEnd()
)

// nodeWide are the lines of what the pods of a network share, and that stays when the last of them goes.
var nodeWide = regexp.MustCompile(`^(512: from all fwmark 0x2000/0x2000 lookup main proto kernel|102[235]: .* proto kernel)$`)

func withoutNodeWide(lines []string) (rest []string) {
	inTable := false
	for i, line := range lines {
		inTable = inTable || strings.HasPrefix(line, "table inet veth-host-")
		if !inTable && !nodeWide.MatchString(line) {
			rest = append(rest, line)
		}
		// A table ends with a brace behind that of its last chain.
		inTable = inTable && (line != "}" || i == 0 || lines[i-1] != "}")
	}
	return rest
}

// TestAddCheckDel, in each family: what ADD has made, CHECK finds; DEL leaves the node and the pod as they were.
func TestAddCheckDel(t *testing.T) {
	for _, s := range Stacks() {
		for _, keys := range [][]any{
			{"ipMasq", true},
			{"ipMasq", false},
			{"ipMasq", false, "serviceCidr", "172.20.252.0/22,fd00:20::/108"},
			{"ipMasq", true, "mtu", 1400, "routeTableStart", 5000, "nodePortMark", "0x20000000", "serviceMark", 8, "nodePorts", "80,30000:30100", "containerInterface", "net.1"},
		} {
			t.Run(fmt.Sprint(s.Name, " ", keys), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, s, "")
				config := w.config(keys...)
				before := w.Show(t)
				first := w.add(t, config)
				added := w.Show(t)
				w.verb(t, "CHECK", config).Silent(t, "CHECK")
				if again := w.add(t, config); again != first {
					t.Errorf("a second ADD says\n%s\nthe first\n%s", again, first)
				}
				Same(t, "after a second ADD", added, w.Show(t))
				w.verb(t, "CHECK", config).Silent(t, "CHECK")
				w.verb(t, "DEL", config).Silent(t, "DEL")
				deleted := w.Show(t)
				if left := strings.Join(deleted, "\n"); strings.Contains(left, hostEnd) || strings.Contains(left, "dev veth0") {
					t.Error(left)
				}
				for _, line := range before {
					if !slices.Contains(deleted, line) && !strings.HasPrefix(line, "ipv") {
						t.Errorf("lost: %s", line)
					}
				}
				w.verb(t, "DEL", config).Silent(t, "a second DEL")
				Same(t, "after a second DEL", deleted, w.Show(t))
			})
		}
	}
}

// TestDel: it needs nothing but the network, the container id and the interface, succeeds when there is nothing, and
// never says the words that containerd takes for success.
func TestDel(t *testing.T) {
	for _, test := range []struct {
		name   string
		config func(*world) any
		script string // after ADD
		env    []string
		noADD  bool
	}{
		{name: "before any ADD", noADD: true},
		{name: "before any ADD, without a netns", noADD: true, env: []string{"CNI_NETNS="}},
		{name: "without a netns", env: []string{"CNI_NETNS="}},
		{name: "with a netns that is gone", env: []string{"CNI_NETNS=/run/netns/no-such-pod"}},
		{name: "with the node's own netns", env: []string{"CNI_NETNS=/proc/self/ns/net"}},
		{name: "without prevResult", config: func(w *world) any { return w.config("prevResult", LeaveOut) }},
		{name: "with a prevResult of nobody", config: func(w *world) any { return w.config("prevResult", map[string]any{"x": 1}) }},
		{name: "with keys of wrong types", config: func(w *world) any { return w.config("hostInterface", 5, "mtu", "x", "log_options", []any{}) }},
		{name: "without keys", config: func(*world) any { return Request{"cniVersion": "0.3.1", "name": "cni0", "type": "veth-host"} }},
		{name: "with keys unknown", config: func(w *world) any { return w.config("bridge", "x") }},
		{name: "with a hostInterface that has gone", script: "ip link del enp1s0"},
		{name: "with a host end that has gone", script: "ip link del " + hostEnd},
		{name: "with a pod without interfaces", script: "pod ip link del veth0; pod ip link del eth0"},
		{name: "with the pod's rules and routes gone", script: "pod ip rule flush; pod ip rule add pref 32766 lookup main; pod ip route flush table all; pod ip -6 route flush table all"},
		{name: "with a firewall that has gone", script: "nft flush ruleset; pod nft flush ruleset"},
		{name: "with a detached rule", script: "ip link del " + hostEnd + "; ip rule add pref 1024 iif " + hostEnd + " lookup 999; ip -6 rule add pref 1024 iif " + hostEnd + " lookup 999"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Dual, "")
			config := any(w.config("ipMasq", true))
			if !test.noADD {
				w.add(t, w.config("ipMasq", true))
			}
			if test.config != nil {
				config = test.config(w)
			}
			w.Sh(t, test.script)
			for range 2 {
				w.verb(t, "DEL", config, test.env...).Silent(t, "DEL")
			}
			if left := w.Sh(t, "ip link; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip neigh"); strings.Contains(left, hostEnd) {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// TestDelLeavesForeign: what only has the name of ours is not ours. It stays, and DEL has nothing to do.
func TestDelLeavesForeign(t *testing.T) {
	w := newWorld(t, Dual, "ip link add "+hostEnd+" type veth peer name x; ip link set "+hostEnd+" alias mine")
	before := w.Show(t)
	w.verb(t, "DEL", w.config()).Silent(t, "DEL")
	Same(t, "the kernel", before, w.Show(t))
}

// TestCheckReportsAll: in one error. (That CHECK finds each object, integration/faults tests.)
func TestCheckReportsAll(t *testing.T) {
	w := newWorld(t, Only4, "")
	w.add(t, w.config("ipMasq", true))
	w.Sh(t, "ip rule del pref 512; ip neigh del 10.10.20.53 dev "+hostEnd+"; pod ip route flush table 513")
	spoilt := w.Show(t)
	got := w.verb(t, "CHECK", w.config("ipMasq", true)).Failed(t)
	const want = "rule is missing: ip rule  pref 512 fwmark 0x2000/0x2000 lookup 254; neighbour 10.10.20.53 is missing on HOST; route is missing: ip route  default via 10.10.20.152 dev veth0 table 513"
	if msg := strings.ReplaceAll(got.Msg, hostEnd, "HOST"); got.Code != 120 || !strings.HasPrefix(msg, "the kernel differs in 3 of ") || !strings.HasSuffix(msg, ": "+want) {
		t.Errorf("got %+v", got)
	}
	Same(t, "CHECK only looks", spoilt, w.Show(t))
}

// TestCheckAfterALaterPlugin: an interface that comes later, with an address, makes the source of the pod's routes
// ambiguous for an ADD. What an ADD has made before is right all the same.
func TestCheckAfterALaterPlugin(t *testing.T) {
	w := newWorld(t, Dual, "")
	w.add(t, w.config())
	w.Sh(t, `pod ip link add later0 type veth peer name other
		pod ip link set other up
		pod ip link set later0 up
		pod ip addr add 198.51.100.7/24 dev later0
		pod ip addr add 2001:db8::7/64 dev later0 nodad`)
	w.verb(t, "CHECK", w.config()).Silent(t, "CHECK")
}

// TestCheckBeforeAdd is an error of CHECK, not of the configuration.
func TestCheckBeforeAdd(t *testing.T) {
	w := newWorld(t, Dual, "")
	before := w.Show(t)
	if got := w.verb(t, "CHECK", w.config()).Failed(t); got.Code != 120 {
		t.Errorf("got %+v", got)
	}
	Same(t, "the kernel", before, w.Show(t))
}

// TestStatus of configurations; that of nodes is in integration/faults.
func TestStatus(t *testing.T) {
	for _, test := range []struct {
		name, script string
		config       func(*world) Request
		code         uint
		msg          string
	}{
		{"good", "", nil, 0, ""},
		{"good, with IPv6 only", "ip addr del 10.10.20.152/24 dev enp1s0", nil, 0, ""},
		{"iptables without serviceCidr", "", func(w *world) Request { return w.config("firewall", "iptables") }, 7, "serviceCidr: missing"},
		{"a bad configuration", "", func(w *world) Request { return w.config("mtu", 1) }, 7, "mtu: 1: out of range"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Dual, test.script)
			before := w.Show(t)
			config := w.config("cniVersion", "1.1.0", "prevResult", LeaveOut)
			if test.config != nil {
				config = test.config(w)
			}
			config["cniVersion"] = "1.1.0"
			delete(config, "prevResult")
			got := w.verb(t, "STATUS", config, "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=")
			if test.code == 0 {
				got.Silent(t, "STATUS")
			} else if f := got.Failed(t); f.Code != test.code || !strings.HasPrefix(f.Msg, test.msg) {
				t.Errorf("got %+v", f)
			}
			Same(t, "the kernel", before, w.Show(t))
		})
	}
}

// TestGCOfBrokenConfiguration goes on, as DEL does.
func TestGCOfBrokenConfiguration(t *testing.T) {
	w := newWorld(t, Dual, "")
	w.add(t, w.config())
	w.verb(t, "GC", w.config("cniVersion", "1.1.0", "prevResult", LeaveOut, "mtu", "x", "cni.dev/valid-attachments", []any{})).Silent(t, "GC")
	if out := w.Sh(t, "ip link; ip rule; ip -6 rule"); strings.Contains(out, hostEnd) {
		t.Error(out)
	}
	got := w.verb(t, "GC", w.config("cniVersion", "1.1.0", "cni.dev/valid-attachments", "x")).Failed(t)
	if got.Code != 7 || !strings.HasPrefix(got.Msg, "cni.dev/valid-attachments: ") {
		t.Errorf("got %+v", got)
	}
}

// TestVersion, of all three plugins.
func TestVersion(t *testing.T) {
	w := newWorld(t, Dual, "")
	before := w.Show(t)
	const want = `{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`
	for _, binary := range []string{"veth-host", "veth", "router"} {
		t.Run(binary, func(t *testing.T) {
			got := w.run(t, binary, "VERSION", `{"cniVersion": "1.0.0"}`)
			if strings.TrimSpace(got.Stdout) != want || got.Status != 0 || got.Stderr != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
	Same(t, "the kernel", before, w.Show(t))
}

// TestResult: prevResult with both ends, host end first, and the default routes as they are now.
func TestResult(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s, "ip link set enp1s0 mtu 1450")
			var got types100.Result
			Must(t, json.Unmarshal([]byte(w.add(t, w.config("ipMasq", true))), &got))
			var names, ips, routes []string
			for _, i := range got.Interfaces {
				where := "node"
				if i.Sandbox == w.Pod {
					where = "pod"
				}
				names = append(names, fmt.Sprint(i.Name, " ", i.Mtu, " ", where))
			}
			for _, ip := range got.IPs {
				ips = append(ips, fmt.Sprint(ip.Address.String(), " ", *ip.Interface, " ", ip.Gateway))
			}
			for _, r := range got.Routes {
				routes = append(routes, fmt.Sprint(r.Dst.String(), " ", r.GW))
			}
			wantIPs, wantRoutes := []string{"10.10.20.53/24 0 10.10.20.1", "fd20::53/64 0 fd20::1"}, []string{"0.0.0.0/0 10.10.20.152", "::/0 fd20::152"}
			if !s.V6 {
				wantIPs, wantRoutes = wantIPs[:1], wantRoutes[:1]
			}
			if !s.V4 {
				wantIPs, wantRoutes = wantIPs[1:], wantRoutes[1:]
			}
			Same(t, "interfaces", []string{"eth0 0 pod", hostEnd + " 1450 node", "veth0 1450 pod"}, names)
			Same(t, "ips", wantIPs, ips)
			Same(t, "routes", wantRoutes, routes)
		})
	}
}

// TestFailedAddLeavesNothing: a change late in the plan fails, and everything before it is undone but what pods share.
func TestFailedAddLeavesNothing(t *testing.T) {
	// The way to the next hop has gone since: the kernel keeps the route, and takes no copy of it.
	w := newWorld(t, Dual, "pod ip route add 192.0.2.1 dev eth0; pod ip route add 198.51.100.0/24 via 192.0.2.1; pod ip route del 192.0.2.1")
	before := w.Show(t)
	got := w.verb(t, "ADD", w.config()).Failed(t)
	const want = "ip route replace 198.51.100.0/24 via 192.0.2.1 dev eth0 table 512: network is unreachable: Nexthop has invalid gateway"
	if got.Code != 102 || !strings.HasSuffix(got.Msg, want) || !strings.HasPrefix(got.Details, "undone: ") {
		t.Errorf("got %+v", got)
	}
	Same(t, "the kernel", before, withoutNodeWide(w.Show(t)))
	w.Sh(t, "pod ip route add 192.0.2.1 dev eth0")
	w.add(t, w.config()) // the runtime tries again
}

// TestNoDescriptors: wherever the process runs out of file descriptors, everything is undone but what pods share.
func TestNoDescriptors(t *testing.T) {
	failed := 0
	for limit := 6; limit < 24; limit++ {
		w := newWorld(t, Dual, "")
		before := w.Show(t)
		got := w.limited(t, "ADD", limit, w.config("ipMasq", true))
		if got.Status == 0 {
			break
		}
		failed++
		Same(t, fmt.Sprintf("the kernel, with %d descriptors", limit), before, withoutNodeWide(w.Show(t)))
	}
	if failed < 3 {
		t.Errorf("ADD failed only %d times", failed)
	}
}

// TestPlanIsAScript: a shell that runs the plan leaves both namespaces as ADD does.
func TestPlanIsAScript(t *testing.T) {
	for _, s := range Stacks() {
		for name, config := range map[string]func(*world) Request{
			"ipMasq":              func(w *world) Request { return w.config("ipMasq", true) },
			"no ipMasq":           func(w *world) Request { return w.config() },
			"with the Services":   func(w *world) Request { return w.config("serviceCidr", "172.20.252.0/22,fd00:20::/108") },
			"with several of all": func(w *world) Request { return w.config("nodePorts", "80,443,30000:32767", "mtu", 1300) },
		} {
			t.Run(s.Name+" "+name, func(t *testing.T) {
				t.Parallel()
				// With a VIP on lo the source address is made explicit, as the script does in any case.
				const vip = `ip addr add 10.10.20.9/32 dev lo; ip addr add fd20::9/128 dev lo nodad
					for a in 10.10.20.152/24 fd20::152/64; do ip addr del $a dev enp1s0 2>&- && ip addr add $a dev enp1s0 nodad || :; done`
				byAdd, byHand := newWorld(t, s, vip), newWorld(t, s, vip)
				byAdd.add(t, config(byAdd))
				// Two lines fail, and do not matter: there is no old rule of the host end, and the default route by the
				// wire is replaced in IPv4.
				byHand.Sh(t, "set +e; "+byHand.Plan(t, vethhost.Plugin(), attachment, config(byHand))+"true")
				want, got := byAdd.Show(t), byHand.Show(t)
				paths := strings.NewReplacer(byAdd.Pod, "POD", byHand.Pod, "POD")
				if d := cmp.Diff(paths.Replace(strings.Join(want, "\n")), paths.Replace(strings.Join(got, "\n"))); d != "" {
					t.Errorf("(-ADD +sh)\n%s", d)
				}
			})
		}
	}
}

// TestNoRouterForNode: the node does not take the pod for its router.
func TestNoRouterForNode(t *testing.T) {
	w := newWorld(t, Only4, "")
	w.add(t, w.config("spoofCheck", false)) // which drops advertisements before anybody could believe them
	w.NoRouterForNode(t, "veth0")
}
