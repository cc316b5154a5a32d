package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

// asPlugin in the environment makes the test binary the plugin that it names.
const asPlugin = "UNDERLAY_CNI_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if name := os.Getenv(asPlugin); name != "" {
		os.Exit(Main(plugins[name]))
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func nothing(*Request) (*Plan, error) { return new(Plan), nil }

// plugins are those of which a test wants to see the whole process.
var plugins = map[string]Plugin{
	"good": {Name: "good", About: "does nothing", Add: nothing, Check: nothing, Del: nothing, GC: nothing, Status: func(*Request) error { return nil }},
	"broken": {
		Name: "broken", Add: func(*Request) (*Plan, error) { panic("boom") },
		Del: func(*Request) (*Plan, error) {
			return one(func() error { var p *Plan; p.Add(nil); return nil }), nil
		},
		GC: func(*Request) (*Plan, error) { panic(errors.New("boom")) },
	},
	"long": {
		Name: "long",
		Add: func(*Request) (*Plan, error) {
			return nil, Errorf(CodeConfig, "begin %s end", strings.Repeat("<x> ", 1000))
		},
		Check: func(*Request) (*Plan, error) {
			return nil, fmt.Errorf("begin %s end", strings.Repeat("ä\n", 1000))
		},
		Status: func(*Request) error { return errors.New("exit status 1\x00\x1b[2J") },
	},
	"undone": {Name: "undone", Add: func(*Request) (*Plan, error) {
		p, _ := steps(&step{name: strings.Repeat("a", 600), revert: errors.New(strings.Repeat("stuck ", 200))}, &step{name: "b", apply: errors.New(strings.Repeat("boom ", 200))})
		return p, nil
	}},
	"missing": {
		Name: "missing",
		Del:  func(*Request) (*Plan, error) { return nil, errors.New("Link not found") },
		GC: func(*Request) (*Plan, error) {
			p, _ := steps(&step{name: "a", apply: errors.New("route not found")})
			return p, errors.New("rule not found")
		},
	},
}

// one is a plan of one change.
func one(apply func() error) *Plan {
	p := new(Plan)
	p.Add(funcChange(apply))
	return p
}

type funcChange func() error

func (funcChange) String() string { return "change" }
func (f funcChange) Apply() error { return f() }
func (funcChange) Verify() error  { return nil }
func (funcChange) Revert() error  { return nil }

// An answer is what a process has said.
type answer struct {
	status         int
	stdout, stderr string
}

func start(t *testing.T, plugin, stdin string, env ...string) answer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append([]string{asPlugin + "=" + plugin}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// A failure is the error object of the CNI specification.
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// failed is the one JSON object on standard output.
func (a answer) failed(t *testing.T) failure {
	t.Helper()
	var f failure
	dec := json.NewDecoder(strings.NewReader(a.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		t.Fatalf("%v: %q", err, a.stdout)
	}
	if dec.More() {
		t.Errorf("more than one object: %s", a.stdout)
	}
	if a.status != 1 {
		t.Errorf("exit status %d", a.status)
	}
	if a.stderr != "" {
		t.Errorf("stderr: %s", a.stderr)
	}
	if size := len(f.Msg) + len(f.Details); size > 700 {
		t.Errorf("msg and details have %d bytes", size)
	}
	return f
}

const noNetns = "/run/netns/no-such-pod"

func verbEnv(verb string) []string {
	return []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=abc", "CNI_IFNAME=eth0", "CNI_NETNS=" + noNetns, "CNI_PATH=/nonexistent"}
}

// netnsEnv is a request with a network namespace that is there, and not the plugin's.
func netnsEnv(t *testing.T, verb string) []string {
	t.Helper()
	sleeper := exec.Command("unshare", "--net", "cat")
	stdin, err := sleeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = sleeper.Wait() })
	// What cat hands on tells that it has the namespace.
	if _, err := stdin.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	env := verbEnv(verb)
	env[3] = fmt.Sprintf("CNI_NETNS=/proc/%d/ns/net", sleeper.Process.Pid)
	return env
}

const request = `{"cniVersion": "1.0.0", "name": "cni0", "type": "x",
	"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.10.20.53/24"}]}}`

