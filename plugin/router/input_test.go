package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestBadConfiguration: each key, with each kind of wrong value. ADD and CHECK say which key, what it is and what is
// accepted, with code 7; and after all of them the kernel is as before.
func TestBadConfiguration(t *testing.T) {
	const acceptPrev = `prevResult.interfaces: "net1" with a sandbox is missing`
	n := net1(dual)
	w := newWorld(t, dual, ptp, "", n)
	before := w.Show(t)
	for _, test := range append(BadUnderlayValues(), []BadValue{
		Bad("host_rule_table 0", "host_rule_table", 0, `host_rule_table: 0: out of range`),
		Bad("host_rule_table main", "host_rule_table", 254, `host_rule_table: 254: a table of the kernel's own: default, main or local`),
		Bad("overlay_interface missing in the pod", "overlay_interface", "eth7", `overlay_interface: "eth7": the pod has no such interface; accepted: the pod's interface that the overlay has made`),
		Bad("overlay_interface is the new one", "overlay_interface", "net1", `overlay_interface: "net1": it is the interface of CNI_IFNAME itself; accepted: `),
		Bad("overlay_interface without a peer", "overlay_interface", "lo", `overlay_interface: "lo": it is no veth with its other end on the node; accepted: one that is, or host_route false`),
		Bad("prevResult missing", "prevResult", leaveOut, "prevResult: missing; the plugin must come after the one that makes the pod's interface"),
		Bad("prevResult without interfaces", "prevResult", map[string]any{"cniVersion": "1.0.0", "ips": []any{map[string]any{"address": "10.10.30.53/24"}}}, acceptPrev),
	}...) {
		t.Run(test.Name, func(t *testing.T) {
			for _, what := range []string{"ADD", "CHECK"} {
				got := verb(t, w, what, n, config(w, n, test.Key, test.Value)).Failed(t)
				if got.Code != 7 || !strings.HasPrefix(got.Msg, test.Msg) || got.CNIVersion != "1.0.0" {
					t.Errorf("%s: got %+v\nwant %s", what, got, test.Msg)
				}
			}
		})
	}
	Same(t, "the kernel", sorted(before), sorted(w.Show(t)))
}

// TestBadWorld: a good configuration, but the node or the pod is not as it should be. Nothing is changed.
func TestBadWorld(t *testing.T) {
	const noCommon = `prevResult.ips: net1 in the pod and the node have no usable address of the same family; accepted: at least one in IPv4 or in IPv6`
	for _, test := range []struct {
		name, script string
		code         uint
		msg          string
		env          []string
	}{
		{"the pod has no such interface", "pod ip link del net1", 100, "CNI_IFNAME: net1: the pod has no such interface", nil},
		{"the pod has no eth0", "pod ip link del eth0", 7, `overlay_interface: "eth0": the pod has no such interface`, nil},
		{"the pod has no address", "pod ip addr flush dev net1", 7, noCommon, nil},
		{"the pod's address is the node's", "pod ip addr add 10.10.20.152/24 dev net1", 110, "10.10.20.152: the pod's address is one of the node itself", nil},
		{"CNI_NETNS is the node's own", "", 8, "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's", []string{"CNI_NETNS=/proc/self/ns/net"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := net1(dual)
			w := newWorld(t, dual, ptp, test.script, n)
			before := w.Show(t)
			got := verb(t, w, "ADD", n, config(w, n), test.env...).Failed(t)
			if got.Code != test.code || !strings.HasPrefix(got.Msg, test.msg) {
				t.Errorf("got %+v\nwant %d %s", got, test.code, test.msg)
			}
			Same(t, "the kernel", sorted(before), sorted(w.Show(t)))
		})
	}
}

// TestSkipCall: prevResult is passed on as it came, whatever else the configuration says, and nothing is changed; DEL
// still cleans up.
func TestSkipCall(t *testing.T) {
	n := net1(dual)
	w := newWorld(t, dual, ptp, "", n)
	before := w.Show(t)
	prev := map[string]any{"cniVersion": "1.0.0", "ips": []any{map[string]any{"address": "10.10.30.53/24"}}, "x": map[string]any{"y": 1.0}}
	for _, pairs := range [][]any{nil, {"rp_filter", 7}, {"overlay_interface", "eth7"}} {
		var got map[string]any
		Must(t, json.Unmarshal([]byte(add(t, w, n, append(pairs, "skip_call", true, "prevResult", prev)...)), &got))
		if fmt.Sprint(got) != fmt.Sprint(prev) {
			t.Errorf("got %v", got)
		}
		verb(t, w, "CHECK", n, config(w, n, append(pairs, "skip_call", true)...)).Silent(t, "CHECK")
	}
	Same(t, "the kernel", sorted(before), sorted(w.Show(t)))
	add(t, w, n)
	del(t, w, n, "skip_call", true)
	Same(t, "after DEL", sorted(lasting(before)), sorted(lasting(w.Show(t))))
}

