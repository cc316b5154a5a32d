package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Trace sees every packet that enters or leaves a machine by any of its interfaces, from the moment it was opened.
type Trace struct {
	machine *Namespace
	file    *os.File
	names   map[int]string // interfaces by index
	seen    []Packet
}

// A Packet is one line of a trace.
type Packet struct {
	Interface string
	Out       bool // it leaves the machine
	Proto     Proto
	Src, Dst  netip.Addr
	SrcPort   uint16 // with TCP and UDP
	DstPort   uint16
}

// String is like a line of tcpdump(8).
func (p Packet) String() string {
	way := "In"
	if p.Out {
		way = "Out"
	}
	if p.SrcPort == 0 {
		return fmt.Sprintf("%s %s %s %s > %s", p.Interface, way, p.Proto, p.Src, p.Dst)
	}
	return fmt.Sprintf("%s %s %s %s > %s", p.Interface, way, p.Proto,
		netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort))
}

// Trace starts one. The caller closes it.
func (n *Namespace) Trace() (*Trace, error) {
	t := &Trace{machine: n, names: map[int]string{}}
	err := n.Do(func() error {
		interfaces, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range interfaces {
			t.names[i.Index] = i.Name
		}
		const allProtocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, allProtocols)
		if err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		t.file = os.NewFile(uintptr(fd), "packets of "+n.Name)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return errors.Join(fmt.Errorf("widen a packet socket: %w", err), t.file.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the trace. The kernel takes some 10 ms to take the socket away, for which nobody has to wait.
func (t *Trace) Close() { go t.file.Close() }

// Await waits until there is a packet that matches, among those that have been and those to come.
func (t *Trace) Await(match func(Packet) bool) (Packet, error) {
	if p, ok := t.Find(match); ok {
		return p, nil
	}
	if err := t.file.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return Packet{}, fmt.Errorf("trace %s: %w", t.machine.Name, err)
	}
	for {
		p, err := t.next(true)
		if err != nil {
			return Packet{}, fmt.Errorf("trace %s: no such packet among %v: %w", t.machine.Name, t.seen, err)
		}
		if match(p) {
			return p, nil
		}
	}
}

// Find looks for a packet that matches among those that have been.
func (t *Trace) Find(match func(Packet) bool) (Packet, bool) {
	_ = t.file.SetReadDeadline(time.Time{}) // can only fail on a closed file, and then next does too
	for {
		if _, err := t.next(false); err != nil {
			break
		}
	}
	for _, p := range t.seen {
		if match(p) {
			return p, true
		}
	}
	return Packet{}, false
}

// next reads one packet of IPv4 or IPv6, and may wait for it.
func (t *Trace) next(wait bool) (Packet, error) {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return Packet{}, fmt.Errorf("read a packet: %w", err)
	}
	buf := make([]byte, 128)
	for {
		var (
			size int
			from unix.Sockaddr
			fail error
		)
		err := raw.Read(func(fd uintptr) bool {
			size, from, fail = unix.Recvfrom(int(fd), buf, 0)
			return !wait || !errors.Is(fail, unix.EAGAIN)
		})
		if err := errors.Join(err, fail); err != nil {
			return Packet{}, fmt.Errorf("read a packet: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		if p, ok := parsePacket(buf[:size]); ok {
			p.Interface, p.Out = t.names[link.Ifindex], link.Pkttype == unix.PACKET_OUTGOING
			t.seen = append(t.seen, p)
			return p, nil
		}
	}
}

var protoNames = map[byte]Proto{unix.IPPROTO_TCP: TCP, unix.IPPROTO_UDP: UDP, unix.IPPROTO_ICMP: ICMP, unix.IPPROTO_ICMPV6: ICMP}

func parsePacket(b []byte) (Packet, bool) {
	var (
		p     Packet
		proto byte
	)
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		proto = b[9]
		p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[min(len(b), int(b[0]&0xf)*4):]
	case len(b) >= 40 && b[0]>>4 == 6:
		proto = b[6]
		p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return p, false
	}
	p.Proto = protoNames[proto]
	if (p.Proto == TCP || p.Proto == UDP) && len(b) >= 4 {
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	return p, p.Proto != ""
}