// TestErrors: whatever goes wrong, one object with the version of the configuration, short enough for libcni.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name, plugin, verb, stdin string
		pod                       bool
		version                   string
		code                      uint
		msg, details              string // how they begin
	}{
		{"panic", "broken", "ADD", request, true, "1.0.0", CodePanic, "broken: panic: boom", "goroutine "},
		{"panic with an error", "broken", "GC", `{"cniVersion": "1.1.0", "name": "cni0"}`, false, "1.1.0", CodePanic, "broken: panic: boom", "goroutine "},
		{"panic in a change", "broken", "DEL", request, false, "1.0.0", CodePanic, "broken: panic: runtime error: invalid memory address", "goroutine "},
		{"no JSON", "good", "ADD", `{`, true, "1.1.0", 6, "", ""},
		{"nothing on standard input", "good", "ADD", ``, true, "1.1.0", 6, "", ""},
		{"not an object", "good", "ADD", `[]`, true, "1.1.0", 6, "", ""},
		{"name missing", "good", "ADD", `{"cniVersion": "1.0.0"}`, true, "1.1.0", CodeConfig, "missing network name", ""},
		{"name a number", "good", "ADD", `{"cniVersion": "1.0.0", "name": 5}`, true, "1.1.0", 6, "", ""},
		{"unknown version", "good", "ADD", `{"cniVersion": "7.0.0", "name": "cni0"}`, true, "1.1.0", 1, "incompatible CNI versions", ""},
		{"no version is 0.1.0", "good", "ADD", `{"name": "cni0"}`, true, "0.1.0", CodeConfig, "prevResult: missing", ""},
		{"no prevResult", "good", "ADD", `{"cniVersion": "0.3.1", "name": "cni0"}`, true, "0.3.1", CodeConfig, "prevResult: missing", ""},
		{"no prevResult for CHECK", "good", "CHECK", `{"cniVersion": "1.0.0", "name": "cni0"}`, true, "1.0.0", CodeConfig, "prevResult: missing", ""},
		{"netns not there", "good", "ADD", request, false, "1.0.0", CodeNetns, "CNI_NETNS: open " + noNetns + ": no such file or directory; accepted: the path of a network namespace", ""},
		{"netns not there for CHECK", "good", "CHECK", request, false, "1.0.0", CodeNetns, "CNI_NETNS: open " + noNetns, ""},
		{"long", "long", "ADD", request, true, "1.0.0", CodeConfig, "begin <x> <x>", ""},
		{"long, of more than ASCII", "long", "CHECK", request, true, "1.0.0", types.ErrIOFailure, "begin ä\n", ""},
		{"control characters", "long", "STATUS", `{"cniVersion": "1.1.0", "name": "cni0"}`, false, "1.1.0", types.ErrIOFailure, "exit status 1", ""},
		{"not undone", "undone", "ADD", request, true, "1.0.0", CodeFirewall, "ip do b: boom", "could not be undone: ip do aaa"},
		{"DEL: not found", "missing", "DEL", request, false, "1.0.0", types.ErrIOFailure, "Link missing", ""},
		{"GC: not found", "missing", "GC", `{"cniVersion": "1.1.0", "name": "cni0"}`, false, "1.1.0", CodeFirewall, "rule missing\nip do a: route missing", ""},
		{"an unknown verb", "good", "FROB", request, false, "1.1.0", 4, "unknown CNI_COMMAND: FROB", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := verbEnv(test.verb)
			if test.pod {
				env = netnsEnv(t, test.verb)
			}
			got := start(t, test.plugin, test.stdin, env...).failed(t)
			if got.CNIVersion != test.version || got.Code != test.code || !strings.HasPrefix(got.Msg, test.msg) || !strings.HasPrefix(got.Details, test.details) {
				t.Errorf("got %+v", got)
			}
			if strings.HasPrefix(test.name, "long") && !strings.HasSuffix(got.Msg+got.Details, " end") {
				t.Errorf("the end is cut: %+v", got)
			}
		})
	}
}