// TestRPFilter: the pod's interfaces; with set_host the node's too, which stay so.
func TestRPFilter(t *testing.T) {
	for value := range 3 {
		for _, setHost := range []bool{false, true} {
			t.Run(fmt.Sprint(value, setHost), func(t *testing.T) {
				t.Parallel()
				n := net1(dual)
				w := newWorld(t, dual, ptp, "cd /proc/sys/net/ipv4/conf; for i in all default lo enp20 enp30 enp40 wire20 vethptp0; do echo 1 >$i/rp_filter; done; cd /", n)
				rp := map[string]any{"set_host": setHost, "value": value}
				add(t, w, n, "rp_filter", rp)
				check(t, w, n, "rp_filter", rp)
				if pod := w.Sh(t, "pod sh -ec 'cd /proc/sys/net/ipv4/conf; cat all/rp_filter eth0/rp_filter net1/rp_filter'"); pod != strings.Repeat(fmt.Sprintln(value), 3) {
					t.Errorf("got %q", pod)
				}
				want := strings.Repeat("1\n", 8)
				if setHost {
					want = strings.Repeat(fmt.Sprintln(value), 8)
				}
				got := w.Sh(t, "cd /proc/sys/net/ipv4/conf; cat all/rp_filter default/rp_filter lo/rp_filter enp20/rp_filter enp30/rp_filter enp40/rp_filter wire20/rp_filter vethptp0/rp_filter")
				if got != want {
					t.Errorf("node: got %q, want %q", got, want)
				}
			})
		}
	}
}

// TestMAC: the prefix and the address make the hardware address; the result has it; the runtime's wins; only_op_mac
// does no more.
func TestMAC(t *testing.T) {
	const conflict = `{"enabled": true, "interval": "20ms", "retries": 1}`
	for _, test := range []struct {
		name   string
		stack  stack
		pairs  []any
		mac    string
		routes bool
	}{
		{"IPv4", only4, []any{"mac_prefix", "0a:1b"}, "0a:1b:0a:0a:1e:35", true},
		{"IPv6", only6, []any{"mac_prefix", "0a-1b"}, "0a:1b:00:00:00:53", true},
		{"with a check", dual, []any{"mac_prefix", "0a:1b", "ip_conflict", json.RawMessage(conflict)}, "0a:1b:0a:0a:1e:35", true},
		{"the runtime's wins", dual, []any{"mac_prefix", "0a:1b", "runtimeConfig", map[string]any{"mac": "02:00:00:04:1e:53"}}, "02:00:00:04:1e:53", true},
		{"only_op_mac", dual, []any{"mac_prefix", "0a:1b", "only_op_mac", true}, "0a:1b:0a:0a:1e:35", false},
		{"only_op_mac without a prefix", dual, []any{"only_op_mac", true}, "02:00:00:04:1e:53", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := net1(test.stack)
			w := newWorld(t, test.stack, ptp, "", n)
			var got types100.Result
			for range 2 {
				Must(t, json.Unmarshal([]byte(add(t, w, n, test.pairs...)), &got))
				check(t, w, n, test.pairs...)
			}
			out := w.Sh(t, "pod ip link; ip rule; ip -6 rule")
			if got.Interfaces[0].Mac != test.mac || !strings.Contains(out, "link/ether "+test.mac) || strings.Contains(out, "1000:") != test.routes {
				t.Errorf("the result says %s:\n%s", got.Interfaces[0].Mac, out)
			}
			if len(got.Interfaces) != 1 {
				t.Errorf("interfaces: %v", got.Interfaces)
			}
		})
	}
}

// TestConflict: another machine on the wire has the address: code 110, and nothing is changed.
func TestConflict(t *testing.T) {
	for _, s := range []stack{only4, only6} {
		t.Run(s.name, func(t *testing.T) {
			n := net1(s)
			w := newWorld(t, dual, ptp, "", n)
			other := w.NewPod(t)
			taken := *n
			taken.mac = "02:00:00:00:66:66"
			other.Sh(t, taken.make())
			before := w.Show(t)
			got := verb(t, w, "ADD", n, config(w, n, "ip_conflict", map[string]any{"enabled": true, "interval": "100ms"})).Failed(t)
			if got.Code != 110 || !strings.Contains(got.Msg, "02:00:00:00:66:66") || !strings.Contains(got.Msg, " of net1") {
				t.Errorf("got %+v", got)
			}
			Same(t, "the kernel", sorted(before), sorted(w.Show(t)))
		})
	}
}
