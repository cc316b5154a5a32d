package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// TestStates: what the kernel shows after net1 and after net2, in each family and by each overlay.
func TestStates(t *testing.T) {
	for name, o := range overlays {
		for _, s := range Stacks() {
			t.Run(name+" "+s.Name, func(t *testing.T) {
				t.Parallel()
				o.New(t, s, "").States(t, name+" "+s.Name, view, Net1(s), Net2(s))
			})
		}
	}
}

// TestAddCheckDel, in each family and by each overlay: what ADD has made, CHECK finds, of both interfaces; ADD twice is ADD
// once, for each; DEL in either order leaves what is left working, and at the end what was there before. Lessons 3 and 5.
func TestAddCheckDel(t *testing.T) {
	for name, o := range overlays {
		for _, s := range Stacks() {
			for _, firstGoesFirst := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", s.Name, " ", firstGoesFirst), func(t *testing.T) {
					t.Parallel()
					addCheckDel(t, o, s, firstGoesFirst)
				})
			}
		}
	}
}

func addCheckDel(t *testing.T, o *Subject, s Stack, firstGoesFirst bool) {
	t.Helper()
	nics := []*NIC{Net1(s), Net2(s)}
	w := o.New(t, s, "")
	before := w.Show(t)
	for i, n := range nics {
		w.Sh(t, n.Make())
		w.AddTwice(t, n, nics[:i+1]...)
	}
	added := w.Show(t)
	w.Add(t, nics[0])
	Same(t, "after one more ADD of net1", added, w.Show(t))

	if !firstGoesFirst {
		slices.Reverse(nics)
	}
	for i, n := range nics {
		w.Del(t, n)
		left := w.Show(t)
		w.Del(t, n)
		Same(t, "after a second DEL of "+n.Name, left, w.Show(t))
		w.Sh(t, "pod ip link del "+n.Name)
		for _, n := range nics[i+1:] {
			w.Check(t, n)
		}
		by := "eth0"
		if i == 0 {
			by = nics[1].Name
		}
		for flag, has := range map[string]bool{"": s.V4, "-6": s.V6} {
			out := w.Sh(t, "pod ip "+flag+" route show default")
			if has && (strings.Count(out, "default") != 1 || !strings.Contains(out, "dev "+by+" ")) {
				t.Errorf("after DEL of %s: %s", n.Name, out)
			}
		}
	}
	Same(t, "at the end", ptp.Lasting(before), ptp.Lasting(w.Show(t)))
}

func TestPlanIsAScript(t *testing.T) {
	calico.PlanIsAScript(t, func(script string) string {
		// The rules that net1 and net2 share.
		return strings.ReplaceAll(script, " protocol kernel\n", " protocol kernel || :\n")
	})
}

// TestRoutesOfOthers: a static route that somebody has made by another interface is none of ours, and survives the last DEL.
func TestRoutesOfOthers(t *testing.T) {
	n := Net1(Dual)
	w := calico.New(t, Dual, `pod ip link add other type veth peer name peer; pod ip link set other up; pod ip link set peer up
		pod ip route add 203.0.113.0/24 dev other proto static; pod ip -6 route add 2001:db8:9::/64 dev other proto static;`, n)
	before := w.Sh(t, "pod ip route show proto static; pod ip -6 route show proto static")
	if strings.Count(before, "dev other") != 2 {
		t.Fatal(before)
	}
	w.Add(t, n)
	w.Check(t, n)
	w.Del(t, n)
	Same(t, "static routes", before, w.Sh(t, "pod ip route show proto static; pod ip -6 route show proto static"))
}

// TestNoRouterForNode: IPv6 that is switched on at the overlay's peer does not make the node take the pod for its router.
func TestNoRouterForNode(t *testing.T) {
	n := Net1(Dual)
	w := ptpOf(Only4).New(t, Dual, "sysctl -qw net/ipv6/conf/vethptp0/disable_ipv6=1 net/ipv6/conf/all/forwarding=0", n)
	w.Add(t, n)
	w.NoRouterForNode(t, "eth0")
	w.Check(t, n)
}

// TestOverlayMTU: where the overlay's default route has an MTU of its own, as Cilium's, so have the ways to the node and to
// what is behind it.
func TestOverlayMTU(t *testing.T) {
	nics := []*NIC{Net1(Dual), Net2(Dual)}
	w := calico.New(t, Dual, `pod ip route replace default via 169.254.1.1 dev eth0 mtu 1450
		pod ip -6 route del default; pod ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0 mtu 1430`, nics...)
	for _, n := range nics {
		w.Add(t, n)
		w.Check(t, n)
		for to, mtu := range map[string]string{"10.10.20.152": "1450", "172.96.0.10": "1450", "10.244.9.9 from 10.244.1.5": "1450", "192.0.2.9 mark 0x1000": "1450", "fd20::152": "1430", "2001:4860:fd00::a": "1430"} {
			if out := w.Sh(t, "pod ip route get "+to); !strings.Contains(out, " mtu "+mtu) || !strings.Contains(out, " dev eth0 ") {
				t.Errorf("%s: %s", to, out)
			}
		}
	}
	if out := w.Sh(t, "pod ip route get 192.0.2.9"); strings.Contains(out, " mtu ") {
		t.Error(out)
	}
}

// TestNodeByTheOverlaysHop: the overlay has a route to the node's address by its own next hop.
func TestNodeByTheOverlaysHop(t *testing.T) {
	n := Net1(Only4)
	w := calico.New(t, Only4, "pod ip route add 10.10.20.152 via 169.254.1.1 dev eth0", n)
	w.Add(t, n)
	w.Check(t, n)
	if out := w.Sh(t, "pod ip route get 10.10.20.152; pod ip route get 172.96.0.10; pod ip route get 10.10.30.152"); strings.Count(out, "via 169.254.1.1 dev eth0") != 3 {
		t.Error(out)
	}
}
