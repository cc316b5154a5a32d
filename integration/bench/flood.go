package main

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The flood: small UDP packets of one flow from the client, through the node, to an address behind its sink.
const (
	floodBatch   = 64
	floodPayload = 18 // makes the smallest Ethernet frame
)

var floodTo = unix.SockaddrInet4{Port: 9, Addr: [4]byte{198, 51, 100, 9}}

// mmsghdr is struct mmsghdr of sendmmsg(2), which x/sys/unix does not have.
type mmsghdr struct {
	unix.Msghdr
	_ uint32 // how much was sent
	_ [4]byte
}

// forward sends as fast as one thread can for so long, and returns how many packets the node sent on in a second of that
// thread's CPU time. The kernel forwards on the sender's time, from socket to sink, so neighbours on the CPU make the
// flood shorter and not slower.
func (n *node) forward(long time.Duration) (float64, error) {
	before, err := n.sunk()
	if err != nil {
		return 0, err
	}
	var cpu time.Duration
	err = n.client.do(func() error {
		start, err := threadTime()
		if err != nil {
			return err
		}
		if err := flood(time.Now().Add(long)); err != nil {
			return err
		}
		end, err := threadTime()
		cpu = end - start
		return err
	})
	if err != nil {
		return 0, err
	}
	after, err := n.sunk()
	if err != nil {
		return 0, err
	}
	if after == before {
		return 0, fmt.Errorf("the node forwarded nothing to %s", sinkInterface)
	}
	return float64(after-before) / cpu.Seconds(), nil
}

// threadTime is the CPU time of the calling thread.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read the CPU time of a thread: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// sunk is how many packets the node has sent into its sink.
func (n *node) sunk() (uint64, error) {
	link, err := n.rt.LinkByName(sinkInterface)
	if err != nil {
		return 0, fmt.Errorf("read the counters of %s: %w", sinkInterface, err)
	}
	return link.Attrs().Statistics.TxPackets, nil
}

// flood sends from the calling thread's namespace until the deadline.
func flood(until time.Time) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	// One source port, so that every round is the same flow.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 40000}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Connect(fd, &floodTo); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var payload [floodPayload]byte
	iov := unix.Iovec{Base: &payload[0], Len: floodPayload}
	var batch [floodBatch]mmsghdr
	for i := range batch {
		batch[i].Iov, batch[i].Iovlen = &iov, 1
	}
	for time.Now().Before(until) {
		_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch)), floodBatch, 0, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.ENOBUFS {
			return fmt.Errorf("sendmmsg: %w", errno)
		}
	}
	return nil
}
