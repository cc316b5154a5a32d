package main

import (
	"fmt"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// TestVFOutlivesItsPod: a VF comes back to the node with the name that it had in a pod. DEL and GC take it off; and where
// nobody does, the next pod gets the VF all the same, beside one of the same name, and ADD takes the old name off.
func TestVFOutlivesItsPod(t *testing.T) {
	const names = "ip link show port | grep -c altname || :"
	old, vf := Net1(Dual), Net2(Dual)
	old.Container, old.MAC = "0123456789ab", "02:00:00:00:00:99"
	for name, test := range map[string]struct {
		clean func(*testing.T, *Trial)
		left  string
	}{
		"DEL": {func(t *testing.T, w *Trial) {
			t.Helper()
			w.Verb(t, "DEL", old, w.Request(old), "CNI_NETNS=").Silent(t, "DEL")
		}, "0\n"},
		"GC": {func(t *testing.T, w *Trial) { t.Helper(); w.GC(t, old, []any{}) }, "0\n"},
		"GC that keeps it": {func(t *testing.T, w *Trial) {
			t.Helper()
			w.GC(t, old, []any{map[string]any{"containerID": old.Container, "ifname": old.Name}})
		}, "1\n"},
		"GC of another network": {func(t *testing.T, w *Trial) { t.Helper(); w.GC(t, vf, []any{}) }, "1\n"},
		"nobody":                {func(t *testing.T, _ *Trial) { t.Helper() }, "1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ptp.New(t, Dual, "", old)
			w.Add(t, old)
			w.Sh(t, fmt.Sprintf("pod ip link set net1 name port netns %s; ip link del vethptp0", w.Node)) // of the pod that dies
			test.clean(t, w)
			if out := w.Sh(t, names); out != test.left {
				t.Errorf("names of the VF on the node: %swant %s", out, test.left)
			}

			next, n := w.NewPod(t), Net1(Dual)
			next.Sh(t, ptp.Before(Dual)+n.Make())
			next.Add(t, n)
			next.Sh(t, fmt.Sprintf("ip link set port netns $POD name net2; pod ip link set net2 up; pod ip addr add %s/24 dev net2; pod ip addr add %s/64 dev net2 nodad", vf.Addr4, vf.Addr6))
			vf := *vf
			vf.MAC = old.MAC
			next.Add(t, &vf)
			next.Check(t, n)
			next.Check(t, &vf)
			if out := next.Sh(t, "pod ip link show"); strings.Count(out, "router.pod.") != 2 || strings.Count(out, ".net2") != 1 {
				t.Error(out)
			}
			for _, n := range []*NIC{&vf, n} {
				next.Del(t, n)
			}
			if out := next.Sh(t, "ip link show; pod ip link show; pod ip rule; pod ip -6 rule"); strings.Contains(out, "altname") || strings.Contains(out, "1024:") {
				t.Error(out)
			}
		})
	}
}

// TestRenamed: KubeVirt gives net1 another name and puts a dummy in its place. It is attached all the same: the DEL of another
// interface leaves it what it has, and its own DEL takes that away, with the routes by its new name.
func TestRenamed(t *testing.T) {
	for _, s := range Stacks() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			const pod = "pod ip rule; pod ip -6 rule; pod ip route show table all proto static; pod ip -6 route show table all proto static; pod nft list tables"
			one, other := Net1(s), Net2(s)
			w := calico.New(t, s, "", one)
			before := w.Show(t)
			w.Add(t, one)
			w.Sh(t, "pod sysctl -qw net/ipv6/conf/net1/keep_addr_on_down=1; pod ip link set net1 down; pod ip link set net1 name net1-nic; pod ip link set net1-nic up; pod ip link add net1 type veth peer name other")
			added := w.Sh(t, pod)
			w.Come(t, other)
			w.Del(t, other)
			Same(t, "what net1 has, after DEL of net2", strings.Split(added, "\n"), strings.Split(w.Sh(t, pod), "\n"))
			w.Sh(t, "pod ip link del net2")
			w.Del(t, one)
			w.Sh(t, "pod ip link del net1; pod ip link del net1-nic; pod nft flush ruleset; nft flush ruleset; ip rule del pref 1000 || :; ip -6 rule del pref 1000 || :")
			after := strings.Join(w.Show(t), "\n")
			for _, of := range append(ptp.LeftInPod, "router") {
				if strings.Contains(after, of) && !strings.Contains(strings.Join(before, "\n"), of) {
					t.Errorf("%s is left:\n%s", of, after)
				}
			}
		})
	}
}

// TestStaleName: an interface that is not attached has the name of an attachment in an earlier pod, as a VF brings it. It is none
// of this pod's: the DEL of the last one leaves nothing, and what it had moved is its own again.
func TestStaleName(t *testing.T) {
	for _, s := range Stacks() {
		for _, hostRoute := range []bool{true, false} {
			t.Run(fmt.Sprint(s.Name, " ", hostRoute), func(t *testing.T) {
				t.Parallel()
				vf, n, other := NewNIC("vf0", 20, s), Net1(s), Net2(s)
				w := calico.New(t, s, vf.Make()+"pod ip link property add dev vf0 altname router.pod.01234567.397b5817.net1")
				before := ptp.Lasting(w.Show(t))
				for _, n := range []*NIC{n, other} {
					w.Come(t, n, "host_route", hostRoute)
					w.Check(t, n, "host_route", hostRoute)
				}
				if out := w.Sh(t, "pod ip rule; pod ip -6 rule"); strings.Contains(out, vf.Addr4) || strings.Contains(out, vf.Addr6) {
					t.Errorf("routes of the other interface have moved:\n%s", out)
				}
				w.Del(t, n, "host_route", hostRoute)
				w.Sh(t, "pod ip link del net1")
				w.Check(t, other, "host_route", hostRoute)
				w.Del(t, other, "host_route", hostRoute)
				w.Sh(t, "pod ip link del net2")
				Same(t, "at the end", before, ptp.Lasting(w.Show(t)))
			})
		}
	}
}
