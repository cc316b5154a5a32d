package main

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

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// bin is where TestMain has built the binaries, as `make build` does.
var bin string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "veth-host")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		build := exec.Command("go", "build", "-buildvcs=false", "-o", dir, ".", "../veth", "../router")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil || os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests build the binaries and make network namespaces, as root:", err)
		return 1
	}
	bin = dir
	return m.Run()
}

// A stack is the families of the node and the pod.
type stack struct {
	name   string
	v4, v6 bool
}

var stacks = []stack{{"IPv4", true, false}, {"IPv6", false, true}, {"dual", true, true}}

var dual = stacks[2]

// A world is a node whose interface on the wire is enp1s0, and a pod with a macvlan on it, as the macvlan plugin
// leaves it: 10.10.20.53 and fd20::53, with default routes by the wire.
type world struct {
	stack
	node, pod string // paths of the network namespaces
	nodeFD    int
}

func newWorld(t *testing.T, s stack, script string) *world {
	t.Helper()
	w := &world{stack: s}
	w.node, w.nodeFD = newNamespace(t)
	w.pod, _ = newNamespace(t)
	// No interface gets a link-local address, which the kernel would add at a time of its own.
	const prepare = `cd /proc/sys/net/ipv6/conf/default; echo 1 >addr_gen_mode; echo 0 >accept_dad; ip link set lo up; cd /`
	node := `link add enp1s0 address 02:00:00:00:01:52 type veth peer name wire address 02:00:00:00:00:99
		link set enp1s0 up
		link set wire up
		link add link enp1s0 name eth0 netns $POD address 02:00:00:00:00:53 type macvlan mode bridge
	`
	pod, pod6 := "link set eth0 up\n", ""
	if s.v4 {
		node += "addr add 10.10.20.152/24 dev enp1s0\n"
		pod += "addr add 10.10.20.53/24 dev eth0\nroute add default via 10.10.20.1\n"
	}
	if s.v6 {
		node += "addr add fd20::152/64 dev enp1s0 nodad\n"
		pod += "addr add fd20::53/64 dev eth0 nodad\n"
		pod6 = "pod ip -6 route add default via fd20::1\n"
	}
	setup := prepare + "\npod sh -ec '" + prepare + "'\nip -batch - <<-END\n" + node + "END\npod ip -batch - <<-END\n" + pod + "END\n" + pod6
	w.sh(t, setup+script)
	return w
}

// newNamespace makes a network namespace that lives as long as the test.
func newNamespace(t *testing.T) (path string, fd int) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(home)
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Setns(home, unix.CLONE_NEWNET))
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), fd
}

