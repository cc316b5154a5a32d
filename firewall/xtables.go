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

	asked bool // for its version, which will do
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
	if err := t.known(ns); err != nil {
		return nil, err
	}
	text, err := t.run(ns, "", "", "-w", strconv.Itoa(lockSeconds), "-t", table, "-S", chain)
	if r, ok := errors.AsType[*refusal](err); ok && r.noChain(chain) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s -t %s -S %s: %w", t, table, chain, err)
	}
	return strings.Split(strings.TrimSpace(text), "\n"), nil
}

// noChain reports whether there is no such chain. The exit status is that of other refusals too; and iptables-nft says of
// a chain that is missing what it says of one with a rule that it cannot read, which only a built-in one may have.
func (r *refusal) noChain(chain string) bool {
	builtIn := slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, chain)
	return strings.Contains(r.said, "No chain/target/match by that name") || strings.Contains(r.said, "does not exist") ||
		!builtIn && strings.Contains(r.said, "is incompatible, use 'nft' tool")
}

// known makes sure that the program is one that this package can use, once: it is not on the way of every ADD.
func (t *tool) known(ns Namespace) error {
	if t.asked {
		return nil
	}
	// go-iptables waits for its processes without a limit: this one tells whether they end.
	if _, err := t.run(ns, "", "", "--version"); err != nil {
		return err
	}
	family := iptables.ProtocolIPv4
	if t.v6 {
		family = iptables.ProtocolIPv6
	}
	ipt, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(lockSeconds), iptables.Path(t.String()))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, t, err)
	}
	if !ipt.HasRandomFully() { // as old as the -w of iptables-restore
		major, minor, patch := ipt.GetIptablesVersion()
		return fmt.Errorf("%w: %s %d.%d.%d is too old; accepted: 1.6.2 or newer", ErrUnavailable, t, major, minor, patch)
	}
	t.asked = true
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// orPlain takes the program without a suffix where the machine has no other and that one is of the same variant, and
// reports whether there is any.
func (t *tool) orPlain(ns Namespace) bool {
	if _, err := exec.LookPath(t.String()); err == nil {
		return true
	}
	plain := &tool{v6: t.v6}
	if variant, err := plain.ownVariant(ns); err != nil || variant != t.variant {
		return false
	}
	t.variant = ""
	return true
}

// ownVariant is what the program without a suffix is.
func (t *tool) ownVariant(ns Namespace) (string, error) {
	said, err := t.run(ns, "", "", "--version")
	if err != nil {
		return "", err
	}
	if strings.Contains(said, "nf_tables") {
		return variantNFT, nil
	}
	return variantLegacy, nil
}
