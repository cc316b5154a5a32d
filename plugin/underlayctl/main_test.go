package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"underlay-cni/plugin"
)

// ctl runs a command line in this process.
func ctl(args ...string) answer {
	var stdout, stderr bytes.Buffer
	status := run(args, &stdout, &stderr)
	return answer{status, stdout.String(), stderr.String()}
}

func TestHelp(t *testing.T) {
	for _, name := range commandNames() {
		for _, args := range [][]string{{"help", name}, {name, "--help"}, {name, "-h"}} {
			a := ctl(args...).want(t, statusFine)
			if !strings.HasPrefix(a.stdout, "usage: underlayctl "+name) || !strings.Contains(a.stdout, "-o format") {
				t.Errorf("%v: %s", args, a.stdout)
			}
		}
	}
	if a := ctl("help").want(t, statusFine); !strings.Contains(a.stdout, "exit status:") {
		t.Error(a.stdout)
	}
	if a := ctl().want(t, statusUsage); !strings.Contains(a.stderr, "exit status:") {
		t.Error(a.stderr)
	}
	if a := ctl("destroy").want(t, statusUsage); a.stderr != "underlayctl: destroy: no such command; accepted: plan, diagnose, gc, uninstall, lint, version\n" {
		t.Error(a.stderr)
	}
}

func TestVersion(t *testing.T) {
	if a := ctl("version").want(t, statusFine); a.stdout != plugin.Version+"\n" {
		t.Error(a.stdout)
	}
	if got := decode[map[string]string](t, ctl("version", "-o", "json")); got["version"] != plugin.Version {
		t.Error(got)
	}
}

func TestLint(t *testing.T) {
	examples, err := filepath.Glob("../../conflist/examples/*")
	must(t, err)
	if len(examples) == 0 {
		t.Fatal("no examples")
	}
	if a := ctl(append([]string{"lint"}, examples...)...).want(t, statusFine); a.stdout != "" {
		t.Error(a.stdout)
	}
	bad := filepath.Join(t.TempDir(), "bad.conflist")
	must(t, os.WriteFile(bad, []byte("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"plugins\": [\n{\"type\": \"veth-host\", \"hostInterface\": \"e\", \"containerInterface\": \"veth0\", \"mtuu\": 9}]}"), 0o600))
	a := ctl("lint", bad).want(t, statusFound)
	if want := bad + ": line 2: plugins[0].mtuu: 9: unknown key, did you mean"; !strings.Contains(a.stdout, want) {
		t.Errorf("no %q in %s", want, a.stdout)
	}
	type findings struct {
		Findings []remark `json:"findings"`
	}
	got := decode[findings](t, ctl("lint", "-o", "json", bad).want(t, statusFound))
	if len(got.Findings) != 2 || got.Findings[1].File != bad || got.Findings[1].Line != 2 || got.Findings[1].Key != "plugins[0].mtuu" {
		t.Errorf("got %+v", got)
	}
	if got := decode[findings](t, ctl("lint", "-o", "json", examples[0]).want(t, statusFine)); got.Findings == nil || len(got.Findings) > 0 {
		t.Errorf("got %+v", got)
	}
	for want, args := range map[string][]string{
		"FILE: missing; accepted: conflists":                               {"lint"},
		"FILE: open /nowhere: no such file or directory; accepted: confli": {"lint", "/nowhere"},
	} {
		if a := ctl(args...).want(t, statusUsage); !strings.Contains(a.stderr, want) {
			t.Errorf("no %q in %s", want, a.stderr)
		}
	}
}

// TestLintDefinitions: the configuration in a NetworkAttachmentDefinition is looked at as it is, and a line is one of the file.
func TestLintDefinitions(t *testing.T) {
	const (
		head   = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: n\nspec:\n"
		before = `{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "macvlan"},`
		bad    = `{"type": "veth", "service_hijack_subnet": ["10.1.0.0/16"], "overlay_hijack_subnet": ["10.2.0.0/16"], "migrate_rout": 1}]}`
	)
	const unknown = "plugins[1].migrate_rout: 1: unknown key, did you mean"
	for name, test := range map[string]struct {
		text string
		want string // "": nothing is wrong
	}{
		"a conflist":           {before + bad, unknown},
		"a block":              {head + "  config: |\n    " + before + "\n    " + bad + "\n", "line 8: " + unknown},
		"a block that strips":  {head + "  config: |-\n    " + before + "\n\n    " + bad + "\n", "line 9: " + unknown},
		"single quotes":        {head + "  config: '" + before + "\n    " + bad + "'\n", "line 7: " + unknown},
		"the second of a file": {"---\n" + head + "  config: ''\n---\nkind: Pod\nspec:\n  config: x\n---\n" + head + "  config: |\n    " + before + "\n    " + bad, "line 20: " + unknown},
		"double quotes":        {head + `  config: "{\"type\": \"veth\"}"` + "\n", "line 6: spec.config: \"{"},
		"none":                 {head + "  x: y\n", "line 1: spec.config: missing: Multus takes the node's conflist"},
		"JSON":                 {`{"kind": "NetworkAttachmentDefinition", "spec": {"config": ` + strconv.Quote(before+"\n"+bad) + `}}`, ": " + unknown},
		"JSON, none":           {`{"kind": "NetworkAttachmentDefinition", "spec": {}}`, "spec.config: missing"},
		"JSON, right":          {`{"kind": "NetworkAttachmentDefinition", "spec": {"config": ` + strconv.Quote(strings.Replace(before+bad, `, "migrate_rout": 1`, "", 1)) + `}}`, ""},
		"other YAML":           {"kind: Pod\n", "valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "n.yaml")
			must(t, os.WriteFile(file, []byte(test.text), 0o600))
			status := statusFound
			if test.want == "" {
				status = statusFine
			}
			if a := ctl("lint", file).want(t, status); !strings.Contains(a.stdout, test.want) {
				t.Errorf("no %q in\n%s", test.want, a.stdout)
			}
		})
	}
}
