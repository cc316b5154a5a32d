package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"underlay-cni/integration/lab"
)

// TestTrust04: names that root of a pod chooses, for interfaces and in rules, are words for a shell, in a plan that is run and in
// each line that is there to be typed; and no terminal sees more of them than text.
func TestTrust04(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	p := w.routed(t, "a", "net1")
	w.sh(t, p.Pod, `{pod} ip link property add dev net1 altname 'router.pod.deadbeef.cafebabe.$(touch${IFS}pwned)'
		{pod} ip link property add dev net1 altname "$(printf 'router.pod.deadbeef.cafebabf.\033[2J\033]0;x\007')"
		{pod} ip link property add dev net1 altname "$(printf "router.pod.deadbeef.cafebac0.'\"\\302\\2332J")"
		{pod} ip rule add pref 700 iif '$(touch${IFS}p)' fwmark 0x7fffffff
		{pod} ip -6 rule add pref 701 iif "$(printf '\033[2J')" fwmark 0x7fffffff`)
	conf := strings.TrimSpace(w.sh(t, nil, `grep -l '"router"' `+confDir+"/* | head -n 1"))
	netns := []string{"--netns", p.Path(), "--ifname", "net1"}
	for _, args := range [][]string{
		append([]string{"plan", "--conf", conf}, netns...),
		{"diagnose"},
		append([]string{"diagnose"}, netns...),
		{"diagnose", "-v"},
		{"gc", "-v"},
		{"uninstall", "-v"},
		{"diagnose", "-o", "json"},
		{"uninstall", "-o", "json"},
		{"plan", "--conf", "/\x1b[2J"},
		{"\u009b2J"},
	} {
		a := w.ctl(t, args...)
		all := a.stdout + a.stderr
		if strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(all), func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			t.Errorf("%q: what is no text reaches the terminal: %q", args, all)
		}
		if args[0] == "plan" && args[2] == conf && !strings.Contains(all, `'router.pod.deadbeef.cafebabe.$(touch${IFS}pwned)'`) {
			t.Errorf("the plan has nothing of the pod's name: the test says nothing\n%s", all)
		}
		typed := a.stdout
		if args[0] == "diagnose" { // a table; below it the lines to type
			typed = ""
			for line := range strings.Lines(a.stdout) {
				if strings.HasPrefix(line, "    ") {
					typed += strings.TrimLeft(line, " #")
				}
			}
		}
		if args[len(args)-1] == "json" || args[0] == "gc" || args[0] == "uninstall" {
			typed = ""
			for line := range strings.Lines(a.stdout) {
				if strings.Contains(line, "nsenter ") && strings.Contains(line, "touch") && args[len(args)-1] == "-v" {
					typed += line
				}
			}
		}
		dir := t.TempDir()
		w.script(t, "cd "+dir+"\n"+typed)
		for _, name := range []string{"pwned", "p"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%q: a line that is typed has run a command of the pod", args)
			}
		}
	}
}

// TestTrust04Lint: what a tenant writes, and how its file is called, is text.
func TestTrust04Lint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	file := filepath.Join(t.TempDir(), "a\x1b]0;x\a\u202e\n.conflist")
	for _, text := range []string{
		"{\"cniVersion\": \"1.0.0\", \"name\": \"a\\u001b[2J\\u009b\", \"plugins\": [{\"type\": \"veth\", \"rp_filter\": \"\\u001b[2J\\n\\u202e\", \"\\u001bx\": 1}]}",
		"kind: NetworkAttachmentDefinition\nspec:\n  config: \x1b[2J\u009b\xff\n", "{\x1b", "{\"a\": \u009b}",
	} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		for _, args := range [][]string{{"lint", file}, {"lint", "-o", "json", file}} {
			a := w.ctl(t, args...)
			if all := strings.ReplaceAll(a.stdout+a.stderr, "\n", ""); all == "" || strings.ContainsFunc(all, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
				t.Errorf("%q: %q", text, all)
			}
			if lines := strings.Count(a.stdout, "\n"); args[1] == file && lines > 6 {
				t.Errorf("%q: %d lines:\n%s", text, lines, a.stdout)
			}
		}
	}
}
