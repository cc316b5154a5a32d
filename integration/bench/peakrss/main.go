// Command peakrss runs the command in its arguments and prints its peak resident set in KiB on standard error.
// The kernel carries the peak of the process that forks over into the one that is started, so a big program cannot
// measure a small one: this one is as small as Go gets.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: syscall.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		os.Exit(127)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(pid, &status, 0, &usage); err != nil {
		os.Exit(127)
	}
	_, _ = os.Stderr.WriteString(strconv.FormatInt(usage.Maxrss, 10) + "\n")
	os.Exit(status.ExitStatus())
}
