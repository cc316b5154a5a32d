package conformance

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A mode is a way to break one rule, and the rows that must notice. With of "" the plugin behind it is veth-host.
type mode struct {
	of     string
	rows   []string
	plugin func(*call) int
}

// modes are all of them, by the name that the test binary has then.
var modes = map[string]mode{
	"version-empty": {"", []string{"VERSION/answer"}, only("VERSION", func(c *call) int { return c.print(map[string]any{"cniVersion": "1.1.0"}) })},
	"version-newest": {
		"",
		[]string{"VERSION/cniVersion is that of the input/0.4.0"},
		only("VERSION", func(c *call) int { c.conf["cniVersion"] = "1.1.0"; return c.pass() }),
	},
	"version-few": {
		"",
		[]string{"VERSION/a version that is not listed is refused with code 1", "VERSION/the versions of the configuration are listed"},
		only("VERSION", func(c *call) int {
			return c.print(map[string]any{"cniVersion": "1.1.0", "supportedVersions": []string{"1.1.0"}})
		}),
	},
	"any-command": {"", []string{"input/unknown CNI_COMMAND"}, only("FOO", succeeds)},
	"no-command":  {"", []string{"input/no CNI_COMMAND"}, only("", func(c *call) int { return c.print(map[string]any{}) })},
	"fill-in": {"", []string{
		"input/ADD without CNI_CONTAINERID", "input/ADD without CNI_NETNS", "input/ADD without CNI_IFNAME",
		"input/CHECK without CNI_CONTAINERID", "input/CHECK without CNI_NETNS", "input/CHECK without CNI_IFNAME",
		"input/DEL without CNI_CONTAINERID", "input/DEL without CNI_IFNAME",
	}, fillIn},
	"error-nameless": {
		"",
		[]string{"input/bad CNI_CONTAINERID", "input/bad CNI_IFNAME"},
		func(c *call) int { return c.fault(func(f map[string]any) { f["msg"] = "bad characters" }) },
	},
	"no-json": {"", []string{"input/no JSON"}, func(c *call) int {
		if c.conf == nil {
			return 0
		}
		return c.pass()
	}},
	"any-name": {"", []string{"input/bad network name"}, only("ADD", func(c *call) int { c.conf["name"] = "x"; return c.pass() })},
	"choosy":   {"", []string{"input/keys of the protocol", "input/unknown key"}, choosy},
	"no-args": {
		"",
		[]string{"input/CNI_ARGS with IgnoreUnknown", "input/CNI_ARGS that nobody knows"},
		when("ADD", func(*call) bool { return os.Getenv("CNI_ARGS") != "" }),
	},
	"error-text": {"", []string{"error/object"}, func(c *call) int {
		_, status := c.real()
		if status != 0 {
			_, _ = os.Stdout.WriteString("it did not work\n")
		}
		return status
	}},
	"error-reserved":    {"", []string{"error/object"}, func(c *call) int { return c.fault(func(f map[string]any) { f["code"] = 42 }) }},
	"error-success":     {"", []string{"ADD/an impossible one is refused"}, func(c *call) int { _ = c.pass(); return 0 }},
	"error-version":     {"", []string{"error/cniVersion/0.3.1"}, func(c *call) int { return c.fault(func(f map[string]any) { delete(f, "cniVersion") }) }},
	"result-version":    {"", []string{"result/object/0.4.0"}, edited(func(r map[string]any) { r["cniVersion"] = "1.0.0" })},
	"result-twice":      {"", []string{"result/object/1.1.0"}, only("ADD", func(c *call) int { return c.edit(func(r map[string]any) { c.print(r) }) })},
	"result-family":     {"", []string{"result/object/0.2.0"}, edited(func(r map[string]any) { r["ip4"] = r["ip6"] })},
	"result-index":      {"", []string{"result/object/1.0.0"}, edited(func(r map[string]any) { grow(r, "ips", map[string]any{"address": "192.0.2.1/32", "interface": 9}) })},
	"result-new":        {"", []string{"result/prevResult is kept/1.0.0", "result/it has the interface of CNI_IFNAME"}, edited(func(r map[string]any) { delete(r, "interfaces"); delete(r, "ips") })},
	"result-dns":        {"", []string{"result/prevResult is kept/0.2.0"}, edited(func(r map[string]any) { delete(r, "dns") })},
	"result-ghost":      {"", []string{"result/its interfaces exist"}, edited(func(r map[string]any) { grow(r, "interfaces", map[string]any{"name": "ghost0"}) })},
	"result-address":    {"", []string{"result/its addresses exist"}, edited(func(r map[string]any) { grow(r, "ips", map[string]any{"address": "192.0.2.1/32", "interface": 0}) })},
	"result-route":      {"", []string{"result/its routes exist"}, edited(func(r map[string]any) { grow(r, "routes", map[string]any{"dst": "192.0.2.0/24"}) })},
	"result-first":      {"", []string{"result/a prevResult that begins with interfaces of the host"}, edited(firstInterface)},
	"result-own":        {"macvlan", []string{"result/an interface plugin keeps prevResult"}, (*call).pass},
	"add-replaces":      {"macvlan", []string{"ADD/an interface of the name exists"}, only("ADD", func(c *call) int { _ = c.inPod("link", "del", "eth0"); return c.pass() })},
	"add-own-name":      {"macvlan", []string{"ADD/another interface name"}, only("ADD", func(c *call) int { _ = os.Setenv("CNI_IFNAME", "eth0"); return c.pass() })},
	"add-once":          {"macvlan", []string{"ADD/a second attachment of the container"}, only("ADD", func(c *call) int { defer mark("once"); return addOnce(c) })},
	"add-exclusive":     {"", []string{"ADD/many containers at once"}, only("ADD", exclusive)},
	"add-leaks":         {"", []string{"ADD/a failed one leaves nothing", "ADD/a failed one leaves nothing after DEL"}, leaks},
	"check-blind":       {"", []string{"CHECK/without prevResult", "CHECK/an interface is missing", "CHECK/a route is missing", "CHECK/the container is unreachable"}, only("CHECK", succeeds)},
	"check-no-ips":      {"macvlan", []string{"CHECK/an address is missing"}, only("CHECK", succeeds)},
	"check-spoils":      {"", []string{"CHECK/it changes nothing"}, only("CHECK", spoils)},
	"check-jealous":     {"", []string{"CHECK/a later plugin has changed things"}, when("CHECK", func(c *call) bool { return c.knows("later0") })},
	"check-never":       {"", []string{"CHECK/immediately after ADD/1.0.0", "callers/CRI-O", "callers/cnitool"}, only("CHECK", fails)},
	"timeless":          {"", []string{"CHECK/it does not exist before 0.4.0", "GC/it does not exist before 1.1.0", "STATUS/it does not exist before 1.1.0"}, timeless},
	"del-nothing":       {"", []string{"DEL/the node is as it was/0.3.1", "DEL/a later plugin's part of prevResult", "callers/Multus", "callers/containerd"}, only("DEL", succeeds)},
	"del-nothing-pod":   {"macvlan", []string{"DEL/the container is as it was"}, only("DEL", succeeds)},
	"later-del-nothing": {"router", []string{"DEL/the node is as it was/0.3.1", "callers/Multus"}, only("DEL", succeeds)},
	"later-del-default": {"router", []string{"callers/Multus"}, only("DEL", func(c *call) int { defer func() { _ = c.inPod("route", "del", "default") }(); return c.pass() })},
	"later-gc-nothing":  {"router", []string{"GC/what is not in the list goes"}, only("GC", succeeds)},
	"later-add-once":    {"router", []string{"ADD/a second attachment of the container"}, only("ADD", func(c *call) int { defer mark("once"); return addOnce(c) })},
	"del-prints":        {"", []string{"DEL/the node is as it was/1.1.0"}, only("DEL", func(c *call) int { defer c.print(c.conf["prevResult"]); return c.pass() })},
	"del-others":        {"", []string{"DEL/the node is as it was/1.0.0"}, only("DEL", func(c *call) int { _ = c.ip("rule", "del", "pref", "512"); return c.pass() })},
	"del-remembers":     {"", []string{"DEL/again", "DEL/of what was never added", "callers/containerd"}, remembers},
	"del-netns": {"", []string{
		"DEL/without CNI_NETNS", "DEL/CNI_NETNS is empty", "DEL/CNI_NETNS does not exist any more", "DEL/CNI_NETNS is a plain file",
		"DEL/without netns and prevResult", "callers/containerd",
	}, when("DEL", noNetns)},
	"del-prev":      {"", []string{"DEL/without prevResult", "DEL/prevResult is null"}, when("DEL", func(c *call) bool { return c.conf["prevResult"] == nil })},
	"del-interface": {"", []string{"DEL/the interface is gone"}, when("DEL", func(c *call) bool { return c.inPod("link", "show", os.Getenv("CNI_IFNAME")) != nil })},
	"del-host-end":  {"", []string{"DEL/its interfaces on the node are gone"}, when("DEL", noHostEnd)},
	"del-jealous":   {"", []string{"DEL/a later plugin's part of prevResult"}, when("DEL", func(c *call) bool { return c.knows("later0") })},
	"gc-greedy": {
		"",
		[]string{"GC/what is valid stays", "callers/CRI-O"},
		only("GC", func(c *call) int { c.conf[validAttachments] = []any{}; return c.pass() }),
	},
	greedyWithoutList: {"", []string{"GC/null for a list", "GC/no list"}, only("GC", func(c *call) int {
		if c.conf[validAttachments] == nil {
			c.conf[validAttachments] = []any{}
		}
		return c.pass()
	})},
	"gc-nothing": {"", []string{"GC/what is not in the list goes", "GC/an empty list"}, only("GC", succeeds)},
	"gc-list":    {"", []string{"GC/null for a list", "GC/no list", "callers/cnitool"}, when("GC", func(c *call) bool { return c.conf[validAttachments] == nil })},
	"gc-all": {"", []string{"GC/another network"}, only("GC", func(c *call) int {
		name, _ := c.conf["name"].(string)
		c.conf["name"] = strings.TrimSuffix(name, "-other")
		return c.pass()
	})},
	"gc-never":      {"", []string{"GC/on a fresh node", "GC/DEL after it"}, only("GC", fails)},
	"status-never":  {"", []string{"STATUS/ready"}, only("STATUS", fails)},
	"status-always": {"", []string{"STATUS/not ready"}, only("STATUS", succeeds)},
	"status-spoils": {"", []string{"STATUS/it changes nothing"}, only("STATUS", spoils)},
}

