// Package plugintest runs the binary of a plugin as a runtime does, on a node and in a pod that are network namespaces
// of the test's own: it knows the plugin by what it prints and by what the kernel shows afterwards. Only tests use it.
package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"underlay-cni/integration/nettest"
	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// Main builds the binaries of the test's own directory and of others into bin, and runs the tests; what os.Exit takes.
func Main(m *testing.M, bin *string, others ...string) int {
	dir, err := "", privateMounts()
	if err == nil {
		dir, err = os.MkdirTemp("", "plugin")
	}
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		build := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir + "/", "."}, others...)...) //nolint:gosec // directories of the tests' own
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil || os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests build binaries and make network namespaces, as root:", err)
		return 1
	}
	*bin = dir
	return m.Run()
}

// privateMounts runs the test binary anew in a mount namespace with an empty /var/log and an empty /run: what a plugin writes to
// its default log, as it does for a configuration whose log_options are wrong, does not stay on the machine, nor do the lock
// files of the plugins and of iptables. An exec keeps the namespace of the thread that does it, so there is no other process to
// wait for.
func privateMounts() error {
	const done = "PLUGINTEST_PRIVATE_MOUNTS"
	if os.Getenv(done) != "" {
		return os.Unsetenv(done)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount --make-rprivate /: %w", err)
	}
	for _, dir := range []string{"/run", "/var/log"} {
		if err := unix.Mount("none", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount -t tmpfs none %s: %w", dir, err)
		}
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), done+"=1"))
}

// A World is a node and a pod.
type World struct {
	Node, Pod string // paths of the network namespaces
	nodeFD    int
}

// New makes a node and a pod in which nothing is but lo, up. No interface gets a link-local address, which the kernel
// would add at a time of its own. The script runs as that of Sh.
func New(t *testing.T, script string) *World {
	t.Helper()
	w := &World{}
	w.Node, w.nodeFD = nettest.Namespace(t)
	w.Pod, _ = nettest.Namespace(t)
	w.Sh(t, "("+Prepare+"); pod sh -ec '"+Prepare+"'\n"+script)
	return w
}

// NewPod is another pod on the same node.
func (w *World) NewPod(t *testing.T) *World {
	t.Helper()
	other := *w
	other.Pod, _ = nettest.Namespace(t)
	other.Sh(t, "pod sh -ec '"+Prepare+"'")
	return &other
}

// Prepare is what New does first in each namespace.
const Prepare = `cd /proc/sys/net/ipv6/conf/default; echo 1 >addr_gen_mode; echo 0 >accept_dad; ip link set lo up`

// OnNode runs f on a thread of the node: a process that it starts, or a socket that it opens, is there.
func (w *World) OnNode(f func() error) error { return nettest.Within(w.nodeFD, f) }

