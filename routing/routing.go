// Package routing changes the links, addresses, neighbours, routes, rules and sysctls of one network
// namespace. Its words are those of ip(8): every value with a String method is one line that an
// operator could type, and knows how to make itself true (Apply), how to tell whether it is true
// (Verify) and how to take itself back (Revert).
//
// The package knows neither CNI nor the firewall. It never lists what grows with the number of pods
// on a node: look-ups are by name, by index or filtered in the kernel.
package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// timeout bounds one request to the kernel. The caller of a CNI plugin kills it after minutes; an
// answer that takes seconds means that something holds the kernel's RTNL lock.
const timeout = 10 * time.Second

// A Namespace is one network namespace, opened: a file descriptor that keeps it alive and a netlink socket
// inside it. Different namespaces may be used at the same time, one of them by one goroutine only.
type Namespace struct {
	// Path is how the namespace was named by whoever opened it; empty for the process's own.
	Path string

	fd   netns.NsHandle
	self netns.NsHandle // the process's own namespace, to return to; shared, not owned
	conn *conn
}

// Self opens the network namespace of the calling process: the node's, for a CNI plugin.
func Self() (*Namespace, error) {
	fd, err := netns.GetFromPath("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open /proc/self/ns/net: %w", err)
	}
	return open("", fd, fd)
}

// Open opens the network namespace at path, which must be an nsfs file (see network_namespaces(7)).
// The error is fs.ErrNotExist, in the sense of errors.Is, when nothing is there.
func (n *Namespace) Open(path string) (*Namespace, error) {
	if err := isNamespace(path); err != nil {
		return nil, err
	}
	fd, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return open(path, fd, n.fd)
}

func open(path string, fd, self netns.NsHandle) (*Namespace, error) {
	n := &Namespace{Path: path, fd: fd, self: self}
	err := n.Do(func() (err error) {
		n.conn, err = dial()
		return err
	})
	if err != nil {
		_ = fd.Close()
		return nil, err
	}
	return n, nil
}

// isNamespace tells a namespace file from any other: setns(2) on the wrong file says only EINVAL.
func isNamespace(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("open %s: %w", path, ErrNoNamespace)
	}
	return nil
}

// ErrNoNamespace is returned for a path that exists but is not a network namespace.
var ErrNoNamespace = errors.New("not a network namespace")

// Close releases the socket and the file descriptor. The namespace itself lives on as long as somebody
// else holds it.
func (n *Namespace) Close() {
	n.conn.close()
	_ = n.fd.Close()
}

// FD is the file descriptor of the namespace, for libraries that open sockets of their own in it.
func (n *Namespace) FD() int { return int(n.fd) }

// Same reports whether both are the same network namespace, whatever the paths they were opened by.
func (n *Namespace) Same(other *Namespace) bool { return n.fd.Equal(other.fd) }

// Do runs f on a thread inside the namespace, for what follows the thread and not a socket: /proc/sys/net,
// /sys/class/net and the opening of raw sockets. f must not start goroutines that rely on it.
func (n *Namespace) Do(f func() error) error {
	if n.fd == n.self {
		return f()
	}
	runtime.LockOSThread()
	if err := netns.Set(n.fd); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", n, err)
	}
	err := f()
	if back := netns.Set(n.self); back != nil {
		// The thread stays locked, and so dies with its goroutine: nobody else may run on it.
		return errors.Join(err, fmt.Errorf("leave %s: %w", n, back))
	}
	runtime.UnlockOSThread()
	return err
}

// String is the path, or "node" for the process's own namespace.
func (n *Namespace) String() string {
	if n.Path == "" {
		return "node"
	}
	return n.Path
}

// line prefixes a command so that it can be typed on the node whichever namespace it is meant for.
func (n *Namespace) line(format string, args ...any) string {
	s := fmt.Sprintf(format, args...)
	if n.Path == "" {
		return s
	}
	return "nsenter --net=" + n.Path + " " + s
}

// HasIPv6 reports whether the kernel has IPv6 at all: with ipv6.disable=1 no socket, route or sysctl
// of that family exists. (An interface whose disable_ipv6 is 1 is another matter.)
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// A family is AF_INET or AF_INET6, with the flag that ip(8) takes for it.
type family int

const (
	v4 family = unix.AF_INET
	v6 family = unix.AF_INET6
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// flag is what ip(8) wants to be told for the family.
func (f family) flag() string {
	if f == v6 {
		return "-6 "
	}
	return ""
}
