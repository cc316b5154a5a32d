package plugintest

import (
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
)

// BadConfiguration tests each key, with each kind of wrong value. ADD and CHECK say which key, what it is and what is accepted,
// with code 7; and after all of them the kernel is as before.
func (s *Subject) BadConfiguration(t *testing.T, more ...BadValue) {
	t.Helper()
	type object = map[string]any
	type list = []any
	n := s.First(Dual)
	w := s.New(t, Dual, "", n)
	before := w.Show(t)
	const missing = "prevResult: missing; the plugin must come after the one that makes the pod's interface"
	acceptPrev := `prevResult.interfaces: "` + n.Name + `" with a sandbox is missing; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod`
	for _, test := range append(append(BadUnderlayValues(), more...), []BadValue{
		Bad("prevResult missing", "prevResult", LeaveOut, missing),
		Bad("prevResult null", "prevResult", nil, missing),
		Bad("prevResult without interfaces", "prevResult", object{"cniVersion": "1.0.0", "ips": list{object{"address": n.Addr4 + "/24"}}}, acceptPrev),
		Bad("prevResult with another interface", "prevResult", object{"cniVersion": "1.0.0", "interfaces": list{object{"name": "other", "sandbox": "/x"}}}, acceptPrev),
	}...) {
		t.Run(test.Name, func(t *testing.T) {
			for _, what := range []string{"ADD", "CHECK"} {
				got := w.Verb(t, what, n, w.Request(n, test.Key, test.Value)).Failed(t)
				if got.Code != 7 || !strings.HasPrefix(got.Msg, test.Msg) || got.CNIVersion != "1.0.0" {
					t.Errorf("%s: got %+v\nwant %s", what, got, test.Msg)
				}
			}
		})
	}
	t.Run("skip_call without prevResult", func(t *testing.T) {
		got := w.Verb(t, "ADD", n, w.Request(n, "skip_call", true, "prevResult", LeaveOut)).Failed(t)
		if got.Code != 7 || !strings.HasPrefix(got.Msg, "prevResult: missing") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("comments", func(t *testing.T) {
		got := w.Verb(t, "ADD", n, "{\n  \"cniVersion\": \"1.0.0\",\n  // the overlay\n  \"name\": \"x\"\n}").Failed(t)
		if got.Code != 6 || got.Msg != "line 3: // the overlay: a comment, and JSON has none; accepted: valid JSON without comments" {
			t.Errorf("got %+v", got)
		}
	})
	nettest.Same(t, "the kernel", before, w.Show(t))
}

// A WorldRow is a node and a pod that are not as they should be, and the error of ADD.
type WorldRow struct {
	Name, Script string
	Code         uint
	Msg          string // how it begins
	Pairs        []any
	Env          []string
	Begun        bool // ADD fails in the middle: what is shared stays
	Moving       bool // the kernel goes on by itself
}

// BadWorld tests a good configuration, but the node or the pod is not as it should be. Nothing is changed.
func (s *Subject) BadWorld(t *testing.T, more ...WorldRow) {
	t.Helper()
	n := s.First(Dual)
	name := n.Name
	noAddress := "prevResult.ips: " + name + " in the pod has no usable address; accepted: at least one in IPv4 or in IPv6"
	for _, test := range append([]WorldRow{
		{Name: "the pod has no such interface", Script: "pod ip link del " + name, Code: 100, Msg: "CNI_IFNAME: " + name + ": the pod has no such interface"},
		{Name: "the pod has no address", Script: "pod ip addr flush dev " + name, Code: 7, Msg: noAddress},
		{Name: "the pod's address is the node's", Script: "ip addr add " + n.Addr4 + "/32 dev lo", Code: 110, Msg: n.Addr4 + ": the pod's address is one of the node itself"},
		{
			Name: "the pod's address is still tentative", Code: 11, Msg: n.Addr6 + ": duplicate address detection still runs on " + name, Moving: true,
			Script: "pod sysctl -qw net/ipv6/conf/" + name + "/accept_dad=1 net/ipv6/conf/" + name + "/dad_transmits=100; pod ip addr del " + n.Addr6 + "/64 dev " + name + "; pod ip addr add " + n.Addr6 + "/64 dev " + name,
		},
		{
			Name: "CNI_NETNS is the node's own", Env: []string{"CNI_NETNS=/proc/self/ns/net"}, Code: 8,
			Msg: "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's",
		},
		{
			Name: "the pod has a table of its own that has the plugin's name", Code: 106, Msg: "nsenter --net=", Begun: true,
			Script: "pod nft 'table inet " + s.Plugin.Name + " { chain forward { type filter hook forward priority 0; policy drop; }; }'",
		},
	}, more...) {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			n := s.First(Dual)
			w := s.New(t, Dual, test.Script, n)
			before := w.Show(t)
			got := w.Verb(t, "ADD", n, w.Request(n, test.Pairs...), test.Env...).Failed(t)
			if got.Code != test.Code || !strings.HasPrefix(got.Msg, test.Msg) {
				t.Errorf("got %+v\nwant %d %s", got, test.Code, test.Msg)
			}
			switch after := w.Show(t); {
			case test.Moving:
			case test.Begun:
				nettest.Same(t, "the kernel", s.WithoutTables(before), s.WithoutTables(after))
			default:
				nettest.Same(t, "the kernel", before, after)
			}
		})
	}
}

// SlowAddress is a script that gives an interface of the pod its IPv6 address anew, as where nobody waits for the kernel's duplicate address
// detection: it is over in a second.
func SlowAddress(name, addr string) string {
	conf := "net/ipv6/conf/" + name
	return "pod sysctl -qw " + conf + "/accept_dad=1 " + conf + "/dad_transmits=1 " + conf + "/router_solicitation_delay=0; pod ip addr del " + addr + "/64 dev " + name + "; pod ip addr add " + addr + "/64 dev " + name
}

// Settles tests that ADD waits for the kernel's duplicate address detection.
func (s *Subject) Settles(t *testing.T) {
	t.Helper()
	t.Parallel()
	n := s.First(Dual)
	w := s.New(t, Dual, SlowAddress(n.Name, n.Addr6), n)
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "pod ip -o addr show dev "+n.Name+" tentative; ip -6 route get "+n.Addr6); !strings.HasPrefix(out, n.Addr6+" ") {
		t.Error(out)
	}
}
