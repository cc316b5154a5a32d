package acd_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin/acd"
	"underlay-cni/routing"
)

var (
	pod4 = netip.MustParseAddr("10.10.20.50")
	pod6 = netip.MustParseAddr("fd20::50")

	podMAC   = net.HardwareAddr{0x0a, 0, 0, 0, 0, 0x50}
	otherMAC = net.HardwareAddr{0x0a, 0, 0, 0, 2, 0x01}

	// quick is for a wire on which an answer takes microseconds.
	quick = acd.Options{Interval: 20 * time.Millisecond, Retries: 3}
	// patient is for a machine that has much else to do; who has found a conflict does not wait any longer.
	patient = acd.Options{Interval: 250 * time.Millisecond, Retries: 3}
)

// A world is a wire, a bridge, with a node and two machines on it:
//
//	br0 ──┬── enp1s0 of the node: 10.10.20.152, fd20::152 ── eth0 of the pod, a macvlan in bridge mode
//	      ├── eth0 of the other: 10.10.20.201, fd20::201
//	      └── eth0 of the third: 10.10.20.202, fd20::202
//
// The pod has no address yet. Its kernel detects no duplicates until a test tells it to.
type world struct {
	wire, node, pod, other, third *lab.Namespace
	nodeNS, podNS                 *routing.Namespace
	eth0                          *routing.Link
}

// onMacvlan is what makes eth0 of the pod; onWire is eth0 on the bridge itself, as a VF would be, with nobody
// between them who knows the pod's frames when they come back.
const (
	onMacvlan = "macvlan"
	onWire    = "wire"
)

func newWorld(tb testing.TB, kind string) *world {
	tb.Helper()
	w := new(world)
	for _, m := range []struct {
		ns   **lab.Namespace
		name string
	}{{&w.wire, "wire"}, {&w.node, "node"}, {&w.pod, "pod"}, {&w.other, "other"}, {&w.third, "third"}} {
		ns, err := lab.NewNamespace(m.name)
		must(tb, err)
		tb.Cleanup(func() { _ = ns.Close() })
		*m.ns = ns
	}
	must(tb, w.wire.IP("link add br0 up type bridge"))
	w.plug(tb, w.node, "enp1s0", "0a:00:00:00:01:52", "10.10.20.152/24", "fd20::152/64")
	w.plug(tb, w.other, "eth0", otherMAC.String(), "10.10.20.201/24", "fd20::201/64")
	w.plug(tb, w.third, "eth0", "0a:00:00:00:02:02", "10.10.20.202/24", "fd20::202/64")
	if kind == onMacvlan {
		must(tb, w.node.IP(fmt.Sprintf("link add link enp1s0 name eth0 netns %s address %s type macvlan mode bridge", w.pod.Path(), podMAC)))
		must(tb, w.pod.IP("link set eth0 up"))
	} else {
		w.plug(tb, w.pod, "eth0", podMAC.String())
	}
	self, err := routing.Self()
	must(tb, err)
	tb.Cleanup(self.Close)
	for _, m := range []struct {
		ns   **routing.Namespace
		path string
	}{{&w.nodeNS, w.node.Path()}, {&w.podNS, w.pod.Path()}} {
		*m.ns, err = self.Open(m.path)
		must(tb, err)
		tb.Cleanup((*m.ns).Close)
	}
	w.eth0 = w.podNS.Link("eth0")
	w.awaitWire(tb)
	return w
}

// awaitWire waits until frames pass between the other machine and each one else, both ways. `ip link set up` returns before
// that: the kernel's linkwatch gives a device its queue some time after it has got a carrier, and what is sent before is
// lost, which a test that waits for the only probe cannot make up for.
func (w *world) awaitWire(tb testing.TB) {
	tb.Helper()
	other := openPort(tb, w.other, "eth0")
	defer other.close()
	for _, m := range []struct {
		ns  *lab.Namespace
		dev string
	}{{w.node, "enp1s0"}, {w.pod, "eth0"}, {w.third, "eth0"}} {
		p := openPort(tb, m.ns, m.dev)
		for _, way := range []struct {
			name     string
			from, to *port
		}{{"from " + m.ns.Name, p, other}, {"to " + m.ns.Name, other, p}} {
			// Of an EtherType for experiments (IEEE 802), so that no kernel answers.
			frame := append(bytes.Repeat([]byte{0xff}, 6), 0x02, 0, 0, 0, 0x88, 0xb5, 0x88, 0xb5)
			frame = append(frame, make([]byte, 46)...)
			copy(frame[14:], way.name)
			await(tb, "the wire to carry "+way.name, func() bool {
				_ = way.from.send(frame) // an error as long as there is no queue
				return bytes.Equal(way.to.hear(), frame)
			})
		}
		p.close()
	}
}

