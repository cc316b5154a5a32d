package acd_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/plugin/acd"
	"underlay-cni/routing"
)

// TestRefuses: what no Check can be made of, and no answer in time.
func TestRefuses(t *testing.T) {
	has := []routing.Address{{Prefix: netip.PrefixFrom(pod4, 24)}}
	for _, test := range []struct {
		name   string
		o      acd.Options
		script func(t *testing.T, w *world)
		addrs  []routing.Address
		is     error
		says   string
		atMost time.Duration
	}{
		{name: "no interval", o: acd.Options{Retries: 3}, says: "3 probes every 0s; accepted: at least one, and an interval greater than 0"},
		{name: "a negative interval", o: acd.Options{Interval: -1, Retries: 3}, says: "3 probes every -1ns"},
		{name: "no probe", o: acd.Options{Interval: time.Second}, says: "0 probes every 1s"},
		{
			name: "no interface", o: quick, is: routing.ErrNoLink, says: "address conflict detection on eth0: interface eth0: no such interface",
			script: func(t *testing.T, w *world) { t.Helper(); must(t, w.pod.IP("link del eth0")) },
		},
		{
			name: "the interface is down", o: quick, says: "address conflict detection on eth0: the interface is down",
			script: func(t *testing.T, w *world) { t.Helper(); must(t, w.pod.IP("link set eth0 down")) },
		},
		{
			name: "an address of nobody", o: quick, says: "the interface does not have 10.10.20.50",
			script: func(t *testing.T, w *world) { t.Helper(); del(t, w.pod, pod4, "eth0") },
		},
		{
			name: "no carrier", o: quick, is: acd.ErrUndecided, says: "the interface has no carrier", atMost: 4 * time.Second,
			script: func(t *testing.T, w *world) { t.Helper(); must(t, w.wire.IP("link set pod down")) },
		},
		{
			name: "the kernel does not finish", o: quick, is: acd.ErrUndecided, says: "the kernel still detects duplicates of fd20::50", atMost: 4 * time.Second,
			script: func(t *testing.T, w *world) {
				t.Helper()
				detect(t, w.pod, "eth0")
				must(t, w.pod.Sysctl(map[string]string{"net/ipv6/conf/eth0/dad_transmits": "100"}))
				add(t, w.pod, pod6, "eth0")
			},
			addrs: []routing.Address{{Prefix: netip.PrefixFrom(pod6, 64), Flags: unix.IFA_F_PERMANENT}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, onWire)
			add(t, w.pod, pod4, "eth0")
			if test.script != nil {
				test.script(t, w)
			}
			if test.addrs == nil {
				test.addrs = has
			}
			start := time.Now()
			err := acd.Check(w.nodeNS, w.eth0, test.addrs, test.o)
			if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v\nwant %q", err, test.says)
			}
			if errors.As(err, new(*acd.Conflict)) {
				t.Errorf("it is no conflict: %v", err)
			}
			if took := time.Since(start); took > max(test.atMost, time.Second) {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestGoesDown: the interface, while Check listens.
func TestGoesDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onWire)
	add(t, w.pod, pod4, "eth0")
	ear := openPort(t, w.other, "eth0")
	answers := make(chan error)
	start := time.Now()
	go func() { answers <- w.check(acd.Options{Interval: 10 * time.Second, Retries: 1}) }()
	await(t, "a probe", func() bool { return asks(ear.hear(), pod4) })
	must(t, w.pod.IP("link set eth0 down"))
	if err := <-answers; !errors.Is(err, unix.ENETDOWN) || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %s", err, time.Since(start))
	}
}

// TestGetsCarrier: a VF that has come up may take a moment until it carries. No probe is lost in that time.
func TestGetsCarrier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onWire)
	add(t, w.pod, pod4, "eth0")
	add(t, w.other, pod4, "eth0")
	must(t, w.wire.IP("link set pod down"))
	var later sync.WaitGroup
	later.Go(func() {
		<-time.After(100 * time.Millisecond)
		_ = w.wire.IP("link set pod up")
	})
	err := w.check(acd.Options{Interval: 200 * time.Millisecond, Retries: 3})
	later.Wait()
	if !errors.As(err, new(*acd.Conflict)) {
		t.Errorf("got %v", err)
	}
}

