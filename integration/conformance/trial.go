package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"underlay-cni/integration/lab"
)

// A trial is one run of a row: a node, the containers on it, and what has come up.
type trial struct {
	*Suite
	row     Row
	node    *lab.Node
	version string // of the configurations
	notes   []error
	eth0    *lab.Conflist // the network of the containers' eth0; nil: eth0 is the subject's
	cache   string        // where libcni keeps its results
	made    int           // containers
	first   *container    // of warm
}

func (t *trial) prepare() (err error) {
	t.eth0 = t.First
	if t.cache, err = os.MkdirTemp("", "conformance"); err != nil {
		return err
	}
	if t.node, err = lab.NewNode(lab.Options{}); err != nil || t.row.bare {
		return err
	}
	script := t.Node
	if script == "" {
		script = DefaultNode
	}
	if _, err = t.node.Run("sh", "-ec", script); err != nil {
		return err
	}
	// The kernel adds a route for each IPv6 address once it has a carrier. It may never have one.
	for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		tentative, err := t.node.Run("ip", "-6", "address", "show", "tentative")
		if err != nil || tentative == "" {
			return err
		}
	}
	return nil
}

func (t *trial) close() error {
	err := os.RemoveAll(t.cache)
	if t.node == nil {
		return err
	}
	return errors.Join(err, t.node.Close())
}

// note takes an error for a recommendation that is not met, and nil for nothing.
func (t *trial) note(err error) {
	if err != nil {
		t.notes = append(t.notes, err)
	}
}

// A container is one attachment of a container: a network namespace and a name in it.
type container struct {
	*lab.Pod
	id     string
	netns  string         // CNI_NETNS, also after the namespace is gone
	prev   map[string]any // the result of the plugins before; nil for an interface plugin
	result map[string]any // that of the plugin under test, once it has been added
}

// container makes one with the interface eth0 in mind, or net1 where eth0 is of another network, which it is attached to
// then. Its id looks as those of containerd and CRI-O do.
func (t *trial) container() (*container, error) {
	t.made++
	pod, err := t.node.NewPod(fmt.Sprintf("pod%d", t.made))
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(fmt.Append(nil, t.row.Name, t.made))
	c := &container{Pod: pod, id: hex.EncodeToString(id[:]), netns: pod.Path()}
	if t.eth0 != nil {
		c.IfName = later
	}
	return c, t.addEth0(c)
}

// another is a second attachment of the same container.
func (c *container) another(ifName string) *container {
	return &container{Pod: &lab.Pod{Namespace: c.Namespace, Node: c.Node, IfName: ifName}, id: c.id, netns: c.netns}
}

// stub are the lines of ip(8) for an interface that nobody else knows. Not every kernel has a dummy.
func stub(name, mac string) []string {
	return []string{
		fmt.Sprintf("link add %s address %s type veth peer name p-%[1]s", name, mac),
		fmt.Sprintf("link set p-%s up", name), fmt.Sprintf("link set %s up", name),
	}
}

// A request is one call of a plugin.
type request struct {
	path   string
	stdin  []byte         // if config is nil
	config map[string]any // the configuration of the request
	env    map[string]string
}

// request is the right one for the verb and the plugin under test: with the parameters, and the prevResult, that the
// specification wants. The container may be nil.
func (t *trial) request(verb string, c *container) *request {
	r := t.requestOf(t.Index, verb, c)
	if c == nil {
		return r
	}
	prev := c.result
	switch {
	case verb == "ADD":
		prev = c.prev
	case verb == "DEL" && t.older("0.4.0"):
		prev = nil
	}
	if prev != nil {
		r.config["prevResult"] = prev
	}
	return r
}

func (t *trial) requestOf(i int, verb string, c *container) *request {
	r := &request{config: t.config(i, t.version), env: map[string]string{"CNI_COMMAND": verb, "CNI_PATH": t.cniPath()}}
	r.path, _ = t.find(t.typeOf(i))
	if c != nil {
		r.env["CNI_CONTAINERID"], r.env["CNI_NETNS"], r.env["CNI_IFNAME"] = c.id, c.netns, c.IfName
	}
	return r
}

// with sets a key of the configuration; without takes one away.
func (r *request) with(key string, value any) *request {
	r.config[key] = value
	return r
}

func (r *request) without(key string) *request {
	delete(r.config, key)
	return r
}

// set sets an environment variable; unset takes one away.
func (r *request) set(name, value string) *request {
	r.env[name] = value
	return r
}

func (r *request) unset(name string) *request {
	delete(r.env, name)
	return r
}

// An answer is what a plugin has said, with its exit status.
type answer struct {
	verb   string
	status int
	stdout []byte
	err    error // with standard error, if it has failed
}

