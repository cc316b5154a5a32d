package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-iptables/iptables"
)

// A tool is iptables(8) or ip6tables(8), with the programs beside it.
type tool struct {
	v6      bool
	variant string // "": whatever the machine has chosen; "-nft" or "-legacy"

	ipt *iptables.IPTables // once opened
}

// String is the name of the program.
func (t *tool) String() string {
	if t.v6 {
		return "ip6tables" + t.variant
	}
	return "iptables" + t.variant
}

// Time limits: of iptables for its lock, which kube-proxy may hold for seconds on a node with many Services, and of
// this package for any process.
const (
	lockSeconds = 5
	patience    = 10 * time.Second
)

func (t *tool) restoreArgs() []string { return []string{"--noflush", "-w", strconv.Itoa(lockSeconds)} }

func (t *tool) restoreLine() string {
	return t.String() + "-restore " + strings.Join(t.restoreArgs(), " ")
}

// A refusal is the answer of a program that did run: something in its input is not as the input says.
type refusal struct {
	program string
	status  int
	said    string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: exit status %d: %s", r.program, r.status, r.said)
}

// resourceProblem is the exit status of iptables(8) for a lock that somebody else holds.
const resourceProblem = 4

// Unwrap tells a lock that is held from other refusals. iptables-nft has no lock, and the same exit status for others.
func (r *refusal) Unwrap() error {
	if r.status == resourceProblem && strings.Contains(r.said, "xtables lock") {
		return ErrBusy
	}
	return nil
}

// refused reports whether the program did run and says that the kernel's rules are not what its input expects.
func refused(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && !errors.Is(r, ErrBusy)
}

// restore runs iptables-restore(8) in the namespace. The tables that the text does not name stay as they are.
func (t *tool) restore(ns Namespace, text string) error {
	_, err := t.run(ns, "-restore", text, t.restoreArgs()...)
	return err
}

// run runs a program in the namespace: a process starts in the one of the thread that starts it. It is killed, with the
// processes that it has started, when it takes too long.
func (t *tool) run(ns Namespace, suffix, stdin string, args ...string) (string, error) {
	program := t.String() + suffix
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w: %s: no such program in PATH", ErrUnavailable, program)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the name is one of six
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := ns.Do(cmd.Start); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrUnavailable, program, err)
	}
	err = cmd.Wait()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: no answer in %s, killed", program, patience)
	case ok:
		return "", &refusal{program, exit.ExitCode(), explain(said.String(), stdin)}
	case err != nil:
		return "", fmt.Errorf("%s: %w", program, err)
	}
	return out.String(), nil
}

// explain shortens what a program said, and adds the line of the input that it counts: iptables-legacy says no more
// than "line 4 failed".
func explain(said, stdin string) string {
	said = strings.Join(strings.Fields(said), " ")
	_, after, _ := strings.Cut(said, "line ")
	number, _, _ := strings.Cut(after, " ")
	n, err := strconv.Atoi(strings.TrimSuffix(number, ":"))
	if lines := strings.Split(stdin, "\n"); err == nil && n > 0 && n <= len(lines) {
		said += " (" + lines[n-1] + ")"
	}
	return said
}

// list returns the rules of a chain as `iptables -S` does, nil if there is no such chain.
func (t *tool) list(ns Namespace, table, chain string) ([]string, error) {
	rules, err := within(func() (rules []string, err error) {
		err = ns.Do(func() error {
			ipt, err := t.open()
			if err == nil {
				rules, err = ipt.List(table, chain)
			}
			return err
		})
		return rules, err
	})
	if e, ok := errors.AsType[*iptables.Error](err); ok && (e.IsNotExist() || e.ExitStatus() == 1) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s -t %s -S %s: %w", t, table, chain, err)
	}
	return rules, nil
}

// open finds the program and asks for its version, which is a process of its own: not on the way of every ADD.
func (t *tool) open() (*iptables.IPTables, error) {
	if t.ipt != nil {
		return t.ipt, nil
	}
	family := iptables.ProtocolIPv4
	if t.v6 {
		family = iptables.ProtocolIPv6
	}
	ipt, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(lockSeconds), iptables.Path(t.String()))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, t, err)
	}
	if !ipt.HasRandomFully() { // as old as the -w of iptables-restore
		major, minor, patch := ipt.GetIptablesVersion()
		return nil, fmt.Errorf("%w: %s %d.%d.%d is too old; accepted: 1.6.2 or newer", ErrUnavailable, t, major, minor, patch)
	}
	t.ipt = ipt
	return ipt, nil
}

// within gives up on a function that does not return. go-iptables waits for its processes without a limit.
func within[T any](f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(patience):
		var none T
		return none, fmt.Errorf("no answer in %s", patience)
	}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// orPlain takes the program without a suffix where the machine has no other, and reports whether there is any.
func (t *tool) orPlain() bool {
	if _, err := exec.LookPath(t.String()); err == nil {
		return true
	}
	t.variant = ""
	_, err := exec.LookPath(t.String())
	return err == nil
}

// ownVariant is what the program without a suffix is.
func (t *tool) ownVariant(ns Namespace) string {
	said, err := t.run(ns, "", "", "--version")
	if err == nil && strings.Contains(said, "nf_tables") {
		return variantNFT
	}
	return variantLegacy
}
