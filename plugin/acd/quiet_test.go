package acd_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"underlay-cni/plugin/acd"
	"underlay-cni/routing"
)

// brisk leaves time for 50 runs.
var brisk = acd.Options{Interval: 10 * time.Millisecond, Retries: 3}

// TestNoFalseAlarm: 50 runs without a conflict, in IPv4 and IPv6 at once, on wires that are not easy.
func TestNoFalseAlarm(t *testing.T) {
	const runs = 50
	both := func(t *testing.T, w *world) {
		t.Helper()
		add(t, w.pod, pod4, "eth0")
		add(t, w.pod, pod6, "eth0")
	}
	reflect := func(t *testing.T, w *world, port string) {
		t.Helper()
		_, err := w.wire.Run("bridge", "link", "set", "dev", port, "hairpin", "on")
		must(t, err)
	}
	// What somebody says over and over, while the checks run.
	meanwhile := func(t *testing.T, p *port, frames ...[]byte) {
		t.Helper()
		t.Cleanup(repeat(func() {
			for _, f := range frames {
				_ = p.send(f)
			}
			p.hear()
		}))
	}
	kernelDetects := func(t *testing.T, w *world) {
		t.Helper()
		detect(t, w.pod, "eth0")
		must(t, w.pod.Sysctl(map[string]string{"net/ipv6/neigh/eth0/retrans_time_ms": "50"})) // in place of a second
		add(t, w.pod, pod4, "eth0")
		add(t, w.pod, pod6, "eth0")
	}
	other4, other6 := netip.MustParseAddr("10.10.20.201"), netip.MustParseAddr("fd20::201")

	for _, test := range []struct {
		name, kind string
		begin      func(t *testing.T, w *world)
		again      func(t *testing.T, w *world) // before every run but the first
	}{
		{name: "a quiet wire", kind: onMacvlan, begin: both},
		{name: "a quiet wire, no macvlan", kind: onWire, begin: both},
		{
			name: "frames come back", kind: onWire,
			begin: func(t *testing.T, w *world) { t.Helper(); reflect(t, w, "pod"); both(t, w) },
		},
		{
			name: "frames come back to the parent", kind: onMacvlan,
			begin: func(t *testing.T, w *world) { t.Helper(); reflect(t, w, "node"); both(t, w) },
		},
		{
			name: "frames come back, mode vepa", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				reflect(t, w, "node")
				must(t, w.pod.IP("link set eth0 type macvlan mode vepa"))
				both(t, w)
			},
		},
		{
			name: "mode private", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.pod.IP("link set eth0 type macvlan mode private"))
				both(t, w)
			},
		},
		{
			name: "frames come back while the kernel detects", kind: onWire,
			begin: func(t *testing.T, w *world) { t.Helper(); reflect(t, w, "pod"); kernelDetects(t, w) },
			again: func(t *testing.T, w *world) { t.Helper(); del(t, w.pod, pod6, "eth0"); add(t, w.pod, pod6, "eth0") },
		},
		{
			name: "the kernel detects", kind: onMacvlan, begin: kernelDetects,
			again: func(t *testing.T, w *world) { t.Helper(); del(t, w.pod, pod6, "eth0"); add(t, w.pod, pod6, "eth0") },
		},
		{
			name: "old announcements of the pod", kind: onWire,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				reflect(t, w, "pod")
				must(t, w.pod.Sysctl(map[string]string{"net/ipv4/conf/eth0/arp_notify": "1", "net/ipv6/conf/eth0/ndisc_notify": "1"}))
				both(t, w)
				w.announce(t)
			},
			again: func(t *testing.T, w *world) { t.Helper(); w.announce(t) },
		},
		{
			// net1 of the pod answers for the addresses of eth0: to Linux an address is the machine's, not the interface's.
			name: "two interfaces of the pod on the same wire", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.node.IP(fmt.Sprintf("link add link enp1s0 name net1 netns %s type macvlan mode bridge", w.pod.Path())))
				must(t, w.pod.IP("link set net1 up", "addr add 10.10.20.60/24 dev net1", "addr add fd20::60/64 dev net1"))
				both(t, w)
			},
		},
		{
			name: "routers that answer for everybody", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				must(t, w.third.Sysctl(map[string]string{
					"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/proxy_arp": "1",
					"net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/all/proxy_ndp": "1",
				}))
				must(t, w.third.IP("link add near up type veth peer name far", "link set far up", "route add default dev near", "route add ::/0 dev near"))
				must(t, w.node.Sysctl(map[string]string{"net/ipv4/conf/all/proxy_arp": "1"}))
				both(t, w)
			},
		},
		{
			name: "others look for the pod", kind: onWire,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				both(t, w)
				meanwhile(t, openPort(t, w.other, "eth0"),
					arp(1, otherMAC, other4, broadcast, pod4), arp(1, otherMAC, other4, podMAC, pod4),
					nd(135, otherMAC, other6, pod6, append([]byte{1, 1}, otherMAC...)...))
			},
		},
		{
			name: "others announce, probe and answer for addresses of theirs", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				both(t, w)
				near6 := netip.MustParseAddr("fd21::50") // the same group, and the same last four bytes
				meanwhile(t, openPort(t, w.other, "eth0"),
					arp(1, otherMAC, other4, broadcast, other4), arp(2, otherMAC, other4, broadcast, other4),
					arp(1, otherMAC, nobody, broadcast, netip.MustParseAddr("10.10.20.51")),
					nd(136, otherMAC, other6, other6, targetMAC(otherMAC)...),
					nd(135, otherMAC, nobody6, near6), nd(136, otherMAC, near6, near6, targetMAC(otherMAC)...))
			},
		},
		{
			// A switch that tracks its hosts asks each by itself, as somebody without an address.
			name: "a switch that tracks its hosts", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				both(t, w)
				meanwhile(t, openPort(t, w.other, "eth0"), arp(1, otherMAC, nobody, podMAC, pod4))
			},
		},
		{
			name: "broken packets", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				both(t, w)
				wrongSum, far := nd(136, otherMAC, pod6, pod6, targetMAC(otherMAC)...), nd(135, otherMAC, nobody6, pod6)
				wrongSum[len(wrongSum)-1]++
				far[21] = 64 // the hop limit
				meanwhile(t, openPort(t, w.other, "eth0"), wrongSum, far, arp(3, otherMAC, pod4, broadcast, pod4), arp(1, otherMAC, pod4, broadcast, pod4)[:40])
			},
		},
		{
			name: "a pod beside it that checks its own", kind: onMacvlan,
			begin: func(t *testing.T, w *world) {
				t.Helper()
				both(t, w)
				beside := newWorld(t, onMacvlan)
				must(t, beside.pod.IP("link del eth0"))
				must(t, w.node.IP(fmt.Sprintf("link add link enp1s0 name eth0 netns %s type macvlan mode bridge", beside.pod.Path())))
				must(t, beside.pod.IP("link set eth0 up", "addr add 10.10.20.51/24 dev eth0", "addr add fd20::51/64 dev eth0"))
				beside.eth0 = beside.podNS.Link("eth0")
				t.Cleanup(repeat(func() {
					if err := beside.check(brisk); err != nil {
						t.Error("the pod beside:", err)
					}
				}))
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.kind)
			test.begin(t, w)
			for i := range runs {
				if i > 0 && test.again != nil {
					test.again(t, w)
				}
				if err := w.check(brisk); err != nil {
					t.Fatalf("run %d: %v", i+1, err)
				}
				w.awaitSettled(t)
				addrs, err := w.podNS.Addresses(w.eth0)
				must(t, err)
				if slices.ContainsFunc(addrs, routing.Address.Duplicate) {
					t.Fatalf("run %d: the kernel has been misled: %v", i+1, addrs)
				}
			}
		})
	}
}

