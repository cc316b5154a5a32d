package routing

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A conn is an rtnetlink socket. The messages are built with package nl of vishvananda/netlink; they are
// sent and received here, because an ADD makes some eighty requests, and over that library's sockets
// (deadlines, the runtime's poller, a buffer of 64 KiB each) half of its time would be theirs. See
// rtnetlink(7).
type conn struct {
	fd  int
	seq uint32
	buf [32 << 10]byte // the kernel makes no larger messages
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	c := &conn{fd: fd}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// Each of these is a help that an old kernel does without: filters in dumps (Linux 4.20, where
	// dumps are filtered again as they are read), and reasons in errors (4.12).
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	return c, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// ErrInterrupted says that objects kept changing while they were being listed.
var ErrInterrupted = errors.New("dump interrupted")

// errNoAnswer says that the kernel has a request and its answer got lost, as it does when there is no memory for it.
var errNoAnswer = errors.New("wait for the kernel")

// done reports whether a request, given its error, has been done or may have been: then it is to be taken back.
func done(err error) bool { return err == nil || errors.Is(err, errNoAnswer) }

// exchange sends one request and passes the answers on until the kernel has finished it: to the end of a
// dump, to the acknowledgement of a change, or to the one object that was asked for.
func (c *conn) exchange(request, flags int, each func([]byte) error, parts ...nl.NetlinkRequestData) error {
	req := nl.NewNetlinkRequest(request, flags)
	for _, p := range parts {
		req.AddData(p)
	}
	c.seq++
	req.Seq = c.seq
	if _, err := unix.Write(c.fd, req.Serialize()); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	var failed error
	interrupted := false
	for {
		n, err := unix.Read(c.fd, c.buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		msgs, err := syscall.ParseNetlinkMessage(c.buf[:n])
		if err != nil {
			return fmt.Errorf("%w: parse the kernel's answer: %w", errNoAnswer, err)
		}
		for _, m := range msgs {
			if m.Header.Seq != c.seq {
				continue // the rest of an answer that timed out
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				switch err := ackError(m); {
				case err != nil:
					return err
				case failed == nil && interrupted:
					return ErrInterrupted
				default:
					return failed
				}
			default:
				if failed == nil && each != nil {
					failed = each(m.Data)
				}
				if flags&(unix.NLM_F_ACK|unix.NLM_F_DUMP) == 0 {
					return failed // the one object that was asked for
				}
			}
		}
	}
}

// ackError is the error of an answer, with the kernel's words where it gives any.
func ackError(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil
	}
	errno := unix.Errno(-int32(uint32Of(m.Data)))
	if errno == 0 {
		return nil
	}
	const header = 4 + unix.SizeofNlMsghdr // struct nlmsgerr, capped: the errno and the request's header
	if m.Header.Flags&unix.NLM_F_ACK_TLVS != 0 && len(m.Data) > header {
		attrs, err := nl.ParseRouteAttr(m.Data[header:])
		for _, a := range attrs {
			if err == nil && a.Attr.Type == unix.NLMSGERR_ATTR_MSG {
				return fmt.Errorf("%w: %s", errno, nl.BytesToString(a.Value))
			}
		}
	}
	return errno
}

// request makes one change.
func (n *Namespace) request(request, flags int, parts ...nl.NetlinkRequestData) error {
	if request == unix.RTM_NEWRULE || request == unix.RTM_DELRULE {
		clear(n.kept)
	}
	return n.conn.exchange(request, flags|unix.NLM_F_ACK, nil, parts...)
}

// get asks for one object. The data is valid until the next request.
func (n *Namespace) get(request int, parts ...nl.NetlinkRequestData) (data []byte, err error) {
	err = n.conn.exchange(request, 0, func(m []byte) error {
		data = m
		return nil
	}, parts...)
	return data, err
}

// dump lists objects of one family, as far as the kernel can filter them by the request. (A kernel without
// IPv6 takes a request for it as one for all families.) A dump that is interrupted by a change is repeated up
// to five times: restart is called before each time, to forget what came.
func (n *Namespace) dump(request int, f family, restart func(), each func([]byte) error, parts ...nl.NetlinkRequestData) error {
	ofFamily := func(m []byte) error {
		if len(m) == 0 || m[0] != byte(f) { // every header begins with it
			return nil
		}
		return each(m)
	}
	var err error
	for range 5 {
		restart()
		err = n.conn.exchange(request, unix.NLM_F_DUMP, ofFamily, parts...)
		if !errors.Is(err, ErrInterrupted) {
			return err
		}
	}
	return err
}

func attr(kind int, data []byte) *nl.RtAttr { return nl.NewRtAttr(kind, data) }

func attr32(kind int, value uint32) *nl.RtAttr { return attr(kind, nl.Uint32Attr(value)) }

func uint32Of(b []byte) uint32 { return native.Uint32(b) }

// native is the byte order of netlink. Package nl finds it out at its first use, without a lock: so that use is
// here, before there are two of them.
var native = nl.NativeEndian()
