package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A command is one program to run, with all of its standard input.
type command struct {
	path  string
	args  []string
	env   []string
	stdin []byte
}

// A finished command: what it took and what it said.
type finished struct {
	wall           time.Duration // from before fork to after wait
	stdout, stderr []byte
}

// patience is how long a command may run; what takes longer hangs.
const patience = 30 * time.Second

// A launcher starts commands in one network namespace, one after the other, from a thread of its own. The thread has
// a file table of its own too: fork copies the table and exec closes what is in it, and a thousand open namespaces
// would be timed with every command.
type launcher struct {
	work chan func()
}

// newLauncher starts the thread. Make launchers before pods: what is open now stays open in its table.
func newLauncher(ns namespace) (*launcher, error) {
	l := &launcher{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: nobody else can use this thread
		err := unix.Unshare(unix.CLONE_FILES)
		if err == nil {
			err = unix.Setns(int(ns), unix.CLONE_NEWNET)
		}
		ready <- err
		for f := range l.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("start a launcher: %w", err)
	}
	return l, nil
}

// run runs one command. The error says that it failed, with what it printed.
func (l *launcher) run(c command) (finished, error) {
	var f finished
	var err error
	done := make(chan struct{})
	l.work <- func() {
		f, err = c.run()
		close(done)
	}
	<-done
	if err != nil {
		return f, fmt.Errorf("%s %v: %w\n%s%s", c.path, c.args, err, f.stdout, f.stderr)
	}
	return f, nil
}

// run runs the command on the calling thread. Pipes hold all input and output, so nothing is copied meanwhile.
func (c command) run() (f finished, err error) {
	var in, out, errs [2]int
	for _, p := range []*[2]int{&in, &out, &errs} {
		if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return f, fmt.Errorf("make a pipe: %w", err)
		}
		defer unix.Close(p[0])
	}
	_, err = unix.Write(in[1], c.stdin)
	unix.Close(in[1])
	defer func() {
		unix.Close(out[1])
		unix.Close(errs[1])
		f.stdout, f.stderr = drain(out[0]), drain(errs[0])
	}()
	if err != nil {
		return f, fmt.Errorf("write standard input: %w", err)
	}
	argv := append([]string{c.path}, c.args...)
	attr := &syscall.ProcAttr{Env: c.env, Files: []uintptr{uintptr(in[0]), uintptr(out[1]), uintptr(errs[1])}}

	start := time.Now()
	pid, err := syscall.ForkExec(c.path, argv, attr)
	if err != nil {
		return f, fmt.Errorf("start: %w", err)
	}
	hang := time.AfterFunc(patience, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	var status syscall.WaitStatus
	for {
		_, err = syscall.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	f.wall = time.Since(start)
	hang.Stop()
	switch {
	case err != nil:
		return f, fmt.Errorf("wait: %w", err)
	case status.Signaled():
		return f, fmt.Errorf("killed by %s", status.Signal())
	case status.ExitStatus() != 0:
		return f, fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return f, nil
}

// drain reads what a pipe holds; all writers have closed it.
func drain(fd int) []byte {
	var all bytes.Buffer
	buf := make([]byte, os.Getpagesize())
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return all.Bytes()
		}
		all.Write(buf[:n])
	}
}
