package lab

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// A thread is an operating system thread that nobody else uses, with namespaces of its own. They go when it ends.
type thread struct{ calls chan func() }

// newThread starts one and runs setup on it.
func newThread(setup func() error) (*thread, error) {
	t := &thread{calls: make(chan func())}
	go t.serve()
	if err := t.do(setup); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// The first thread of a process cannot end, and /proc/<pid> shows its namespaces: nobody but the first goroutine has it, and who
// imports this package keeps from entering namespaces on that.
func init() { runtime.LockOSThread() }

// serve stays locked for good, so that the thread ends with the goroutine.
func (t *thread) serve() {
	runtime.LockOSThread()
	for call := range t.calls {
		call()
	}
}

func (t *thread) do(f func() error) error {
	done := make(chan error)
	t.calls <- func() { done <- f() }
	return <-done
}

func (t *thread) close() { close(t.calls) }

// in runs f on a thread whose network namespace is the one of the file.
func in(ns int, f func() error) error {
	return elsewhere(func() error { return unix.Setns(ns, unix.CLONE_NEWNET) }, f)
}

// elsewhere runs f on a thread that has moved to another network namespace, and brings the thread back.
func elsewhere(move, f func() error) error {
	runtime.LockOSThread()
	home, err := openCurrent()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(home)
	if err := move(); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	// A thread that cannot come home stays locked, and ends with its goroutine.
	defer func() {
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// openCurrent opens the network namespace of the calling thread.
func openCurrent() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the network namespace of this thread: %w", err)
	}
	return fd, nil
}
