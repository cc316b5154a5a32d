package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// A Sysctl is one value below /proc/sys/net, which belongs to the network namespace of the thread that
// opens it.
type Sysctl struct {
	NS    *Namespace
	Key   string // with slashes, since interface names may hold dots: net/ipv4/conf/eth0.100/rp_filter
	Value string

	before string
}

// String is the line of sysctl(8), which takes slashes too.
func (s *Sysctl) String() string { return s.NS.line("sysctl -w %s=%s", s.Key, s.Value) }

// Apply writes the value where it differs. The error is fs.ErrNotExist, in the sense of errors.Is, when
// the kernel or the interface has no such key.
func (s *Sysctl) Apply() error {
	return s.NS.Do(func() error {
		fd, err := openSysctl(s.Key, unix.O_RDWR)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		got, err := readSysctl(fd, s.Key)
		if err != nil || got == s.Value {
			return err
		}
		if err := writeSysctl(fd, s.Key, s.Value); err != nil {
			return err
		}
		s.before = got
		return nil
	})
}

// Verify tells whether the kernel has the value.
func (s *Sysctl) Verify() error {
	got, err := s.NS.Sysctl(s.Key)
	if err == nil && got != s.Value {
		err = fmt.Errorf("sysctl %s is %s, not %s", s.Key, got, s.Value)
	}
	return err
}

// Revert writes the earlier value back if Apply changed it. It is no error if the key is gone, with
// the interface that it was about.
func (s *Sysctl) Revert() error {
	if s.before == "" {
		return nil
	}
	return s.NS.Do(func() error {
		fd, err := openSysctl(s.Key, unix.O_WRONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return writeSysctl(fd, s.Key, s.before)
	})
}

// Sysctl reads one value below /proc/sys, by its key with slashes. The error is fs.ErrNotExist, in the
// sense of errors.Is, when there is no such key.
func (n *Namespace) Sysctl(key string) (value string, err error) {
	err = n.Do(func() error {
		fd, err := openSysctl(key, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		value, err = readSysctl(fd, key)
		return err
	})
	return value, err
}

// These three are package os without its poller: procfs says that sysctls can be polled, and to register
// each of them would take longer than to read it.

func openSysctl(key string, mode int) (int, error) {
	fd, err := unix.Open("/proc/sys/"+key, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open sysctl %s: %w", key, err)
	}
	return fd, nil
}

func readSysctl(fd int, key string) (string, error) {
	var buf [256]byte
	n, err := unix.Pread(fd, buf[:], 0)
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

func writeSysctl(fd int, key, value string) error {
	if _, err := unix.Pwrite(fd, []byte(value), 0); err != nil {
		return fmt.Errorf("write sysctl %s=%s: %w", key, value, err)
	}
	return nil
}
