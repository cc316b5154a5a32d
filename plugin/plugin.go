// Package plugin carries one CNI request from standard input to standard output, the same way for every
// plugin of the project: it reads the request, makes sure that the pod's network namespace is not the
// node's, lets the plugin compute a plan of changes, applies it or takes it back, and prints exactly one
// JSON object.
//
// A plugin is a Plugin value. Its functions look at the kernel and compute; only this package applies.
package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
	"underlay-cni/conflist/quote"
)

// Version is the release, set by the linker.
var Version = "dev"

// A Plugin is what one binary does. Its functions change nothing but the request's Result: they return
// what is to be changed.
type Plugin struct {
	Name  string
	About string // one line: what it is for

	// Skip tells from the configuration alone that ADD passes prevResult on as it is, and CHECK has nothing to check:
	// it is asked before anything is looked at. Nil: never.
	Skip func(config []byte) bool
	// Add plans the attachment and completes the request's Result.
	Add func(*Request) (*Plan, error)
	// Check plans the attachment as it should be by now. The Result is nobody's.
	Check func(*Request) (*Plan, error)
	// Del plans removals, every one of which is tried. What it could plan counts even beside an error.
	Del func(*Request) (*Plan, error)
	// GC plans removals, as Del does.
	GC func(*Request) (*Plan, error)
	// Status tells whether an ADD could succeed.
	Status func(*Request) error
}

// Main runs the plugin as the process that a container runtime starts, and returns its exit status.
func Main(p Plugin) (status int) {
	m := run{Plugin: p}
	defer func() {
		if r := recover(); r != nil {
			status = m.fail(types.NewError(CodePanic, fmt.Sprintf("%s: panic: %v", p.Name, r), string(debug.Stack())))
		}
	}()
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		return m.versions()
	}
	if err := checkVariables(); err != nil {
		return m.fail(err)
	}
	// skel compares the namespaces only after the work is done, and then prints a second JSON object;
	// newRequest compares them first.
	if err := os.Setenv("CNI_NETNS_OVERRIDE", "1"); err != nil {
		return m.fail(err)
	}
	if err := m.readable(); err != nil {
		return m.fail(err)
	}
	funcs := skel.CNIFuncs{
		Add:    m.verb("ADD", needsPod|needsResult, m.add),
		Check:  m.verb("CHECK", needsPod|needsResult, m.check),
		Del:    m.verb("DEL", 0, m.del),
		GC:     m.verb("GC", 0, m.gc),
		Status: m.verb("STATUS", 0, m.Status),
	}
	about := fmt.Sprintf("CNI %s plugin %s: %s", p.Name, Version, p.About)
	// A nil *types.Error in an error would not be nil.
	if err := skel.PluginMainFuncsWithError(funcs, version.All, about); err != nil {
		return m.fail(err)
	}
	return 0
}

// readable looks at the configuration before skel does, which says of text that is not JSON no more than the first
// character that is wrong: people write comments, and look for the line. skel gets the same text to read.
func (*run) readable() error {
	if command := os.Getenv("CNI_COMMAND"); command == "" || command == "VERSION" {
		return nil // skel reads nothing then
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return types.NewError(types.ErrIOFailure, "read the configuration: "+err.Error(), "")
	}
	if err := conflist.Valid(text); err != nil {
		return types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return types.NewError(types.ErrIOFailure, "pass the configuration on: "+err.Error(), "")
	}
	go func() {
		_, _ = w.Write(text)
		_ = w.Close()
	}()
	os.Stdin = r
	return nil
}

// A run is one call of Main.
type run struct {
	Plugin
	version string // cniVersion of the request, once known
}

// versions answers VERSION in the version in which it is asked. skel answers in its newest one, whatever the question.
// Nobody has to ask: a caller that writes nothing, and keeps standard input open, waits a moment.
func (m *run) versions() int {
	const moment = 500 // milliseconds
	conf := struct {
		CNIVersion string `json:"cniVersion"`
	}{version.Current()}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}}, moment); err == nil && n > 0 {
		_ = json.NewDecoder(os.Stdin).Decode(&conf) // what is no version is no question
	}
	err := json.NewEncoder(os.Stdout).Encode(map[string]any{
		"cniVersion": conf.CNIVersion, "supportedVersions": version.All.SupportedVersions(),
	})
	if err != nil {
		return m.fail(err)
	}
	return 0
}

// checkVariables makes sure that what names the attachment is well-formed. skel does the same, in words that leave out
// which variable is meant. What is missing is left to skel.
func checkVariables() error {
	switch os.Getenv("CNI_COMMAND") {
	case "ADD", "CHECK", "DEL":
	default:
		return nil
	}
	for _, v := range []struct {
		name     string
		validate func(string) *types.Error
	}{{"CNI_CONTAINERID", utils.ValidateContainerID}, {"CNI_IFNAME", utils.ValidateInterfaceName}} {
		value := os.Getenv(v.name)
		if err := v.validate(value); value != "" && err != nil {
			return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("%s: %q: %s", v.name, value, err.Msg), err.Details)
		}
	}
	// A DEL is refused nothing more than skel refuses: the pod would never go.
	if name := os.Getenv("CNI_IFNAME"); name != "" && os.Getenv("CNI_COMMAND") != "DEL" {
		if err := conflist.ValidInterfaceName(name); err != nil {
			return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_IFNAME: %q: %v", name, err), "")
		}
	}
	return nil
}