// onNode starts a process on the node.
func (w *world) onNode(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	if err := unix.Setns(w.nodeFD, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return back // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// sh runs a script on the node: the function "pod" runs a command in the pod, and $POD is the path of its namespace.
func (w *world) sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t sysfs none /sys; pod() { nsenter --net=$POD "$@"; }; `+script)
	cmd.Env = append(os.Environ(), "POD="+w.pod)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.onNode(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%v: %s%s\n%s", err, stdout.Bytes(), stderr.Bytes(), script)
	}
	return stdout.String()
}

// show is what the kernel knows of both namespaces.
func (w *world) show(t *testing.T) []string {
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
		cd /proc/sys/net; grep . ipv4/conf/*/*for* ipv4/conf/*/rp_filter ipv4/conf/*/*_redirects ipv4/conf/*/src_valid_mark ipv6/conf/*/*for* ipv6/conf/*/*redirects ipv6/conf/*/accept_ra ipv6/conf/*/disable_ipv6`
	var lines []string
	for line := range strings.Lines(w.sh(t, facts+"; echo the pod; pod sh -ec '"+facts+"'")) {
		line = changing.ReplaceAllString(isUp.ReplaceAllString(line, " up "), " ")
		if line = strings.Join(strings.Fields(line), " "); line != "" && !irrelevant.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

var (
	isUp = regexp.MustCompile(`<(?:[\w-]+,)*UP\b[^>]*>`)
	// What the kernel makes of addresses and links at a time of its own.
	irrelevant = regexp.MustCompile(`ff00::/8|local fd20::\S+ dev \S+ table local proto kernel`)
	changing   = regexp.MustCompile(`<[^>]*>| state \w+| qlen \d+| qdisc \w+| linkdown| dead|link-netns(id)? \S+|\\`)
)

// id is the container id of the tests.
const id = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3"

// A request is the configuration as libcni writes it, by its keys.
type request map[string]any

// config is a request with the keys that are required; others, or others' values, follow as pairs. The value
// leaveOut takes a key away.
func (w *world) config(pairs ...any) request {
	r := request{
		"cniVersion": "1.0.0", "name": "cni0", "type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0",
		"prevResult": w.prevResult(),
	}
	for p := range slices.Chunk(pairs, 2) {
		key, _ := p[0].(string)
		r[key] = p[1]
		if p[1] == leaveOut {
			delete(r, key)
		}
	}
	return r
}

const leaveOut = "(leave it out)"

func (w *world) prevResult() map[string]any {
	var ips, routes []any
	if w.v4 {
		ips = append(ips, map[string]any{"address": "10.10.20.53/24", "gateway": "10.10.20.1", "interface": 0})
		routes = append(routes, map[string]any{"dst": "0.0.0.0/0"})
	}
	if w.v6 {
		ips = append(ips, map[string]any{"address": "fd20::53/64", "gateway": "fd20::1", "interface": 0})
		routes = append(routes, map[string]any{"dst": "::/0"})
	}
	return map[string]any{
		"cniVersion": "1.0.0", "ips": ips, "routes": routes,
		"interfaces": []any{map[string]any{"name": "eth0", "mac": "02:00:00:00:00:53", "sandbox": w.pod}},
	}
}

// An answer is what a process has said.
type answer struct {
	status         int
	stdout, stderr string
}

// run starts a binary on the node, as libcni does, with more variables if wanted.
func (w *world) run(t *testing.T, binary, verb string, stdin any, more ...string) answer {
	t.Helper()
	return w.start(t, exec.Command(filepath.Join(bin, binary)), verb, stdin, more...)
}

// limited runs the plugin with a limit of open file descriptors.
func (w *world) limited(t *testing.T, verb string, limit int, stdin any) answer {
	t.Helper()
	script := fmt.Sprintf("ulimit -n %d; exec %s", limit, filepath.Join(bin, "veth-host"))
	return w.start(t, exec.Command("/bin/sh", "-c", script), verb, stdin)
}

func (w *world) start(t *testing.T, cmd *exec.Cmd, verb string, stdin any, more ...string) answer {
	t.Helper()
	text, ok := stdin.(string)
	if !ok {
		b, err := json.Marshal(stdin)
		must(t, err)
		text = string(b)
	}
	cmd.Env = append([]string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=" + w.pod, "CNI_PATH=" + bin}, more...)
	cmd.Stdin = strings.NewReader(text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.onNode(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (w *world) verb(t *testing.T, verb string, stdin any, more ...string) answer {
	t.Helper()
	return w.run(t, "veth-host", verb, stdin, more...)
}

// add must succeed, and returns the result.
func (w *world) add(t *testing.T, r request, more ...string) string {
	t.Helper()
	a := w.verb(t, "ADD", r, more...)
	if a.status != 0 || a.stderr != "" {
		t.Fatalf("ADD: %+v", a)
	}
	return a.stdout
}

// silent is a verb that has succeeded and has nothing to say.
func (a answer) silent(t *testing.T, what string) {
	t.Helper()
	if a != (answer{}) {
		t.Errorf("%s: %+v", what, a)
	}
}

// failed is the one JSON object on standard output.
func (a answer) failed(t *testing.T) (f failure) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		t.Fatalf("%v: %+v", err, a)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Errorf("more than one object: %s", a.stdout)
	}
	if a.status != 1 || a.stderr != "" || strings.Contains(a.stdout, "not found") {
		t.Errorf("got %+v", a)
	}
	return f
}

// A failure is the error object of the CNI specification.
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got)\n%s", what, d)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
