package plugintest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
	"underlay-cni/plugin"
)

// A Subject is a plugin that attaches interfaces on the node's wires, and what is its own of what the tests of veth and
// router, which are the same otherwise, have to know. Its methods are those tests; they say what it does, the packages say
// how that is seen.
type Subject struct {
	Plugin plugin.Plugin
	Bin    *string // the directory of the binary, which has the plugin's name

	// Config is the smallest configuration, without the keys that libcni fills in.
	Config map[string]any
	// Before is the script of what the pod has, and the node has for it, before the first interface on a wire.
	Before func(Stack) string
	// First and Later are the pod's first interfaces that the plugin attaches.
	First, Later func(Stack) *NIC

	// By is the interface of the pod that leads to the node.
	By string
	// Shared is how the node's lines begin that stay, by design, behind the last attachment.
	Shared string
	// Left and LeftInPod are what no line of the node, and of the pod, may have behind the last attachment.
	Left, LeftInPod []string
	// Appended are how the interfaces begin that the result gets.
	Appended []string
	// Seen is what the node's rules or the pod's links show of a plugin that has not left it at the hardware address.
	Seen string
	// Traces are what the links, routes and neighbours of the node show of an attachment alone.
	Traces func(*NIC) []string
}

// A Trial is a node with three wires and a pod, on which the subject works.
type Trial struct {
	*World
	*Subject
}

// New makes a node and a pod with some interfaces; the script is run last.
func (s *Subject) New(t *testing.T, of Stack, script string, nics ...*NIC) *Trial {
	t.Helper()
	setup := []string{ThreeWires(of) + s.Before(of)}
	for _, n := range nics {
		setup = append(setup, n.Make())
	}
	return &Trial{New(t, strings.Join(setup, "")+script), s}
}

// NewPod is another pod on the same node, with nothing in it.
func (w *Trial) NewPod(t *testing.T) *Trial {
	t.Helper()
	return &Trial{w.World.NewPod(t), w.Subject}
}

// LeaveOut is the value of a key that is to be left out of a configuration.
const LeaveOut = "(leave it out)"

// A Request is the configuration as libcni writes it, by its keys.
type Request map[string]any

// With is the request with others, or others' values, that follow as pairs; LeaveOut takes a key away.
func (r Request) With(pairs ...any) Request {
	r = maps.Clone(r)
	for p := range slices.Chunk(pairs, 2) {
		key, _ := p[0].(string)
		r[key] = p[1]
	}
	maps.DeleteFunc(r, func(_ string, v any) bool { return v == LeaveOut })
	return r
}

// Request is the smallest configuration for an interface, and prevResult in its version, with pairs.
func (w *Trial) Request(n *NIC, pairs ...any) Request {
	r := Request(w.Config).With("cniVersion", "1.0.0", "name", n.Network, "type", w.Plugin.Name, "log_options", map[string]any{"log_file": "/dev/null"}).With(pairs...)
	if !slices.Contains(pairs, any("prevResult")) {
		version, _ := r["cniVersion"].(string)
		r["prevResult"] = n.PrevResult(w.Pod, version)
	}
	return r
}

// Verb runs the plugin for an interface; more variables may follow.
func (w *Trial) Verb(t *testing.T, what string, n *NIC, stdin any, more ...string) Answer {
	t.Helper()
	return w.command(t, exec.Command(filepath.Join(*w.Bin, w.Plugin.Name)), what, n, stdin, more...) //nolint:gosec // a binary of the test's own
}

// Limited is Verb with a limit of open file descriptors.
func (w *Trial) Limited(t *testing.T, what string, limit int, n *NIC, stdin any) Answer {
	t.Helper()
	script := fmt.Sprintf("ulimit -n %d; exec %s", limit, filepath.Join(*w.Bin, w.Plugin.Name))
	return w.command(t, exec.Command("/bin/sh", "-c", script), what, n, stdin) //nolint:gosec // a binary of the test's own
}

func (w *Trial) command(t *testing.T, cmd *exec.Cmd, what string, n *NIC, stdin any, more ...string) Answer {
	t.Helper()
	env := append([]string{"CNI_COMMAND=" + what, "CNI_CONTAINERID=" + n.Container, "CNI_IFNAME=" + n.Name, "CNI_NETNS=" + w.Pod}, more...)
	return w.Run(t, cmd, stdin, env...)
}

// Come makes an interface and adds it.
func (w *Trial) Come(t *testing.T, n *NIC, pairs ...any) string {
	t.Helper()
	w.Sh(t, n.Make())
	return w.Add(t, n, pairs...)
}

// Add must succeed, and returns the result.
func (w *Trial) Add(t *testing.T, n *NIC, pairs ...any) string {
	t.Helper()
	a := w.Verb(t, "ADD", n, w.Request(n, pairs...))
	if a.Status != 0 || a.Stderr != "" {
		t.Fatalf("ADD of %s: %+v", n.Name, a)
	}
	return a.Stdout
}

// AddTo is Add, and reads the result into a value.
func (w *Trial) AddTo(t *testing.T, result any, n *NIC, pairs ...any) {
	t.Helper()
	nettest.Must(t, json.Unmarshal([]byte(w.Add(t, n, pairs...)), result))
}

// AddTwice must say and do the second time what it did the first time, and leaves all of the interfaces right.
func (w *Trial) AddTwice(t *testing.T, n *NIC, all ...*NIC) {
	t.Helper()
	first := w.Add(t, n)
	added := w.Show(t)
	if again := w.Add(t, n); again != first {
		t.Errorf("a second ADD says\n%s\nthe first\n%s", again, first)
	}
	nettest.Same(t, "after a second ADD of "+n.Name, added, w.Show(t))
	for _, n := range all {
		w.Check(t, n)
	}
}

// Check must find nothing.
func (w *Trial) Check(t *testing.T, n *NIC, pairs ...any) {
	t.Helper()
	w.Verb(t, "CHECK", n, w.Request(n, pairs...)).Silent(t, "CHECK of "+n.Name)
}

// Del must succeed.
func (w *Trial) Del(t *testing.T, n *NIC, pairs ...any) {
	t.Helper()
	w.Verb(t, "DEL", n, w.Request(n, pairs...)).Silent(t, "DEL of "+n.Name)
}

// GC runs GC for the network of an interface, of which some attachments are valid: a list, or a wrong one.
func (w *Trial) GC(t *testing.T, n *NIC, valid any) {
	t.Helper()
	w.Verb(t, "GC", n, w.Request(n, "cniVersion", "1.1.0", "prevResult", LeaveOut, "cni.dev/valid-attachments", valid),
		"CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=").Silent(t, "GC")
}

// WithoutTables leaves out the firewall's tables and what else stays on the node behind the last attachment.
func (s *Subject) WithoutTables(lines []string) (rest []string) {
	inTable := false
	for i, line := range lines {
		inTable = inTable || strings.HasPrefix(line, "table inet "+s.Plugin.Name)
		if !inTable && (s.Shared == "" || !strings.HasPrefix(line, s.Shared)) {
			rest = append(rest, line)
		}
		// A table ends with a brace behind that of its last chain.
		inTable = inTable && (line != "}" || i == 0 || lines[i-1] != "}")
	}
	return rest
}

// Lasting leaves out also what stays in a pod that lives on: sysctls.
func (s *Subject) Lasting(lines []string) []string {
	return slices.DeleteFunc(s.WithoutTables(lines), func(line string) bool {
		return strings.HasPrefix(line, "ipv4/conf/") || strings.HasPrefix(line, "ipv6/conf/")
	})
}
