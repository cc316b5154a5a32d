package faults

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Change is one call by which a process changes the kernel: a request to rtnetlink(7), a transaction of nf_tables, a
// table of iptables-legacy, or a value below /proc/sys.
type Change struct {
	What string // "rtnetlink RTM_NEWRULE", "nf_tables", "iptables-legacy", "sysctl net/ipv4/conf/all/rp_filter"
	By   string // the program
}

// String is both.
func (c Change) String() string { return c.By + ": " + c.What }

// Answered tells whether the kernel answers by a message, which can get lost, and not by what the call returns.
func (c Change) Answered() bool {
	return c.What == "nf_tables" || c.What == "announcement" || strings.HasPrefix(c.What, "rtnetlink")
}

// identify tells whether a system call is a change. It reads the memory of the stopped thread.
func identify(tid int, regs *unix.PtraceRegs) (Change, bool) {
	what := ""
	switch regs.Orig_rax {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_SENDTO:
		what = written(tid, regs.Rdi, regs.Rsi, regs.Rdx)
	case unix.SYS_SENDMSG:
		// struct msghdr: the name and its length, then the vector and its length; struct iovec: base and length.
		header := peek(tid, regs.Rsi, 32)
		if vector := peek(tid, word(header, 16), 16); len(vector) == 16 {
			what = written(tid, regs.Rdi, word(vector, 0), word(vector, 8))
		}
	case unix.SYS_SETSOCKOPT:
		const replace = 64 // IPT_SO_SET_REPLACE, IP6T_SO_SET_REPLACE
		if (regs.Rsi == unix.SOL_IP || regs.Rsi == unix.SOL_IPV6) && regs.Rdx == replace {
			what = "iptables-legacy"
		}
	}
	if what == "" {
		return Change{}, false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", tid))
	if err != nil {
		exe = "?"
	}
	return Change{what, filepath.Base(exe)}, true
}

// written says what bytes mean that are sent to a file, if they change anything.
func written(tid int, fd, base, size uint64) string {
	file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	if err != nil {
		return ""
	}
	if key, ok := strings.CutPrefix(file, "/proc/sys/"); ok {
		return "sysctl " + key
	}
	if !strings.HasPrefix(file, "socket:") {
		return ""
	}
	switch protocol(tid, fd) {
	case unix.NETLINK_ROUTE:
		return routeChange(peek(tid, base, min(size, 32)))
	case unix.NETLINK_NETFILTER:
		// A transaction begins with NFNL_MSG_BATCH_BEGIN; what does not is a question.
		if m := peek(tid, base, min(size, 16)); len(m) == 16 && binary.NativeEndian.Uint16(m[4:]) == 16 {
			return "nf_tables"
		}
	}
	return ""
}

// protocol is that of a netlink socket of another process, -1 for any other socket.
func protocol(tid int, fd uint64) int {
	process, err := unix.PidfdOpen(group(tid), 0)
	if err != nil {
		return -1
	}
	defer unix.Close(process)
	socket, err := unix.PidfdGetfd(process, int(fd), 0)
	if err != nil {
		return -1
	}
	defer unix.Close(socket)
	domain, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_NETLINK {
		return -1
	}
	p, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return -1
	}
	return p
}

// routeChange names a request that is no question. Messages come in fours: new, delete, get, set.
func routeChange(m []byte) string {
	if len(m) < unix.SizeofNlMsghdr {
		return ""
	}
	kind := binary.NativeEndian.Uint16(m[4:])
	verb := kind % 4
	if kind < unix.RTM_BASE || verb == 2 {
		return ""
	}
	object, ok := map[uint16]string{
		unix.RTM_NEWLINK: "LINK", unix.RTM_NEWADDR: "ADDR", unix.RTM_NEWROUTE: "ROUTE", unix.RTM_NEWNEIGH: "NEIGH", unix.RTM_NEWRULE: "RULE",
		unix.RTM_NEWLINKPROP: "LINKPROP",
	}[kind-verb]
	if !ok {
		object = fmt.Sprint(kind - verb)
	}
	// The ARP announcement: a neighbour to be probed (struct ndmsg is family, padding, index, state).
	if kind == unix.RTM_NEWNEIGH && len(m) >= unix.SizeofNlMsghdr+10 && binary.NativeEndian.Uint16(m[unix.SizeofNlMsghdr+8:]) == unix.NUD_PROBE {
		return "announcement"
	}
	return "rtnetlink RTM_" + [...]string{"NEW", "DEL", "GET", "SET"}[verb] + object
}

// peek reads memory of a stopped thread; nothing where there is none.
func peek(tid int, from, size uint64) []byte {
	b := make([]byte, size)
	if n, err := unix.PtracePeekData(tid, uintptr(from), b); err != nil || n != len(b) {
		return nil
	}
	return b
}

func word(b []byte, at int) uint64 {
	if len(b) < at+8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b[at:])
}
