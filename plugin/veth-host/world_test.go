package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// bin is where Main has built the binaries.
var bin string

func TestMain(m *testing.M) { os.Exit(Main(m, &bin, "../veth", "../router")) }

// A world is a node whose interface on the wire is enp1s0, and a pod with a macvlan on it, as the macvlan plugin
// leaves it: 10.10.20.53 and fd20::53, with default routes by the wire.
type world struct {
	*World
	Stack
}

func newWorld(t *testing.T, s Stack, script string) *world {
	t.Helper()
	node := `link add enp1s0 address 02:00:00:00:01:52 type veth peer name wire address 02:00:00:00:00:99
		link set enp1s0 up
		link set wire up
		link add link enp1s0 name eth0 netns $POD address 02:00:00:00:00:53 type macvlan mode bridge
	`
	pod, pod6 := "link set eth0 up\n", ""
	if s.V4 {
		node += "addr add 10.10.20.152/24 dev enp1s0\n"
		pod += "addr add 10.10.20.53/24 dev eth0\nroute add default via 10.10.20.1\n"
	}
	if s.V6 {
		node += "addr add fd20::152/64 dev enp1s0 nodad\n"
		pod += "addr add fd20::53/64 dev eth0 nodad\n"
		pod6 = "pod ip -6 route add default via fd20::1\n"
	}
	setup := "ip -batch - <<-END\n" + node + "END\npod ip -batch - <<-END\n" + pod + "END\n" + pod6
	return &world{New(t, setup+script), s}
}

// config is a request with the keys that are required; others, or others' values, follow as pairs. The value
// LeaveOut takes a key away.
func (w *world) config(pairs ...any) Request {
	return Request{
		"cniVersion": "1.0.0", "name": "cni0", "type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0",
		"prevResult": w.prevResult(),
	}.With(pairs...)
}

func (w *world) prevResult() map[string]any {
	n := Eth0(w.Stack)
	n.MAC = "02:00:00:00:00:53"
	return n.PrevResult(w.Pod, "1.0.0")
}

// run runs a binary on the node, as libcni does, with more variables if wanted.
func (w *world) run(t *testing.T, binary, verb string, stdin any, more ...string) Answer {
	t.Helper()
	return w.start(t, exec.Command(filepath.Join(bin, binary)), verb, stdin, more...)
}

// limited runs the plugin with a limit of open file descriptors.
func (w *world) limited(t *testing.T, verb string, limit int, stdin any) Answer {
	t.Helper()
	script := fmt.Sprintf("ulimit -n %d; exec %s", limit, filepath.Join(bin, "veth-host"))
	return w.start(t, exec.Command("/bin/sh", "-c", script), verb, stdin)
}

func (w *world) start(t *testing.T, cmd *exec.Cmd, verb string, stdin any, more ...string) Answer {
	t.Helper()
	return w.Run(t, cmd, stdin, append([]string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + ID, "CNI_IFNAME=eth0", "CNI_NETNS=" + w.Pod}, more...)...)
}

func (w *world) verb(t *testing.T, verb string, stdin any, more ...string) Answer {
	t.Helper()
	return w.run(t, "veth-host", verb, stdin, more...)
}

// add must succeed, and returns the result.
func (w *world) add(t *testing.T, r Request, more ...string) string {
	t.Helper()
	a := w.verb(t, "ADD", r, more...)
	if a.Status != 0 || a.Stderr != "" {
		t.Fatalf("ADD: %+v", a)
	}
	return a.Stdout
}
