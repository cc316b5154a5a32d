package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A call is one run of this test binary as a plugin that breaks one rule. It stands in front of a plugin that keeps
// them all, which lies beside it as "real".
type call struct {
	verb string
	text []byte         // standard input
	conf map[string]any // nil: it is no JSON object
}

// brokenPrefix begins the names under which the test binary is such a plugin; the rest is the mode.
const brokenPrefix = "broken-"

func broken(mode string) int {
	c := &call{verb: os.Getenv("CNI_COMMAND")}
	var err error
	if c.text, err = io.ReadAll(os.Stdin); err != nil {
		return c.refuse(5, err.Error())
	}
	_ = json.Unmarshal(c.text, &c.conf)
	return modes[mode].plugin(c)
}

// real runs the plugin that keeps the rules.
func (c *call) real() (stdout []byte, status int) {
	cmd := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), "real"))
	if c.conf != nil {
		c.text, _ = json.Marshal(c.conf)
	}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(c.text), os.Stderr
	stdout, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return stdout, exit.ExitCode()
	} else if err != nil {
		return nil, c.refuse(999, err.Error())
	}
	return stdout, 0
}

// pass does as the real one does.
func (c *call) pass() int {
	stdout, status := c.real()
	_, _ = os.Stdout.Write(stdout)
	return status
}

// edit changes the result of ADD, if there is one.
func (c *call) edit(change func(result map[string]any)) int {
	stdout, status := c.real()
	var result map[string]any
	if c.verb != "ADD" || status != 0 || json.Unmarshal(stdout, &result) != nil {
		_, _ = os.Stdout.Write(stdout)
		return status
	}
	change(result)
	return c.print(result)
}

// fault changes the error, if there is one.
func (c *call) fault(change func(fault map[string]any)) int {
	stdout, status := c.real()
	var fault map[string]any
	if status == 0 || json.Unmarshal(stdout, &fault) != nil {
		_, _ = os.Stdout.Write(stdout)
		return status
	}
	change(fault)
	return max(c.print(fault), status)
}

func (c *call) print(v any) int {
	_ = json.NewEncoder(os.Stdout).Encode(v)
	return 0
}

func (c *call) refuse(code int, msg string) int {
	return 1 + c.print(map[string]any{"cniVersion": c.conf["cniVersion"], "code": code, "msg": msg})
}

// ip runs ip(8) on the node.
func (c *call) ip(args ...string) error { return exec.Command("ip", args...).Run() }

// inPod runs ip(8) in the container.
func (c *call) inPod(args ...string) error {
	return exec.Command("nsenter", append([]string{"--net=" + os.Getenv("CNI_NETNS"), "ip"}, args...)...).Run()
}

// prev are the interfaces of prevResult.
func (c *call) prev() []map[string]any {
	prev, _ := c.conf["prevResult"].(map[string]any)
	list, _ := prev["interfaces"].([]any)
	var interfaces []map[string]any
	for _, v := range list {
		i, _ := v.(map[string]any)
		interfaces = append(interfaces, i)
	}
	return interfaces
}

func (c *call) knows(name string) bool {
	return slices.ContainsFunc(c.prev(), func(i map[string]any) bool { return i["name"] == name })
}

// marker is a file for what a mode remembers of a container.
func marker(of string) string { return "/run/" + of + os.Getenv("CNI_CONTAINERID") }

func mark(of string) { _ = os.WriteFile(marker(of), nil, 0o600) }

func marked(of string) bool {
	_, err := os.Stat(marker(of))
	return err == nil
}

// only breaks a rule for one verb.
func only(verb string, plugin func(*call) int) func(*call) int {
	return func(c *call) int {
		if c.verb != verb {
			return c.pass()
		}
		return plugin(c)
	}
}

func succeeds(*call) int { return 0 }

func fails(c *call) int { return c.refuse(999, "never") }

// when refuses what it is told to.
func when(verb string, refused func(*call) bool) func(*call) int {
	return only(verb, func(c *call) int {
		if refused(c) {
			return c.refuse(7, "link not found")
		}
		return c.pass()
	})
}

// result breaks a rule about what ADD prints.
func edited(change func(result map[string]any)) func(*call) int {
	return func(c *call) int { return c.edit(change) }
}

// prefixed appends to a list of a result.
func grow(result map[string]any, key string, v map[string]any) {
	list, _ := result[key].([]any)
	result[key] = append(list, v)
}

func noNetns(*call) bool {
	return exec.Command("nsenter", "--net="+os.Getenv("CNI_NETNS"), "true").Run() != nil
}

func noHostEnd(c *call) bool {
	return slices.ContainsFunc(c.prev(), func(i map[string]any) bool {
		name, _ := i["name"].(string)
		_, err := net.InterfaceByName(name)
		return i["sandbox"] == nil && err != nil
	})
}

// fillIn makes up what the caller has left out.
func fillIn(c *call) int {
	for name, value := range map[string]string{"CNI_CONTAINERID": "x", "CNI_NETNS": "/proc/self/ns/net", "CNI_IFNAME": "eth0"} {
		if os.Getenv(name) == "" && c.verb != "GC" && c.verb != "STATUS" && c.verb != "VERSION" {
			_ = os.Setenv(name, value)
			return 0
		}
	}
	return c.pass()
}

// exclusive refuses to work for two containers at once.
func exclusive(c *call) int {
	const lock = "/run/broken.lock"
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return c.refuse(11, "somebody else is at it")
	}
	defer func() { _ = f.Close(); _ = os.Remove(lock) }()
	return c.pass()
}

// remembers fails a DEL for what was not added, or was deleted already.
func remembers(c *call) int {
	switch {
	case c.verb == "ADD":
		mark("added")
	case c.verb == "DEL" && !marked("added"):
		return c.refuse(3, "container not found")
	case c.verb == "DEL":
		_ = os.Remove(marker("added"))
	}
	return c.pass()
}

// leaks leaves a route behind when an ADD fails.
func leaks(c *call) int {
	stdout, status := c.real()
	if c.verb == "ADD" && status != 0 {
		_ = c.ip("route", "add", fmt.Sprintf("203.0.113.%d", os.Getpid()%250), "dev", "lo")
	}
	_, _ = os.Stdout.Write(stdout)
	return status
}

// spoils changes something where it should only look.
func spoils(c *call) int {
	_ = c.ip("route", "add", "203.0.113.9", "dev", "lo")
	return c.pass()
}

// timeless takes every version for the newest.
func timeless(c *call) int {
	if prev, ok := c.conf["prevResult"].(map[string]any); ok && c.verb != "ADD" {
		prev["cniVersion"] = "1.1.0"
	}
	if c.verb != "ADD" {
		c.conf["cniVersion"] = "1.1.0"
	}
	return c.pass()
}

// choosy refuses a key without saying which.
func choosy(c *call) int {
	for key := range c.conf {
		if strings.HasPrefix(key, "cni.dev/e") || key == "conformanceExample" {
			return c.refuse(2, "a key is not known")
		}
	}
	return c.pass()
}