// TestMissingVariables: skel names all of them at once.
func TestMissingVariables(t *testing.T) {
	for _, test := range []struct{ verb, without string }{
		{"ADD", "CNI_CONTAINERID"},
		{"ADD", "CNI_IFNAME"},
		{"ADD", "CNI_NETNS"},
		{"ADD", "CNI_PATH"},
		{"CHECK", "CNI_NETNS"},
		{"DEL", "CNI_CONTAINERID"},
		{"DEL", "CNI_IFNAME"},
		{"GC", "CNI_PATH"},
	} {
		t.Run(test.verb+" without "+test.without, func(t *testing.T) {
			t.Parallel()
			var env []string
			for _, e := range verbEnv(test.verb) {
				if !strings.HasPrefix(e, test.without+"=") {
					env = append(env, e)
				}
			}
			got := start(t, "good", request, env...).failed(t)
			if got.Code != 4 || !strings.Contains(got.Msg, test.without) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestBadVariables(t *testing.T) {
	for _, test := range []struct{ verb, name, value string }{
		{"ADD", "CNI_CONTAINERID", "../a"},
		{"CHECK", "CNI_IFNAME", "sixteen-letters-"},
		{"DEL", "CNI_IFNAME", "a/b"},
	} {
		t.Run(test.verb+" with a bad "+test.name, func(t *testing.T) {
			t.Parallel()
			got := start(t, "good", request, append(verbEnv(test.verb), test.name+"="+test.value)...).failed(t)
			if want := fmt.Sprintf("%s: %q: ", test.name, test.value); got.Code != 4 || !strings.HasPrefix(got.Msg, want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestSucceeds: what a verb that does its work leaves on standard output.
func TestSucceeds(t *testing.T) {
	for _, test := range []struct{ name, plugin, verb, stdin, stdout string }{
		{"ADD", "good", "ADD", request, `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.10.20.53/24"}]}`},
		{"CHECK", "good", "CHECK", request, ""},
		{"DEL", "good", "DEL", request, ""},
		{"DEL without prevResult", "good", "DEL", `{"cniVersion": "0.3.1", "name": "cni0"}`, ""},
		{"GC", "good", "GC", `{"cniVersion": "1.1.0", "name": "cni0"}`, ""},
		{"STATUS", "good", "STATUS", `{"cniVersion": "1.1.0", "name": "cni0"}`, ""},
		{"VERSION", "good", "VERSION", `{"cniVersion": "1.0.0"}`, `{"cniVersion": "1.0.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}`},
		{"VERSION, asked nonsense", "good", "VERSION", `x`, `{"cniVersion": "1.1.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}`},
		{"VERSION without anything", "good", "VERSION", ``, `{"cniVersion": "1.1.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := start(t, test.plugin, test.stdin, netnsEnv(t, test.verb)...)
			if got.status != 0 || got.stderr != "" {
				t.Errorf("got %+v", got)
			}
			if test.stdout == "" || got.stdout == "" {
				if got.stdout != test.stdout {
					t.Errorf("got %q", got.stdout)
				}
				return
			}
			if d := cmp.Diff(pretty(t, test.stdout), pretty(t, got.stdout)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// TestAbout: without a verb it says what it is, on standard error, and that is no failure.
func TestAbout(t *testing.T) {
	got := start(t, "good", "")
	if want := (answer{0, "", "CNI good plugin dev: does nothing\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"}); got != want {
		t.Errorf("got %+v", got)
	}
}

// TestOwnNetns: what a DEL would delete in the node's own namespace is the node's.
func TestOwnNetns(t *testing.T) {
	env := verbEnv("ADD")
	env[3] = "CNI_NETNS=/proc/self/ns/net"
	got := start(t, "good", request, env...).failed(t)
	want := failure{"1.0.0", CodeNetns, "CNI_NETNS: /proc/self/ns/net: it is the node's own network namespace; accepted: the pod's", ""}
	if got != want {
		t.Errorf("got %+v", got)
	}
	env[0] = "CNI_COMMAND=DEL"
	if got := start(t, "good", request, env...); got != (answer{}) {
		t.Errorf("DEL: %+v", got)
	}
}
