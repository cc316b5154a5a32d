package main

import (
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

const acceptPrev = `prevResult.interfaces: "eth0" with a sandbox is missing; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod`

// TestBadConfiguration: each key, with each kind of wrong value. ADD and CHECK say which key, what it is and what is
// accepted, with code 7; and after all of them the kernel is as before.
func TestBadConfiguration(t *testing.T) {
	n := eth0(dual)
	w := newWorld(t, dual, "", n)
	before := w.Show(t)
	type object = map[string]any
	type list = []any
	for _, test := range append(BadUnderlayValues(), []BadValue{
		Bad("prevResult missing", "prevResult", leaveOut, "prevResult: missing; the plugin must come after the one that makes the pod's interface"),
		Bad("prevResult null", "prevResult", nil, "prevResult: missing; the plugin must come after the one that makes the pod's interface"),
		Bad("prevResult without interfaces", "prevResult", object{"cniVersion": "1.0.0", "ips": list{object{"address": "10.10.20.53/24"}}}, acceptPrev),
		Bad("prevResult with another interface", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "net1", "sandbox": "/x"}}}, acceptPrev),
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
	t.Run("skip_call without prevResult", func(t *testing.T) {
		got := verb(t, w, "ADD", n, config(w, n, "skip_call", true, "prevResult", leaveOut)).Failed(t)
		if got.Code != 7 || !strings.HasPrefix(got.Msg, "prevResult: missing") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("comments", func(t *testing.T) {
		got := verb(t, w, "ADD", n, "{\n  \"cniVersion\": \"1.0.0\",\n  // the overlay\n  \"name\": \"x\"\n}").Failed(t)
		if got.Code != 6 || got.Msg != "line 3: // the overlay: a comment, and JSON has none; accepted: valid JSON without comments" {
			t.Errorf("got %+v", got)
		}
	})
	Same(t, "the kernel", before, w.Show(t))
}

// TestBadWorld: a good configuration, but the node or the pod is not as it should be. Nothing is changed.
func TestBadWorld(t *testing.T) {
	const noCommon = `prevResult.ips: eth0 in the pod and the node have no usable address of the same family; accepted: at least one in IPv4 or in IPv6`
	for _, test := range []struct {
		name, script string
		code         uint
		msg          string
		pairs        []any
		env          []string
	}{
		{"the pod has no such interface", "pod ip link del eth0", 100, "CNI_IFNAME: eth0: the pod has no such interface", nil, nil},
		{"the pod has no address", "pod ip addr flush dev eth0", 7, noCommon, nil, nil},
		{"the node has no address", "for i in 20 30 40; do ip addr flush dev enp$i; done", 7, noCommon, nil, nil},
		{"the pod's address is the node's", "pod ip addr add 10.10.20.152/24 dev eth0", 110, "10.10.20.152: the pod's address is one of the node itself", nil, nil},
		{"the pod's address is still tentative", "pod sysctl -qw net/ipv6/conf/eth0/accept_dad=1 net/ipv6/conf/eth0/dad_transmits=100; pod ip addr add fd20::54/64 dev eth0", 11, "fd20::54: duplicate address detection still runs on eth0", nil, nil},
		{"a foreign veth0 that is no veth", "pod ip link add link eth0 name veth0 type macvlan mode bridge", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign veth0 in the pod", "pod ip link add veth0 type veth peer name other", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign veth0 with a peer on the node", "ip link add vetha0e043dd type veth peer name veth0 netns $POD", 101, "veth0: the pod has an interface of that name (index ", nil, nil},
		{"a foreign interface has the name of the host end", "ip link add HOSTEND type veth peer name other", 101, "ip link add HOSTEND ", nil, nil},
		{"CNI_NETNS is the node's own", "", 8, "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's", nil, []string{"CNI_NETNS=/proc/self/ns/net"}},
		{"mac_prefix with an address of the pod elsewhere", "pod ip addr add 10.10.20.77/24 dev eth0; ip addr add 10.10.20.77/32 dev lo", 110, "10.10.20.77", []any{"ip_conflict", map[string]any{"enabled": true, "interval": "10ms"}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := eth0(dual)
			end := strings.NewReplacer("HOSTEND", hostEnd(id))
			w := newWorld(t, dual, end.Replace(test.script), n)
			before := w.Show(t)
			got := verb(t, w, "ADD", n, config(w, n, test.pairs...), test.env...).Failed(t)
			if got.Code != test.code || !strings.HasPrefix(got.Msg, end.Replace(test.msg)) {
				t.Errorf("got %+v\nwant %d %s", got, test.code, test.msg)
			}
			if test.name == "the pod's address is still tentative" {
				return // it changes by itself
			}
			Same(t, "the kernel", withoutShared(before), withoutShared(w.Show(t)))
		})
	}
}
