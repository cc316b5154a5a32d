package acd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// A socket is a packet socket (packet(7)) on one interface. It hears what names one of some addresses: the rest of a
// busy wire is dropped by a filter in the kernel, before anything is copied. Closing it costs an RCU grace
// period, 8 to 16 ms.
type socket struct {
	fd    int
	index int
	buf   [2048]byte // longer than any packet that claims an address
}

// listen opens the socket on the interface of that index.
func listen(ns *routing.Namespace, index int, addrs []netip.Addr) (*socket, error) {
	s := &socket{fd: -1, index: index}
	err := ns.Do(func() (err error) {
		// Without a protocol it hears nothing until it is bound, and by then it has its filter.
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err == nil {
		code, protocol := filter(addrs)
		_ = unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) // Linux 4.20: spares us our own
		err = errors.Join(
			unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}),
			unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: bigEndian(protocol), Ifindex: index}),
		)
	}
	for _, a := range addrs {
		if err == nil && a.Is6() {
			err = s.join(a)
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return s, nil
}

// join hears the group to which others send their probes for an address, until the socket is closed. The kernel joins
// it as well, for an address of its own, but a moment after the address has been added.
func (s *socket) join(addr netip.Addr) error {
	group := probe(addr, nil).destination()
	return unix.SetsockoptPacketMreq(s.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{
		Ifindex: int32(s.index), Type: unix.PACKET_MR_MULTICAST, Alen: macSize, Address: group,
	})
}

func (s *socket) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
}

func (s *socket) send(f frame) error {
	return unix.Sendto(s.fd, f.packet, 0, &unix.SockaddrLinklayer{
		Protocol: bigEndian(f.protocol), Ifindex: s.index, Halen: macSize, Addr: f.destination(),
	})
}

// receive is the next frame, if one has come. It is valid until the next call.
func (s *socket) receive() (f frame, ok bool, err error) {
	n, from, err := unix.Recvfrom(s.fd, s.buf[:], 0)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return frame{}, false, nil
	case err != nil:
		return frame{}, false, err
	}
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || ll.Halen != macSize {
		return frame{}, true, nil // no claim in it
	}
	return frame{
		protocol:  bigEndian(ll.Protocol),
		from:      net.HardwareAddr(ll.Addr[:macSize]),
		broadcast: ll.Pkttype == unix.PACKET_BROADCAST,
		packet:    s.buf[:n],
	}, true, nil
}

// wait returns when a frame has come, and after the time at the latest; or earlier, for a signal.
func (s *socket) wait(d time.Duration) error {
	ms := (max(d, 0) + time.Millisecond - 1) / time.Millisecond
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(ms))
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// filter passes ARP packets with one of the addresses as sender or target, and neighbour solicitations and
// advertisements with the last four bytes of one as source or target: claims looks closer. The protocol is that of
// the packets to look at.
func filter(addrs []netip.Addr) (code []unix.SockFilter, protocol uint16) {
	var v4, v6 []uint32
	for _, a := range addrs {
		if b := a.AsSlice(); a.Is4() {
			v4 = append(v4, binary.BigEndian.Uint32(b))
		} else {
			v6 = append(v6, binary.BigEndian.Uint32(b[12:]))
		}
	}
	switch {
	case len(v6) == 0:
		protocol = unix.ETH_P_ARP
	case len(v4) == 0:
		protocol = unix.ETH_P_IPV6
	default:
		protocol = unix.ETH_P_ALL
	}

	const (
		load      = unix.BPF_LD | unix.BPF_ABS
		jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ancillary = 0xfffff000 // SKF_AD_OFF of linux/filter.h: what is not in the packet; 0 of it is its protocol
	)
	drop := unix.SockFilter{Code: unix.BPF_RET}
	pass := unix.SockFilter{Code: unix.BPF_RET, K: 0xffffffff}
	add := func(ops ...unix.SockFilter) { code = append(code, ops...) }
	// One of the values at one of the offsets passes. A jump is over no more than 255, so there are none that far.
	passIf := func(values []uint32, offsets ...uint32) {
		for _, at := range offsets {
			add(unix.SockFilter{Code: load | unix.BPF_W, K: at})
			for _, v := range values {
				add(unix.SockFilter{Code: jumpEqual, K: v, Jf: 1}, pass)
			}
		}
		add(drop)
	}
	arp := uint32(2*(1+2*len(v4)) + 1) // the length of the first part
	add(unix.SockFilter{Code: load | unix.BPF_H, K: ancillary},
		unix.SockFilter{Code: jumpEqual, K: unix.ETH_P_ARP, Jt: 1},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: arp})
	passIf(v4, 14, 24)
	add(unix.SockFilter{Code: jumpEqual, K: unix.ETH_P_IPV6, Jt: 1}, drop,
		unix.SockFilter{Code: load | unix.BPF_B, K: 6},
		unix.SockFilter{Code: jumpEqual, K: unix.IPPROTO_ICMPV6, Jt: 1}, drop,
		unix.SockFilter{Code: load | unix.BPF_B, K: ip6Size},
		unix.SockFilter{Code: jumpEqual, K: ndSolicitation, Jt: 2},
		unix.SockFilter{Code: jumpEqual, K: ndAdvertisement, Jt: 1}, drop)
	passIf(v6, 20, ip6Size+20)
	return code, protocol
}

// bigEndian turns a number into network byte order, or back.
func bigEndian(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