// TestNothingToCheck: these are left to the kernel, and cost nothing.
func TestNothingToCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onMacvlan)
	for _, a := range []routing.Address{
		{Prefix: netip.MustParsePrefix("fe80::1/64"), Scope: unix.RT_SCOPE_LINK, Flags: unix.IFA_F_PERMANENT},
		{Prefix: netip.MustParsePrefix("fe80::1/64"), Scope: unix.RT_SCOPE_LINK, Flags: unix.IFA_F_PERMANENT | unix.IFA_F_DADFAILED},
		{Prefix: netip.MustParsePrefix("fd20::1234/64")}, // dynamic
		{Prefix: netip.MustParsePrefix("127.0.0.2/8"), Scope: unix.RT_SCOPE_HOST},
	} {
		start := time.Now()
		must(t, acd.Check(w.nodeNS, w.eth0, []routing.Address{a}, acd.Options{Interval: time.Second, Retries: 3}))
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("%s: it took %s", a.Prefix, took)
		}
	}
}

// TestProbes: as many as there should be, the first at once, for each address, and an interval to the next and after the
// last. Nothing else leaves the pod.
func TestProbes(t *testing.T) {
	for _, count := range []int{1, 4} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, onMacvlan)
			var addrs []netip.Addr
			for i := range count {
				for _, a := range []string{fmt.Sprintf("10.10.20.%d", 50+i), fmt.Sprintf("fd20::%d", 50+i)} {
					addrs = append(addrs, netip.MustParseAddr(a))
					add(t, w.pod, addrs[len(addrs)-1], "eth0")
				}
			}
			ear := openPort(t, w.other, "eth0")
			o := acd.Options{Interval: 300 * time.Millisecond, Retries: 2}
			var took time.Duration
			done := make(chan error, 1)
			start := time.Now()
			go func() {
				err := w.check(o)
				took = time.Since(start)
				done <- err
			}()
			heard := map[netip.Addr][]time.Duration{}
			for over := false; !over; {
				frame := ear.hear()
				for _, a := range addrs {
					if asks(frame, a) {
						heard[a] = append(heard[a], time.Since(start))
					}
				}
				select {
				case err := <-done:
					must(t, err)
					over = true
				default:
				}
			}
			const slack = 2 * time.Second // of a machine that has much else to do
			near := func(what string, got, want time.Duration) {
				if got < want || got > want+slack {
					t.Errorf("%s after %s, want %s", what, got, want)
				}
			}
			for _, a := range addrs {
				if len(heard[a]) != o.Retries {
					t.Errorf("%s: probes at %v", a, heard[a])
					continue
				}
				for i, at := range heard[a] {
					near(fmt.Sprintf("%s: probe %d", a, i+1), at, time.Duration(i)*o.Interval)
				}
			}
			near("the answer", took, 2*o.Interval)
		})
	}
}

// TestMAC: prefix and address.
func TestMAC(t *testing.T) {
	for _, test := range []struct{ addrs, want string }{
		{"10.10.20.50/24", "0a:1b:0a:0a:14:32"},
		{"0.0.0.1/8", "0a:1b:00:00:00:01"},
		{"255.255.255.254/24", "0a:1b:ff:ff:ff:fe"},
		{"fd20::50/64", "0a:1b:00:00:00:50"},
		{"2001:db8::1:ac10:fe01/64", "0a:1b:ac:10:fe:01"},
		{"::5/64", "0a:1b:00:00:00:05"},
		{"::ffff:1:2/96", "0a:1b:00:01:00:02"},
		{"fd20::50/64 10.10.20.50/24", "0a:1b:0a:0a:14:32"},
		{"10.10.20.50/24 10.10.20.51/24", "0a:1b:0a:0a:14:32"},
		{"fe80::1/64 fd20::50/64", "0a:1b:00:00:00:50"},
		{"169.254.1.1/16 fd20::50/64", "0a:1b:00:00:00:50"},
		{"fe80::1/64", ""},
		{"", ""},
	} {
		var addrs []routing.Address
		for a := range strings.FieldsSeq(test.addrs) {
			addrs = append(addrs, routing.Address{Prefix: netip.MustParsePrefix(a)})
		}
		got, err := acd.MAC([2]byte{0x0a, 0x1b}, addrs)
		if got.String() != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q: got %s and %v, want %s", test.addrs, got, err, test.want)
		}
	}
}

