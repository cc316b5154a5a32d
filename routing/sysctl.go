package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// The directories of interfaces' sysctls, below which the names of interfaces are.
const (
	V4Conf = "net/ipv4/conf/"
	V6Conf = "net/ipv6/conf/"
)

// Sysctls are values of one directory below /proc/sys/net: net/ipv4/conf/all, or that of an interface.
type Sysctls struct {
	NS     *Namespace
	Dir    string // with slashes, since interface names may hold dots: net/ipv4/conf/eth0.100
	Values []Value
	// Dev is the interface that a Dir below net/ipv6/conf is about. It is asked first, as are net/ipv4/conf/all and default,
	// and files are looked up (see openSysctl) only where it has another value or does not tell. Nil: the files tell.
	Dev *Link
	// Shared keeps Revert from writing back: others may rely on the values meanwhile.
	Shared bool

	changed []Value // as they were before
}

// Inet6Conf are sysctls of one interface in IPv6, given as "disable_ipv6=0". Those of IPv4 are an InetConf.
func Inet6Conf(dev *Link, assignments ...string) *Sysctls {
	return &Sysctls{NS: dev.NS, Dir: V6Conf + dev.Name, Dev: dev, Values: Values(assignments...)}
}

// A Value is what a sysctl has or should have.
type Value struct{ Key, Value string }

// String is the line of sysctl(8), which takes slashes too.
func (s *Sysctls) String() string {
	var line strings.Builder
	line.WriteString("sysctl -w")
	for _, v := range s.Values {
		line.WriteString(" " + quote.Sh(s.Dir+"/"+v.Key+"="+v.Value))
	}
	return s.NS.line("%s", line.String())
}

// Apply writes the values where they differ, in order. The error is fs.ErrNotExist, in the sense of
// errors.Is, when the kernel or the interface has no such key.
func (s *Sysctls) Apply() error {
	return s.each(s.untold(), unix.O_RDWR, func(fd int, want Value) error {
		got, err := readSysctl(fd)
		if err != nil || got == want.Value {
			return err
		}
		s.changed = append(s.changed, Value{want.Key, got})
		return writeSysctl(fd, want.Value)
	})
}

// untold are the values of which rtnetlink does not say that they are so.
func (s *Sysctls) untold() []Value {
	var told func(Value) bool
	which := map[string]int32{V4Conf + "all": netconfAll, V4Conf + "default": netconfDefault}[s.Dir]
	switch {
	case s.Dev != nil:
		attrs, err := s.Dev.Attrs()
		if err != nil {
			return s.Values
		}
		told = attrs.hasInet6
	case which != 0:
		all, err := s.NS.netConf(which)
		if err != nil {
			return s.Values
		}
		told = func(v Value) bool { return slices.Contains(all, v) }
	default:
		return s.Values
	}
	return slices.DeleteFunc(slices.Clone(s.Values), told)
}

// Verify tells which values the kernel has otherwise.
func (s *Sysctls) Verify() error {
	var diffs []error
	err := s.each(s.untold(), unix.O_RDONLY, func(fd int, want Value) error {
		got, err := readSysctl(fd)
		if err == nil && got != want.Value {
			diffs = append(diffs, fmt.Errorf("sysctl %s/%s is %s, not %s", s.Dir, want.Key, got, want.Value))
		}
		return err
	})
	return errors.Join(append(diffs, err)...)
}

// Revert writes back, in reverse, what Apply changed. It is no error if a key is gone, with the interface
// that it was about.
func (s *Sysctls) Revert() error {
	if s.Shared {
		return nil
	}
	slices.Reverse(s.changed)
	err := s.each(s.changed, unix.O_WRONLY, func(fd int, was Value) error { return writeSysctl(fd, was.Value) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// each opens the keys of some values, one after the other.
func (s *Sysctls) each(values []Value, mode int, f func(fd int, v Value) error) error {
	for _, v := range values {
		fd, err := s.NS.openSysctl(s.Dir+"/"+v.Key, mode)
		if err == nil {
			err = f(fd, v)
			_ = unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("sysctl %s/%s: %w", s.Dir, v.Key, err)
		}
	}
	return nil
}

// HasSysctl reports whether the kernel has a key below /proc/sys, given with slashes.
func (n *Namespace) HasSysctl(key string) (bool, error) {
	fd, err := n.openSysctl(key, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sysctl %s: %w", key, err)
	}
	_ = unix.Close(fd)
	return true, nil
}

// Sysctl reads a key below /proc/sys, given with slashes: net/ipv4/conf/eth0.100/rp_filter. The error is
// fs.ErrNotExist, in the sense of errors.Is, when the kernel or the interface has no such key.
func (n *Namespace) Sysctl(key string) (value string, err error) {
	dir, name := path.Split(key)
	s := &Sysctls{NS: n, Dir: strings.TrimSuffix(dir, "/")}
	err = s.each([]Value{{Key: name}}, unix.O_RDONLY, func(fd int, _ Value) error {
		value, err = readSysctl(fd)
		return err
	})
	return value, err
}

// openSysctl opens a key such as net/ipv4/conf/eth0/rp_filter. What is below /proc/sys/net belongs to the
// network namespace of the thread that looks it up; and the kernel keeps the names there of all namespaces
// in one list, so that the look-up of "ipv4" takes longer with every pod of the node. So the directory of
// the first three names is looked up once, and what is in it belongs to its namespace by then.
func (n *Namespace) openSysctl(key string, mode int) (int, error) {
	names := strings.SplitAfterN(key, "/", 4)
	if len(names) < 4 {
		return -1, unix.ENOENT
	}
	parent := strings.Join(names[:3], "")
	dir, ok := n.sysctls[parent]
	if !ok {
		err := n.Do(func() (err error) {
			dir, err = unix.Open("/proc/sys/"+parent, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
		if err != nil {
			return -1, err
		}
		n.sysctls[parent] = dir
	}
	fd, err := unix.Openat(dir, names[3], mode|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EMFILE) && len(n.sysctls) > 1 { // what has to be undone needs one
		for other, fd := range n.sysctls {
			if other != parent {
				_ = unix.Close(fd)
				delete(n.sysctls, other)
			}
		}
		fd, err = unix.Openat(dir, names[3], mode|unix.O_CLOEXEC, 0)
	}
	return fd, err
}

// These two are package os without its poller: procfs says that sysctls can be polled, and to register
// each of them would take longer than to read it.

func readSysctl(fd int) (string, error) {
	var buf [256]byte
	n, err := unix.Pread(fd, buf[:], 0)
	return strings.TrimSpace(string(buf[:max(n, 0)])), err
}

func writeSysctl(fd int, value string) error {
	_, err := unix.Pwrite(fd, []byte(value), 0)
	return err
}

// Values are written as sysctl(8) takes them: key=value.
func Values(assignments ...string) (vs []Value) {
	for _, a := range assignments {
		key, value, _ := strings.Cut(a, "=")
		vs = append(vs, Value{Key: key, Value: value})
	}
	return vs
}
