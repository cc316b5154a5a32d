package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Namespace is a network namespace that plays a machine: a node, a pod, a router. It has no name in the file system
// and lives as long as this process holds it open.
type Namespace struct {
	Name string
	Addr Pair

	fd     int
	thread *thread  // starts the programs, where the machine has more than a network of its own
	env    []string // of the programs, beside that of this process
	owned  []io.Closer
}

// NewNamespace makes a machine on no wire, for tests whose machines are others than those of a World.
func NewNamespace(name string) (*Namespace, error) { return newNamespace(name) }

// newNamespace makes one with lo up.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name}
	err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		n.fd, err = openCurrent()
		return err
	})
	if err == nil {
		n.fd = unusual(n.fd)
	}
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	// Duplicate address detection would cost a second for every address, and nobody else is on the wire.
	err = n.Sysctl(map[string]string{
		"net/ipv6/conf/all/accept_dad":        "0",
		"net/ipv6/conf/default/accept_dad":    "0",
		"net/ipv6/conf/default/dad_transmits": "0",
		// IPv4 settings start as those of the machine that runs the lab.
		"net/ipv4/conf/all/rp_filter":          "0",
		"net/ipv4/conf/default/rp_filter":      "0",
		"net/ipv4/conf/all/arp_ignore":         "0",
		"net/ipv4/conf/default/arp_ignore":     "0",
		"net/ipv4/conf/all/src_valid_mark":     "0",
		"net/ipv4/conf/default/src_valid_mark": "0",
		"net/ipv4/ip_forward":                  "0",
	})
	return n, errors.Join(err, n.IP("link set lo up"))
}

var namespaces atomic.Uint32 // made so far

// unusual moves a file to a number that has not been used for long. cnitool makes the container ID of a pod out of its
// path: a pod that takes the number of one that has gone would be taken for it.
func unusual(fd int) int {
	const first, count = 256, 3072
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, first+int(namespaces.Add(1)%count))
	if err != nil { // more than the process may have
		return fd
	}
	_ = unix.Close(fd) // a namespace has nothing to write back
	return moved
}

// Path is the name by which any process of this machine finds the namespace while this one lives.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd) }

// FD is the open file of the namespace. It stays the namespace's.
func (n *Namespace) FD() int { return n.fd }

// Do runs f on a thread in the namespace. A socket that f makes stays there; /proc/sys/net is the namespace's
// while f runs.
func (n *Namespace) Do(f func() error) error {
	if err := in(n.fd, f); err != nil {
		return fmt.Errorf("in %s: %w", n.Name, err)
	}
	return nil
}

// Outsider is the same network namespace for programs that are not the machine's: what it has chosen or lacks is not
// theirs.
func (n *Namespace) Outsider() *Namespace { return &Namespace{Name: n.Name, Addr: n.Addr, fd: n.fd} }

// Close frees the namespace and what was opened in it.
func (n *Namespace) Close() error {
	if n == nil || n.fd < 0 {
		return nil
	}
	var errs []error
	for _, c := range slices.Backward(n.owned) {
		errs = append(errs, c.Close())
	}
	if n.thread != nil {
		n.thread.close()
	}
	errs = append(errs, unix.Close(n.fd))
	n.fd, n.owned, n.thread = -1, nil, nil
	return errors.Join(errs...)
}

// Sysctl writes settings, by path under /proc/sys: names of interfaces may have dots.
func (n *Namespace) Sysctl(settings map[string]string) error {
	return n.Do(func() error {
		for _, name := range slices.Sorted(maps.Keys(settings)) {
			if err := os.WriteFile("/proc/sys/"+name, []byte(settings[name]), 0); err != nil {
				return fmt.Errorf("sysctl %s=%s: %w", name, settings[name], err)
			}
		}
		return nil
	})
}

// runTimeout is more than any program here needs on a busy machine.
var runTimeout = scaled(30 * time.Second)

// Run runs a program on the machine and returns its standard output: "ip route show" is what an operator sees there.
func (n *Namespace) Run(name string, args ...string) (string, error) {
	out, err := n.Exec(exec.Command(name, args...))
	return string(out), err
}

// IP runs lines of ip(8), all in one process.
func (n *Namespace) IP(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if _, err := n.Exec(cmd); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(lines, "; "), err)
	}
	return nil
}

// Exec runs a program on the machine. Its error has what the program wrote on standard error.
func (n *Namespace) Exec(cmd *exec.Cmd) ([]byte, error) {
	start := n.Do
	if n.thread != nil {
		start = n.thread.do
	}
	if len(n.env) > 0 {
		cmd.Env = append(cmd.Environ(), n.env...)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := start(cmd.Start)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait()
		stop()
		cancel()
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		err = fmt.Errorf("%s: %s: %w: %s", n.Name, strings.Join(cmd.Args, " "), err, said)
	}
	return stdout.Bytes(), err
}
