// Package faults proves what happens when things go wrong: a plugin that is killed after any of its changes, a change
// that the kernel refuses, an answer of the kernel that gets lost, objects that somebody takes away, requests that race.
// It runs the real binaries, as they are shipped, in namespaces, and has no stand-in for any part of the kernel. The
// tests are written for a Subject: a plugin that joins the list in subject.go has all of them.
//
// A Tracer finds a plugin's changes where they enter the kernel, with ptrace(2): so the binary needs no hook. (It reads
// the registers of amd64.)
package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Fault is what happens at one change of a process: to it, or after it.
type Fault int

// The faults.
const (
	None   Fault = iota
	Kill         // the process and its children are killed when the change is done
	Refuse       // the kernel does not get it: there is no memory for it
	Lose         // it is done, but there is no memory for the answer of the kernel
)

// A Command is a process to be traced.
type Command struct {
	Path  string
	Env   []string
	Stdin []byte

	Fault Fault
	At    int  // the number of the change, from 1
	More  bool // and at every later one (Refuse)
}

// An Outcome is what a traced process did.
type Outcome struct {
	Changes        []Change
	Status         syscall.WaitStatus
	Stdout, Stderr string
}

// Trace runs the command on the calling thread, which must be locked to its goroutine, and waits for it and for all
// the processes that it has started.
func Trace(c Command) (*Outcome, error) {
	var files [3]*os.File
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("make a file for %s: %w", name, err)
		}
		files[i] = os.NewFile(uintptr(fd), name)
		defer files[i].Close()
	}
	if _, err := files[0].WriteAt(c.Stdin, 0); err != nil {
		return nil, fmt.Errorf("write standard input: %w", err)
	}
	t := &tracer{Command: c, threads: map[int]*thread{}}
	var err error
	t.main, err = syscall.ForkExec(c.Path, []string{c.Path}, &syscall.ProcAttr{
		Env: c.Env, Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if err := t.run(); err != nil {
		return nil, fmt.Errorf("trace %s: %w", c.Path, err)
	}
	o := &Outcome{Changes: t.changes, Status: t.status}
	for i, to := range []*string{&o.Stdout, &o.Stderr} {
		text, err := io.ReadAll(io.NewSectionReader(files[i+1], 0, 1<<20))
		if err != nil {
			return nil, fmt.Errorf("read what %s said: %w", c.Path, err)
		}
		*to = string(text)
	}
	return o, nil
}

// A tracer follows one process, its threads and its children.
type tracer struct {
	Command
	main    int
	status  syscall.WaitStatus
	threads map[int]*thread
	changes []Change
	lost    *socket // whose next answer gets lost
}

// A thread is in a system call, or has been.
type thread struct {
	number int              // of the change that the call makes, 0: none
	call   *unix.PtraceRegs // its registers at the entry
	result *unix.Errno      // in place of the call's own
	again  bool             // the kernel wants it to be repeated
}

// A socket is a file descriptor of a thread group.
type socket struct {
	thread int
	fd     uint64
}

const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// run steps from stop to stop until nobody is left. The first one is that of the exec.
func (t *tracer) run() error {
	for {
		var status syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case !status.Stopped():
			if tid == t.main {
				t.status = status
			}
			delete(t.threads, tid)
			continue
		}
		signal, err := t.stopped(tid, status)
		if err == nil {
			err = syscall.PtraceSyscall(tid, signal)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			_ = unix.Kill(t.main, unix.SIGKILL)
			return err
		}
	}
}

// stopped handles one stop, and returns the signal to go on with.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) (signal int, err error) {
	th, known := t.threads[tid]
	if !known {
		th = &thread{}
		t.threads[tid] = th
		if tid == t.main {
			return 0, syscall.PtraceSetOptions(tid, options)
		}
	}
	switch s := status.StopSignal(); {
	case s == unix.SIGTRAP|0x80:
		entry, err := atEntry(tid)
		switch {
		case err != nil:
			return 0, err
		case entry:
			return 0, t.enter(tid, th)
		}
		return 0, t.leave(tid, th)
	case s == unix.SIGTRAP: // a new thread or process, or an exec
		return 0, nil
	case s == unix.SIGSTOP && !known: // how a new one begins
		return 0, nil
	default:
		return int(s), nil
	}
}

// atEntry tells the two stops of a system call apart.
func atEntry(tid int) (bool, error) {
	const (
		getSyscallInfo = 0x420e // PTRACE_GET_SYSCALL_INFO
		entry          = 1      // PTRACE_SYSCALL_INFO_ENTRY
	)
	var info [88]byte // struct ptrace_syscall_info
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), uintptr(len(info)), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return false, fmt.Errorf("ask for the system call: %w", errno)
	}
	return info[0] == entry, nil
}

// enter looks at a system call before the kernel does.
func (t *tracer) enter(tid int, th *thread) error {
	was := *th
	*th = thread{}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	if t.lost != nil && isReceive(regs.Orig_rax) && *t.lost == (socket{group(tid), regs.Rdi}) {
		t.lost = nil
		return th.skip(tid, &regs, unix.ENOBUFS)
	}
	change, ok := identify(tid, &regs)
	if !ok {
		return nil
	}
	th.number, th.call = was.number, &regs
	if !was.again {
		t.changes = append(t.changes, change)
		th.number = len(t.changes)
	}
	if t.Fault == Refuse && (th.number == t.At || t.More && th.number > t.At) {
		return th.skip(tid, &regs, unix.ENOMEM)
	}
	return nil
}

// skip has the kernel do nothing, and the process get an error.
func (th *thread) skip(tid int, regs *unix.PtraceRegs, errno unix.Errno) error {
	regs.Orig_rax = ^uint64(0)
	th.result = &errno
	return unix.PtraceSetRegs(tid, regs)
}

// leave looks at a system call that the kernel has done, or will do again: a file of /proc/sys asks for that as long as
// somebody else holds the lock of the network's configuration.
func (t *tracer) leave(tid int, th *thread) error {
	if th.result == nil && th.number == 0 {
		return nil
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	const first, last = 512, 516 // ERESTARTSYS, …, ERESTART_RESTARTBLOCK
	result := -int64(regs.Rax)
	switch th.again = result >= first && result <= last; {
	case th.result != nil:
		regs.Rax = uint64(-int64(*th.result))
		return unix.PtraceSetRegs(tid, &regs)
	case th.again || th.number != t.At:
	case t.Fault == Kill:
		return t.killAll()
	case t.Fault == Lose && isSend(th.call.Orig_rax):
		t.lost = &socket{group(tid), th.call.Rdi}
	}
	return nil
}

func (t *tracer) killAll() error {
	for tid := range t.threads {
		if err := unix.Kill(tid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill: %w", err)
		}
	}
	return nil
}

// group is the process that a thread belongs to.
func group(tid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return tid
	}
	_, after, _ := bytes.Cut(text, []byte("\nTgid:"))
	var id int
	if _, err := fmt.Sscan(string(after), &id); err != nil {
		return tid
	}
	return id
}

func isReceive(call uint64) bool {
	return slices.Contains([]uint64{unix.SYS_READ, unix.SYS_RECVFROM, unix.SYS_RECVMSG}, call)
}

func isSend(call uint64) bool {
	return slices.Contains([]uint64{unix.SYS_WRITE, unix.SYS_SENDTO, unix.SYS_SENDMSG}, call)
}
