// Package routing changes the links, addresses, neighbours, routes, rules and sysctls of one network
// namespace. Its words are those of ip(8): every value with a String method is one line that an
// operator could type, and knows how to make itself true (Apply), how to tell whether it is true
// (Verify) and how to take itself back (Revert).
//
// The package knows neither CNI nor the firewall. Look-ups are by name, by index or filtered in the
// kernel. What lists all links, addresses or rules of a namespace says so, and grows on a node with its
// pods: Links, InGroup, OtherInetConfs, Rules, and Addresses without an interface.
package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
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

	kept    map[family][]rule // see KeepRules
	sysctls map[string]int    // directories below /proc/sys that openSysctl has looked up
}

// Self opens the network namespace of the calling process: the node's, for a CNI plugin.
func Self() (*Namespace, error) {
	fd, err := netns.GetFromPath("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open /proc/self/ns/net: %w", err)
	}
	return open("", fd, fd)
}

// Open opens the network namespace at path, an nsfs file (see network_namespaces(7)). The error is
// fs.ErrNotExist, in the sense of errors.Is, when nothing is there, and ErrNoNamespace when something else
// is: a file that has lost its mount, or a namespace of another kind.
func (n *Namespace) Open(path string) (*Namespace, error) {
	// What is no namespace is not opened: a FIFO would wait for who writes into it, and a device may do something.
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, fmt.Errorf("open %s: %w", path, ErrNoNamespace)
	}
	f, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	fd := netns.NsHandle(f)
	if err := isNetns(f); err != nil {
		_ = fd.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return open(path, fd, n.fd)
}

// isNetns tells a network namespace from other files, for which the error is ErrNoNamespace, before setns(2) says only EINVAL.
// Before Linux 4.11 the kind of a namespace cannot be asked for.
func isNetns(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return ErrNoNamespace
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	switch {
	case errors.Is(err, unix.ENOTTY):
		return nil
	case err == nil && kind != unix.CLONE_NEWNET:
		return ErrNoNamespace
	}
	return err
}

func open(path string, fd, self netns.NsHandle) (*Namespace, error) {
	n := &Namespace{Path: path, fd: fd, self: self, sysctls: map[string]int{}}
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

// ErrNoNamespace is returned for a path that exists but is not a network namespace.
var ErrNoNamespace = errors.New("not a network namespace")

// Close releases the socket and the file descriptor. The namespace itself lives on as long as somebody
// else holds it.
func (n *Namespace) Close() {
	n.conn.close()
	for _, dir := range n.sysctls {
		_ = unix.Close(dir)
	}
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

// gone is what the absence of an object says when it is verified: nil where the kernel has been asked and has answered that the
// object is not there, or that its interface is not, which has taken it along. Any other error is no answer.
func gone(there bool, err error, still string, args ...any) error {
	switch {
	case errors.Is(err, ErrNoLink):
		return nil
	case err == nil && there:
		return fmt.Errorf(still, args...)
	}
	return err
}

// String is the path, or "node" for the process's own namespace.
func (n *Namespace) String() string {
	if n.Path == "" {
		return "node"
	}
	return n.Path
}

// Command prefixes a command so that it can be typed on the node whichever namespace it is meant for.
func (n *Namespace) Command(line string) string {
	if n.Path == "" {
		return line
	}
	return "nsenter --net=" + quote.Sh(n.Path) + " " + line
}

func (n *Namespace) line(format string, args ...any) string {
	return n.Command(fmt.Sprintf(format, args...))
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