// greedyWithoutList is what the specification does not forbid in so many words: its rows note it.
const greedyWithoutList = "gc-greedy-without-list"

// firstInterface takes the container's interface for the first of the result.
func firstInterface(result map[string]any) {
	list, _ := result["ips"].([]any)
	for _, v := range list {
		if ip, ok := v.(map[string]any); ok {
			ip["interface"] = 0
		}
	}
}

func addOnce(c *call) int {
	if marked("once") {
		return c.refuse(101, "one attachment in a container")
	}
	return c.pass()
}

// TestRowsNotice breaks every rule that has a row: a suite that passes whatever happens would prove nothing. What a
// plugin must do has to fail then, and what it should do has to be noted.
func TestRowsNotice(t *testing.T) {
	if *flags.plugin != "" {
		t.Skip("-plugin asks for another one")
	}
	rows := map[string]Row{}
	untested := map[string]bool{}
	for _, row := range Rows() {
		rows[row.Name] = row
		untested[plain(row.Name)] = true
	}
	for mode, m := range modes {
		for _, row := range m.rows {
			delete(untested, plain(row))
		}
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			suite := brokenSuite(t, mode, m)
			for _, name := range m.rows {
				row, ok := rows[name]
				if !ok {
					t.Fatalf("there is no row %s", name)
				}
				t.Run(name, func(t *testing.T) {
					want := Noted
					if row.Level == Must && mode != greedyWithoutList {
						want = Failed
					}
					if v := suite.Run(row); v.Outcome != want {
						t.Errorf("%s, want %s: %s", v.Outcome, want, v.Reason)
					} else {
						t.Log(v.Reason)
					}
				})
			}
		})
	}
	for row := range untested {
		t.Errorf("no mode breaks %s", row)
	}
}

// plain is the name of a row without the version.
func plain(row string) string {
	if slices.Contains(Versions, path.Base(row)) {
		return path.Dir(row)
	}
	return row
}

// brokenSuite puts the test binary in the place of the plugin, in front of the real one.
func brokenSuite(t *testing.T, name string, m mode) *Suite {
	t.Helper()
	i := slices.IndexFunc(subjects, func(s subject) bool { return s.name == cmp.Or(m.of, "veth-host") })
	s := subjects[i].subject(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plugin := filepath.Join(dir, brokenPrefix+name)
	for to, from := range map[string]string{plugin: self, filepath.Join(dir, "real"): s.Path} {
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	s.Path = plugin
	suite, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return suite
}