// InPod is the same in the pod.
func (w *World) InPod(f func() error) error {
	fd, err := unix.Open(w.Pod, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return nettest.Within(fd, f)
}

// Sh runs a script on the node: the function "pod" runs a command in the pod, and $POD is the path of its namespace.
func (w *World) Sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t sysfs none /sys; pod() { nsenter --net=$POD "$@"; }; `+script) //nolint:gosec // the script is the test's
	cmd.Env = append(os.Environ(), "POD="+w.Pod)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.OnNode(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%v: %s%s\n%s", err, stdout.Bytes(), stderr.Bytes(), script)
	}
	return stdout.String()
}

// Show is what the kernel knows of both namespaces, less what it makes at a time of its own. It lists neighbours in any
// order; here they are sorted.
func (w *World) Show(t *testing.T) []string {
	t.Helper()
	const facts = `
		ip -o -d -batch - <<-END
			link
			addr
			neigh show nud permanent
			route show table all
			rule
		END
		echo IPv6; ip -6 -o -d -batch - <<-END
			route show table all
			rule
		END
		nft -s list ruleset
		cd /proc/sys/net; grep . ipv4/conf/*/*for* ipv4/conf/*/rp_filter ipv4/conf/*/*_redirects ipv4/conf/*/src_valid_mark ipv6/conf/*/*for* ipv6/conf/*/*redirects ipv6/conf/*/accept_ra* ipv6/conf/*/disable_ipv6`
	var lines []string
	for line := range strings.Lines(w.Sh(t, facts+"; echo the pod; pod sh -ec '"+facts+"'")) {
		line = changing.ReplaceAllString(isUp.ReplaceAllString(line, " up "), " ")
		if line = strings.Join(strings.Fields(line), " "); line != "" && !irrelevant.MatchString(line) {
			lines = append(lines, line)
		}
	}
	isNeighbour := func(line string) bool { return strings.HasSuffix(line, " PERMANENT") }
	for i := 0; i < len(lines); i++ {
		from := i
		for i < len(lines) && isNeighbour(lines[i]) {
			i++
		}
		slices.Sort(lines[from:i])
	}
	return lines
}

var (
	isUp       = regexp.MustCompile(`<(?:[\w-]+,)*UP\b[^>]*>`)
	irrelevant = regexp.MustCompile(`ff00::/8|local f(d|e80:)\S+ dev \S+ table local proto kernel|anycast`)
	changing   = regexp.MustCompile(`<[^>]*>| state \w+| qlen \d+| qdisc \w+| linkdown| dead|link-netns(id)? \S+|\\| valid_lft \S+ preferred_lft \S+`)
)

// An Answer is what a process has said.
type Answer struct {
	Status         int
	Stdout, Stderr string
}

// Run starts a command on the node with the input and the environment of a plugin.
func (w *World) Run(t *testing.T, cmd *exec.Cmd, stdin any, env ...string) Answer {
	t.Helper()
	text, ok := stdin.(string)
	if !ok {
		b, err := json.Marshal(stdin)
		nettest.Must(t, err)
		text = string(b)
	}
	cmd.Env = append([]string{"CNI_PATH=" + filepath.Dir(cmd.Path), "PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdin = strings.NewReader(text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.OnNode(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return Answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// Silent is a verb that has succeeded and has nothing to say.
func (a Answer) Silent(t *testing.T, what string) {
	t.Helper()
	if a != (Answer{}) {
		t.Errorf("%s: %+v", what, a)
	}
}

// Plan is what an ADD of the plugin would do, as a script for Sh.
func (w *World) Plan(t *testing.T, p plugin.Plugin, a plugin.Attachment, config map[string]any) string {
	t.Helper()
	self, err := routing.Self()
	nettest.Must(t, err)
	t.Cleanup(self.Close)
	node, err := self.Open(w.Node)
	nettest.Must(t, err)
	t.Cleanup(node.Close)
	node.Path = "" // the script runs there
	pod, err := self.Open(w.Pod)
	nettest.Must(t, err)
	t.Cleanup(pod.Close)
	text, err := json.Marshal(config)
	nettest.Must(t, err)
	prev, err := json.Marshal(config["prevResult"])
	nettest.Must(t, err)
	var result types100.Result
	nettest.Must(t, json.Unmarshal(prev, &result))
	plan, err := p.Add(&plugin.Request{Attachment: a, Verb: "ADD", Netns: w.Pod, Config: text, Version: "1.0.0", Result: &result, Node: node, Pod: pod})
	nettest.Must(t, err)
	return plan.String()
}

// A Failure is the error object of the CNI specification.
type Failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// Failed is the one JSON object on standard output.
func (a Answer) Failed(t *testing.T) (f Failure) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.Stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		t.Fatalf("%v: %+v", err, a)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("more than one object: %s", a.Stdout)
	}
	if a.Status != 1 || a.Stderr != "" || strings.Contains(a.Stdout, "not found") {
		t.Errorf("got %+v", a)
	}
	return f
}
