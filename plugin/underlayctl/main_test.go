package main

import (
	"bytes"
	"os"
	"path/filepath"
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
	examples, err := filepath.Glob("../../conflist/examples/*.conflist")
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
