package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"underlay-cni/integration/lab"
)

// bin has the binaries, which TestMain builds as `make build` does.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = build(".", "../veth-host", "../veth", "../router"); err != nil {
		fmt.Fprintln(os.Stderr, "build the binaries:", err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(bin)
	os.Exit(status)
}

func build(packages ...string) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "underlayctl"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir}, packages...)...)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return dir, nil
}

// A world is a node of the lab, an empty file system for systemd's configuration, and the command.
type world struct {
	*lab.World
	n1      *lab.Node
	systemd string
}

// shapes are nodes, and configurations of the plugin, that a plan differs for.
var shapes = map[string]lab.Options{
	"dual stack": {}, "IPv4": {Stack: lab.OnlyIPv4}, "IPv6": {Stack: lab.OnlyIPv6}, "strict": {RPFilter: 1}, "loose": {RPFilter: 2},
	"no gateway": {NoGateway: true}, "VIP": {VIP: true},
	"no ipMasq":       {Edit: func(c *lab.Conflist) { c.Plugin("veth-host")["ipMasq"] = false }},
	"iptables-nft":    {Firewall: "iptables", IPTables: "nft"},
	"iptables-legacy": {Firewall: "iptables", IPTables: "legacy"},
}

func newWorld(t *testing.T, o lab.Options) *world {
	t.Helper()
	o.Plugins = bin
	w, err := lab.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return &world{World: w, n1: w.N1, systemd: t.TempDir()}
}

// pod makes a pod of the node, without an attachment.
func (w *world) pod(t *testing.T, name string) *lab.Pod {
	t.Helper()
	p, err := w.n1.NewPod(name)
	must(t, err)
	return p
}

// added makes a pod with its attachment.
func (w *world) added(t *testing.T, name string) *lab.Pod {
	t.Helper()
	p := w.pod(t, name)
	must(t, w.n1.Add(p))
	return p
}

// sh runs a script on the node. {host} is the name of the pod's host end, {pod} runs a command in the pod.
func (w *world) sh(t *testing.T, p *lab.Pod, script string) string {
	t.Helper()
	if p != nil {
		words := []string{"{pod}", "nsenter --net=" + p.Path()}
		if p.Result != nil {
			words = append(words, "{host}", p.HostEnd())
		}
		script = strings.NewReplacer(words...).Replace(script)
	}
	out, err := w.n1.Run("sh", "-ec", script)
	must(t, err)
	return out
}

// running starts a process with variables in its environment.
func (w *world) running(t *testing.T, variables ...string) {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.Env = append(os.Environ(), variables...)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// await waits until the kernel has taken an interface down with its peer's namespace.
func (w *world) await(t *testing.T, link string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := w.n1.Run("ip", "link", "show", link); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", link)
		}
	}
}

// sleeper is the id of a process in the pod, that lives as long as the test.
func (w *world) sleeper(t *testing.T, p *lab.Pod) string {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	must(t, p.Do(cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprint(cmd.Process.Pid)
}

// script runs a script on the node as an operator does, who has the node's /sys, and whatever line of it fails.
func (w *world) script(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	_, err := w.n1.Run("unshare", "--mount", "sh", "-c", "mount -t sysfs none /sys; sh "+file+" || true")
	must(t, err)
}

// An answer is what the command has said.
type answer struct {
	status         int
	stdout, stderr string
}

// ctl runs the command on the node.
func (w *world) ctl(t *testing.T, args ...string) answer {
	t.Helper()
	if slices.Contains([]string{"diagnose", "uninstall"}, args[0]) {
		args = append(args, "--systemd-root", w.systemd)
	}
	if !slices.Contains([]string{"version", "lint"}, args[0]) {
		args = append(args, "--conf-dir", confDir)
	}
	file := filepath.Join(t.TempDir(), "stderr")
	out, err := w.n1.Run("sh", append([]string{"-c", `"$0" "$@" 2>` + file, filepath.Join(bin, "underlayctl")}, args...)...)
	a := answer{stdout: out}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		a.status = exit.ExitCode()
	} else {
		must(t, err)
	}
	said, err := os.ReadFile(file)
	must(t, err)
	a.stderr = string(said)
	return a
}

// confDir is where the lab's nodes have their conflists.
const confDir = "/run/cni/net.d"

// must be of that status, and have nothing to warn about.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status || status < statusUsage && a.stderr != "" {
		t.Fatalf("want exit status %d, got %d\n%s%s", status, a.status, a.stderr, a.stdout)
	}
	return a
}

// decode decodes standard output, which is one JSON object without keys that the type lacks.
func decode[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v:\n%s%s", err, a.stderr, a.stdout)
	}
	if dec.More() {
		t.Errorf("more than one object:\n%s", a.stdout)
	}
	return v
}

func dump(t *testing.T, n *lab.Namespace) lab.Dump {
	t.Helper()
	d, err := n.Dump()
	must(t, err)
	return d
}

// same compares dumps, and shows only the lines that differ.
func same(t *testing.T, what string, want, got lab.Dump) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s has lost:\n%s%[1]s has in addition:\n%[3]s", what, want.Since(got), got.Since(want))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
