// Package nettest is what the tests of all packages need that touch the kernel: network namespaces without a name, and
// comparisons with what was there before or with golden text. Only tests use it.
package nettest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The first thread of a process is what /proc/self says the process is. Tests lend threads to other network namespaces: nobody but
// the first goroutine, which tests do not run on, has that one.
func init() { runtime.LockOSThread() }

var update = flag.Bool("update", false, "rewrite the golden text in testdata")

// Namespace makes a network namespace that lives as long as the test.
func Namespace(t *testing.T) (path string, fd int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	Must(t, err)
	defer unix.Close(home)
	Must(t, unix.Unshare(unix.CLONE_NEWNET))
	fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	Must(t, err)
	Must(t, unix.Setns(home, unix.CLONE_NEWNET))
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), fd
}

// Within runs f on a thread of the namespace: a process that it starts, or a socket that it opens, is there.
func Within(netns int, f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return back // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// Golden compares with a file of testdata, whose name has a dash for each space, a text that a reader checks by eye.
// With -update it writes it.
func Golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", strings.ReplaceAll(file, " ", "-"))
	if *update {
		Must(t, os.MkdirAll("testdata", 0o750))
		Must(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	Must(t, err)
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s: go test -update writes it (-want +got)\n%s", file, d)
	}
}

// Same compares two lists of lines, or two texts.
func Same[T string | []string](t *testing.T, what string, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got)\n%s", what, d)
	}
}

// Must ends the test with an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