// TestConflictText names the address, the interface and the hardware address.
func TestConflictText(t *testing.T) {
	for _, test := range []struct {
		c    acd.Conflict
		want string
	}{
		{acd.Conflict{Addr: pod4, Link: "eth0", MAC: otherMAC}, "10.10.20.50 of eth0: address conflict: another machine on the wire has it, hardware address 0a:00:00:00:02:01"},
		{acd.Conflict{Addr: pod6, Link: "net1"}, "fd20::50 of net1: address conflict: another machine on the wire has it, hardware address unknown"},
		{acd.Conflict{Addr: pod4, Link: "eth0", MAC: otherMAC, Local: "enp1s0 of the node"}, "10.10.20.50 of eth0: address conflict: enp1s0 of the node has it, hardware address 0a:00:00:00:02:01"},
		{acd.Conflict{Addr: pod4, Link: "eth0", Local: "the node"}, "10.10.20.50 of eth0: address conflict: the node has it, hardware address unknown"},
	} {
		if got := test.c.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// BenchmarkCheck is what a Check costs beside the time to listen, which is a millisecond here.
func BenchmarkCheck(b *testing.B) {
	for _, count := range []int{1, 4} {
		b.Run(fmt.Sprintf("%d-addresses", count), func(b *testing.B) {
			w := newWorld(b, onMacvlan)
			for i := range count {
				add(b, w.pod, netip.MustParseAddr(fmt.Sprintf("10.10.20.%d", 50+i)), "eth0")
			}
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				must(b, w.check(acd.Options{Interval: time.Millisecond, Retries: 1}))
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkAnnounce compares arping, which Announce uses for IPv4, with the kernel's own announcements.
func BenchmarkAnnounce(b *testing.B) {
	for _, by := range []string{"arping", "kernel"} {
		b.Run(by, func(b *testing.B) {
			w := newWorld(b, onMacvlan)
			add(b, w.pod, pod4, "eth0")
			addrs, err := w.podNS.UsableAddresses(w.eth0)
			must(b, err)
			before := cpu(b)
			for b.Loop() {
				if by == "kernel" {
					must(b, w.podNS.Announce(w.eth0, addrs))
				} else {
					must(b, acd.Announce(w.eth0, addrs))
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestManyAddresses: more than a jump of the filter reaches over, and the last of each family is taken.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onMacvlan)
	var lines []string
	for i := range 300 {
		lines = append(lines, fmt.Sprintf("addr add 10.10.%d.%d/16 dev eth0", 30+i/100, i%100), fmt.Sprintf("addr add fd20::1:%x/64 dev eth0", i))
	}
	must(t, w.pod.IP(lines...))
	must(t, w.check(quick))
	for _, last := range []string{"10.10.32.99", "fd20::1:12b"} {
		addr := netip.MustParseAddr(last)
		add(t, w.other, addr, "eth0")
		err := w.check(patient)
		if c, ok := errors.AsType[*acd.Conflict](err); !ok || c.Addr != addr {
			t.Errorf("got %v, want a conflict for %s", err, addr)
		}
		del(t, w.other, addr, "eth0")
	}
}

// TestFlood: what does not name an address of ours never reaches us, and a conflict is found in it.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onMacvlan)
	add(t, w.pod, pod4, "eth0")
	add(t, w.pod, pod6, "eth0")
	p := openPort(t, w.other, "eth0")
	sent := 0
	flood := arp(1, otherMAC, netip.MustParseAddr("10.10.20.201"), broadcast, netip.MustParseAddr("10.10.20.1"))
	stop := repeat(func() {
		_ = p.send(flood)
		sent++
	})
	o := acd.Options{Interval: 100 * time.Millisecond, Retries: 3}
	must(t, w.check(o))
	add(t, w.third, pod4, "eth0")
	if err := w.check(o); !errors.As(err, new(*acd.Conflict)) {
		t.Errorf("got %v", err)
	}
	stop()
	t.Logf("%d frames", sent)
}