// verb reads the request and does what is asked for. Nobody closes what the request opened: the process
// ends with it.
func (m *run) verb(name string, needs need, do func(*Request) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		start := time.Now()
		if m.Skip != nil && needs != 0 && m.Skip(args.StdinData) {
			return m.pass(name, args.StdinData)
		}
		r, err := newRequest(name, args, needs)
		m.version = r.Version
		if err == nil {
			err = do(r)
		}
		r.logVerb(time.Since(start), err)
		if err != nil {
			return toCNI(err) // skel gives any other kind of error the code of a bug
		}
		return nil
	}
}

func (m *run) add(r *Request) error {
	if err := r.lockPod(); err != nil {
		return err
	}
	plan, err := m.Add(r)
	if err != nil {
		return err
	}
	if err := plan.apply(r.log); err != nil {
		return err
	}
	out, err := r.marshalResult()
	if err != nil {
		return errors.Join(err, plan.revert(r.log))
	}
	if err := write(out); err != nil { // the runtime takes the ADD for one that failed
		return errors.Join(err, plan.revert(r.log))
	}
	return nil
}

// pass prints prevResult as it came, which is in the version of the configuration.
func (m *run) pass(verb string, config []byte) error {
	var conf struct {
		CNIVersion string          `json:"cniVersion"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(config, &conf); err != nil {
		return toCNI(Errorf(CodeConfig, "decode the configuration: %w", err))
	}
	m.version = conf.CNIVersion
	if len(conf.PrevResult) == 0 || string(conf.PrevResult) == "null" {
		return toCNI(errNoPrevResult)
	}
	if verb != "ADD" {
		return nil
	}
	return write(append(conf.PrevResult, '\n'))
}

func (m *run) check(r *Request) error {
	r.keepRules()
	plan, err := m.Check(r)
	if err != nil {
		return err
	}
	return plan.Verify()
}

func (m *run) del(r *Request) error {
	if err := r.lockPod(); err != nil { // what holds it may be stopped, and a DEL must not depend on that
		r.Warn("goes on without the lock: " + err.Error())
	}
	r.keepRules()
	plan, err := m.Del(r)
	return quiet(errors.Join(err, plan.applyAll(r.log)))
}

// keepRules has each namespace list its rules once.
func (r *Request) keepRules() {
	r.Node.KeepRules()
	if r.Pod != nil {
		r.Pod.KeepRules()
	}
}

func (m *run) gc(r *Request) error {
	plan, err := m.GC(r)
	return quiet(errors.Join(err, plan.applyAll(r.log)))
}

// quiet keeps the words out of an error of a DEL that containerd takes for success: it swallows the
// error, and the address leaks.
func quiet(err error) error {
	if err == nil || !strings.Contains(err.Error(), "not found") {
		return err
	}
	e := toCNI(err)
	e.Msg = strings.ReplaceAll(e.Msg, "not found", "missing")
	e.Details = strings.ReplaceAll(e.Details, "not found", "missing")
	return e
}

// fail prints an error as the CNI specification wants it: one JSON object, with the cniVersion that
// types.Error leaves out.
func (m *run) fail(err error) int {
	if m.version == "" {
		m.version = version.Current()
	}
	e := toCNI(err)
	msg, details := quote.Lines(e.Msg), quote.Lines(e.Details) // callers print them to terminals
	if details == "" && len(msg) > most {                      // a list of differences, say, has room in both
		msg, details = msg[:most], msg[most:]
	}
	msg, details = shorten(strings.ToValidUTF8(msg, ""), most), shorten(strings.ToValidUTF8(details, ""), 700-most)
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	printErr := enc.Encode(struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details,omitempty"`
	}{m.version, e.Code, msg, details})
	if printErr == nil {
		printErr = write(text.Bytes())
	}
	if printErr != nil {
		_, _ = unix.Write(unix.Stderr, []byte(quote.Line(err.Error())+"\n"))
	}
	return 1
}

// writePatience is how long a reader of standard output may read nothing.
const writePatience = 10_000 // milliseconds

// write writes to standard output. Where nobody reads any more, or for too long, that is an error like that of a full disk. Not
// package os: there a pipe that nobody has open (EPIPE) ends the process, with everything half done.
func write(text []byte) error {
	for len(text) > 0 {
		ready := []unix.PollFd{{Fd: int32(unix.Stdout), Events: unix.POLLOUT}}
		switch n, err := unix.Poll(ready, writePatience); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("write the result: %w", err)
		case n == 0:
			return fmt.Errorf("write the result: %w", unix.ETIMEDOUT)
		}
		// A pipe that is ready takes a page without waiting (PIPE_BUF, pipe(7)).
		n, err := unix.Write(unix.Stdout, text[:min(len(text), 4096)])
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("write the result: %w", err)
		}
		text = text[max(n, 0):]
	}
	return nil
}

// most is how many bytes of a message are printed; together with the details they stay below 700.
const most = 440

// shorten cuts a text to a number of bytes, in the middle: libcni hides stderr, and an operator's
// terminal shows what is at either end.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := " … "
	n -= len(cut)
	return strings.ToValidUTF8(s[:n*2/3], "") + cut + strings.ToValidUTF8(s[len(s)-n/3:], "")
}