// plug puts a machine on the wire.
func (w *world) plug(tb testing.TB, m *lab.Namespace, dev, mac string, addrs ...string) {
	tb.Helper()
	must(tb, w.wire.IP(
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %s", m.Name, dev, mac, m.Path()),
		fmt.Sprintf("link set %s master br0 up", m.Name),
	))
	must(tb, m.IP("link set "+dev+" up"))
	for _, a := range addrs {
		must(tb, m.IP("addr add "+a+" dev "+dev))
	}
}

// add gives an interface of a machine an address, without a delay in duplicate address detection if there is one.
func add(tb testing.TB, m *lab.Namespace, addr netip.Addr, dev string, flags ...string) {
	tb.Helper()
	line := fmt.Sprintf("addr add %s/%d dev %s", addr, map[bool]int{true: 24, false: 64}[addr.Is4()], dev)
	for _, f := range flags {
		line += " " + f
	}
	must(tb, m.IP(line))
}

func del(tb testing.TB, m *lab.Namespace, addr netip.Addr, dev string) {
	tb.Helper()
	must(tb, m.IP(fmt.Sprintf("addr del %s/%d dev %s", addr, map[bool]int{true: 24, false: 64}[addr.Is4()], dev)))
}

// detect has the kernel detect duplicates on an interface, and begin at once.
func detect(tb testing.TB, m *lab.Namespace, dev string) {
	tb.Helper()
	dir := "net/ipv6/conf/" + dev + "/"
	must(tb, m.Sysctl(map[string]string{dir + "accept_dad": "1", dir + "dad_transmits": "1", dir + "router_solicitation_delay": "0"}))
}

// check is Check of all addresses that eth0 of the pod has.
func (w *world) check(o acd.Options) error {
	addrs, err := w.podNS.Addresses(w.eth0)
	if err != nil {
		return err
	}
	return acd.Check(w.nodeNS, w.eth0, addrs, o)
}

// awaitSettled waits for the kernel's own detection of duplicates.
func (w *world) awaitSettled(tb testing.TB) {
	tb.Helper()
	await(tb, "eth0 to have no tentative address", func() bool {
		addrs, err := w.podNS.Addresses(w.eth0)
		must(tb, err)
		for _, a := range addrs {
			if a.Tentative() && !a.Duplicate() {
				return false
			}
		}
		return len(addrs) > 0
	})
}

// await polls until something is so.
func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	deadline := time.After(10 * time.Second)
	for !so() {
		select {
		case <-deadline:
			tb.Fatal("waited in vain for", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// repeat does something over and over, until stop.
func repeat(f func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// A port is a packet socket of a machine, to hear and to say anything.
type port struct {
	fd, index int
}

func openPort(tb testing.TB, m *lab.Namespace, dev string) *port {
	tb.Helper()
	p := &port{fd: -1}
	must(tb, m.Do(func() error {
		iface, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		p.index = iface.Index
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		tv := unix.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: p.index})
	}))
	tb.Cleanup(p.close)
	return p
}

func (p *port) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

func (p *port) send(frame []byte) error {
	return unix.Sendto(p.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: p.index})
}

// hear returns the next frame, or nil after a tenth of a second.
func (p *port) hear() []byte {
	buf := make([]byte, 2048)
	n, from, err := unix.Recvfrom(p.fd, buf, 0)
	if ll, ok := from.(*unix.SockaddrLinklayer); err != nil || ok && ll.Pkttype == unix.PACKET_OUTGOING {
		return nil
	}
	return buf[:n]
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// neighbours is what a machine knows of others: addresses and hardware addresses, whatever the state.
func neighbours(tb testing.TB, m interface {
	Run(name string, args ...string) (string, error)
},
) string {
	tb.Helper()
	out, err := m.Run("ip", "neigh", "show", "nud", "all")
	must(tb, err)
	var lines []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 4 && f[3] == "lladdr" && !netip.MustParseAddr(f[0]).IsMulticast() {
			lines = append(lines, strings.Join(f[:5], " ")+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// known is the hardware address at which the third machine knows an address.
func (w *world) known(tb testing.TB, addr netip.Addr) string {
	tb.Helper()
	for line := range strings.Lines(neighbours(tb, w.third)) {
		if f := strings.Fields(line); f[0] == addr.String() {
			return f[4]
		}
	}
	return ""
}