// call runs a plugin on the node. Its environment has none of the CNI variables but the request's.
func (t *trial) call(r *request) (*answer, error) {
	stdin := r.stdin
	if r.config != nil {
		var err error
		if stdin, err = json.Marshal(r.config); err != nil {
			return nil, fmt.Errorf("write a configuration: %w", err)
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CNI_") })
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		env = append(env, name+"="+r.env[name])
	}
	return t.exec(r.path, stdin, env)
}

func (t *trial) exec(path string, stdin []byte, env []string) (*answer, error) {
	cmd := exec.Command(path)
	cmd.Env, cmd.Stdin, cmd.WaitDelay = env, bytes.NewReader(stdin), lab.Patience
	a := &answer{}
	for _, v := range env {
		if verb, ok := strings.CutPrefix(v, "CNI_COMMAND="); ok {
			a.verb = verb
		}
	}
	a.stdout, a.err = t.node.Exec(cmd)
	exit := new(exec.ExitError)
	switch {
	case a.err == nil:
	case errors.As(a.err, &exit):
		a.status = exit.ExitCode()
	default:
		return nil, a.err
	}
	return a, nil
}

// do runs the request and wants it to succeed: exit status 0, one JSON object on standard output where the verb has a
// result, and nothing where it has none.
func (t *trial) do(r *request) (map[string]any, error) {
	a, err := t.call(r)
	if err != nil {
		return nil, err
	}
	if a.status != 0 {
		return nil, fmt.Errorf("%s: exit status %d: %w", a.verb, a.status, a.err)
	}
	if a.verb == "ADD" || a.verb == "VERSION" {
		return a.object()
	}
	if len(bytes.TrimSpace(a.stdout)) > 0 {
		return nil, fmt.Errorf("%s: it has no result, but prints %q", a.verb, a.stdout)
	}
	return nil, nil
}

// succeed is do for who does not want the result.
func (t *trial) succeed(r *request) error {
	_, err := t.do(r)
	return err
}

// object is the one JSON object on standard output.
func (a *answer) object() (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(a.stdout))
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return nil, fmt.Errorf("%s: standard output is no JSON object: %w: %q", a.verb, err, a.stdout)
	}
	if object == nil {
		return nil, fmt.Errorf("%s: standard output is null; want a JSON object", a.verb)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: standard output has more than one JSON object: %q", a.verb, a.stdout)
	}
	return object, nil
}

// A fault is an error as a plugin prints it.
type fault struct {
	version string
	code    int
	text    string // message and details
}

// refuse runs the request and wants it to fail as the specification says: exit status not 0, and on standard output
// one error object, whose code is one of those given, if any are.
func (t *trial) refuse(r *request, codes ...int) (*fault, error) {
	a, err := t.call(r)
	if err != nil {
		return nil, err
	}
	if a.status == 0 {
		return nil, fmt.Errorf("%s: exit status 0, want an error; printed %q", a.verb, a.stdout)
	}
	f, err := a.fault()
	if err != nil {
		return nil, err
	}
	if len(codes) > 0 && !slices.Contains(codes, f.code) {
		return f, fmt.Errorf("%s: error code %d, want one of %v: %s", a.verb, f.code, codes, f.text)
	}
	return f, nil
}

// wellKnown are the codes below 100 that have a meaning: those of the specification, and 8 (the network namespace) of
// the library.
var wellKnown = []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51}

func (a *answer) fault() (*fault, error) {
	if a.status < 0 {
		return nil, fmt.Errorf("%s: it did not exit: %w", a.verb, a.err)
	}
	object, err := a.object()
	if err != nil {
		return nil, fmt.Errorf("exit status %d: %w (%w)", a.status, err, a.err)
	}
	code, ok := object["code"].(float64)
	if !ok || code != float64(int(code)) || code <= 0 {
		return nil, fmt.Errorf("%s: the error has no numeric code: %s", a.verb, a.stdout)
	}
	if int(code) < 100 && !slices.Contains(wellKnown, int(code)) {
		return nil, fmt.Errorf("%s: error code %v is reserved by the specification, which gives it no meaning: %s", a.verb, code, a.stdout)
	}
	msg, _ := object["msg"].(string)
	if msg == "" {
		return nil, fmt.Errorf("%s: the error has no msg: %s", a.verb, a.stdout)
	}
	details, ok := object["details"].(string)
	if !ok && object["details"] != nil {
		return nil, fmt.Errorf("%s: details are no text: %s", a.verb, a.stdout)
	}
	version, _ := object["cniVersion"].(string)
	return &fault{version, int(code), msg + " " + details}, nil
}

// before makes a container and runs the plugins before the one under test.
func (t *trial) before() (*container, error) {
	c, err := t.container()
	if err != nil {
		return nil, err
	}
	return c, t.runBefore(c)
}

func (t *trial) runBefore(c *container) (err error) {
	for i := range t.Index {
		r := t.requestOf(i, "ADD", c)
		if c.prev != nil {
			r.config["prevResult"] = c.prev
		}
		if c.prev, err = t.do(r); err != nil {
			return fmt.Errorf("plugin %s, which comes before: %w", t.typeOf(i), err)
		}
	}
	return nil
}

// undoBefore is the DEL of the plugins before the one under test, and of eth0 where that is not the subject's.
func (t *trial) undoBefore(c *container) error {
	for i := t.Index - 1; i >= 0; i-- {
		if err := t.succeed(t.requestOf(i, "DEL", c).with("prevResult", c.result)); err != nil {
			return fmt.Errorf("plugin %s, which comes before: %w", t.typeOf(i), err)
		}
	}
	return t.delEth0(c)
}

func (t *trial) add(c *container) (err error) {
	c.result, err = t.do(t.request("ADD", c))
	return err
}

// attached makes a container and attaches it.
func (t *trial) attached() (*container, error) {
	c, err := t.before()
	if err != nil {
		return nil, err
	}
	return c, t.add(c)
}

// warm attaches a container, which stays: it makes what containers of a network share, and what happens to others is
// none of its business.
func (t *trial) warm() error {
	var err error
	if t.first, err = t.attached(); err != nil {
		return fmt.Errorf("a first container: %w", err)
	}
	return nil
}