func (w *world) announce(t *testing.T) {
	t.Helper()
	addrs, err := w.podNS.UsableAddresses(w.eth0)
	must(t, err)
	must(t, acd.Announce(w.eth0, addrs))
}

// TestCachesStayClean: the neighbours that the others know are the same after a Check, whether or not somebody has the
// address, and even where they learn from announcements (arp_accept).
func TestCachesStayClean(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken %t", taken), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, onMacvlan)
			must(t, w.third.Sysctl(map[string]string{"net/ipv4/conf/eth0/arp_accept": "1", "net/ipv6/conf/eth0/accept_untracked_na": "1"}))
			known := otherMAC
			if taken {
				add(t, w.other, pod4, "eth0")
				add(t, w.other, pod6, "eth0")
				for _, a := range []netip.Addr{pod4, pod6} {
					must(t, w.third.Ping(a))
				}
			} else { // a pod that had the addresses before
				known = net.HardwareAddr{0x0a, 0, 0, 0, 0, 0x99}
				must(t, w.third.IP("neigh add 10.10.20.50 lladdr "+known.String()+" dev eth0 nud stale", "neigh add fd20::50 lladdr "+known.String()+" dev eth0 nud stale"))
			}
			for _, addr := range []netip.Addr{pod4, pod6} {
				machines := map[string]interface {
					Run(name string, args ...string) (string, error)
				}{"third": w.third, "other": w.other, "node": w.node}
				before := map[string]string{}
				for name, m := range machines {
					before[name] = neighbours(t, m)
				}
				add(t, w.pod, addr, "eth0", "nodad")
				o := quick
				if taken {
					o = patient
				}
				err := w.check(o)
				if taken != (err != nil) {
					t.Errorf("%s: %v", addr, err)
				}
				for name, m := range machines {
					if after := neighbours(t, m); after != before[name] {
						t.Errorf("%s: %s knew\n%sand knows\n%s", addr, name, before[name], after)
					}
				}
				if mac := w.known(t, addr); mac != known.String() {
					t.Errorf("the third knows %s at %q, want %s", addr, mac, known)
				}
				del(t, w.pod, addr, "eth0")
			}
		})
	}
}

// TestAnnounce: the others learn the pod's new hardware address.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onMacvlan)
	add(t, w.pod, pod4, "eth0")
	add(t, w.pod, pod6, "eth0")
	addrs, err := w.podNS.UsableAddresses(w.eth0)
	must(t, err)
	for _, a := range []netip.Addr{pod4, pod6} {
		must(t, w.third.Ping(a))
		if got := w.known(t, a); got != podMAC.String() {
			t.Fatalf("the third knows %s at %q", a, got)
		}
	}
	mac, err := acd.MAC([2]byte{0x0a, 0x1b}, addrs)
	must(t, err)
	if mac.String() != "0a:1b:0a:0a:14:32" {
		t.Fatal(mac)
	}
	must(t, (&routing.LinkMAC{Link: w.eth0, MAC: mac}).Apply())
	must(t, acd.Announce(w.eth0, addrs))
	for _, a := range []netip.Addr{pod4, pod6} {
		await(t, fmt.Sprintf("the third to know %s at %s", a, mac), func() bool { return w.known(t, a) == mac.String() })
		must(t, w.third.Ping(a))
	}
}
