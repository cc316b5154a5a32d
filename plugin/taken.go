package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// OfRoute begins the altname by which an interface of the node says that a route to an address is an attachment's, of router:
// route.16bc4837.5d0f2e6d.500.10.10.30.53, with "-" for ":".
const OfRoute = "route."

// InAltName is how an address stands in an altname: the name of an interface has no colon.
func InAltName(addr netip.Addr) string { return strings.ReplaceAll(addr.String(), ":", "-") }

// Free makes sure that none of the addresses is one that another attachment of ours has, by an interface of the node other than
// this one: two networks over one range, or a thief. The error has CodeConflict and names the other. What is provably dead holds
// nothing: an attachment without a process in its pod. That is asked only where there is a conflict. It costs one question an
// address, however many pods there are. Only an ADD asks.
func (r *Request) Free(by *routing.Link, addrs []netip.Addr) error {
	if r.Verb != "ADD" {
		return nil
	}
	for _, addr := range addrs {
		way, err := r.Node.RouteGet(routing.Query{To: addr})
		if unreachable(err) || err == nil && (way.Local || way.Dev == by.Name) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at the node: %w", err)
		}
		link, err := r.Node.Link(way.Dev).Attrs()
		if errors.Is(err, routing.ErrNoLink) {
			continue // gone since
		}
		if err != nil {
			return fmt.Errorf("look at the node: %w", err)
		}
		holder := holder(link, addr)
		if holder == "" {
			continue
		}
		lives, err := inhabited(r.Node, link.NSID)
		if err != nil {
			return fmt.Errorf("look for the processes of a pod: %w", err)
		}
		if lives {
			return Errorf(CodeConflict, "prevResult.ips: %s: %s has this address; accepted: an address that no other pod of the node has (two networks over one range give it twice)", addr, holder)
		}
	}
	return nil
}

// unreachable tells the errors of a node without a route, or with one that says no (net/ipv4/fib_semantics.c, fib_props).
func unreachable(err error) bool {
	for _, errno := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ESRCH, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// holder names the attachment of ours that has an address by an interface of the node; empty if that is none of ours.
func holder(l *routing.LinkAttrs, addr netip.Addr) string {
	if parts := strings.Split(l.Alias, "/"); IsHostEnd(l.Name) && l.Kind == "veth" && len(parts) == 3 {
		return fmt.Sprintf("network %q, container %q, interface %q (%s)", parts[0], parts[1], parts[2], l.Name)
	}
	text := "." + InAltName(addr)
	for _, name := range l.AltNames {
		if key, is := strings.CutPrefix(name, OfRoute); is && strings.HasSuffix(name, text) && len(key) > 18 {
			return fmt.Sprintf("network %s, container %s by their numbers (`underlayctl diagnose` tells the names), interface %s", key[:8], key[9:17], l.Name)
		}
	}
	return ""
}

// inhabited tells whether a process is in the network namespace that the node has a number for. The processes are those that
// /proc shows.
func inhabited(node *routing.Namespace, id int) (bool, error) {
	if id < 0 {
		return false, nil
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return false, err
	}
	var seen []uint64
	for _, path := range all {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			continue // of somebody with more rights than the node's root: no pod's (ptrace(2), access mode checking)
		}
		if err != nil {
			return false, &os.PathError{Op: "open", Path: path, Err: err}
		}
		is, err := numbered(node, fd, id, &seen)
		_ = unix.Close(fd)
		if is || err != nil {
			return is, err
		}
	}
	return false, nil
}

// numbered tells whether the node's number of a namespace is id, and asks once for each.
func numbered(node *routing.Namespace, fd, id int, seen *[]uint64) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return false, err
	}
	if slices.Contains(*seen, stat.Ino) {
		return false, nil
	}
	*seen = append(*seen, stat.Ino)
	got, err := node.NSID(fd)
	return got == id, err
}
