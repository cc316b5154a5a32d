package conflist

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every example is accepted, and the linter has nothing to say about it.
func TestExamples(t *testing.T) {
	for file, data := range examples(t) {
		t.Run(file, func(t *testing.T) {
			for _, f := range Lint(data) {
				t.Error(f)
			}
			list, err := split(data, 1)
			if err != nil {
				t.Fatal(err)
			}
			plugins, _ := find(list, "plugins")
			elements, _ := walk(plugins.raw, plugins.line, '[')
			if len(elements) == 0 {
				t.Fatal("no plugins")
			}
			last := elements[len(elements)-1]
			name, _ := find(list, "name")
			conf := strings.Replace(string(last.raw), "{", `{"name": `+string(name.raw)+", ", 1) // as libcni does
			c, err := DecodeVethHost([]byte(conf))
			if err != nil {
				t.Fatal(err)
			}
			if c.Type != "veth-host" || c.HostInterface != "enp1s0" || c.ContainerInterface != "veth0" {
				t.Errorf("%s on %s, %s in the pod", c.Type, c.HostInterface, c.ContainerInterface)
			}
		})
	}
}

// examples returns the JSON of each file in examples/.
func examples(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("examples/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	all := make(map[string][]byte)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".yaml" { // a NetworkAttachmentDefinition, whose config comes last
			var ok bool
			if _, data, ok = bytes.Cut(data, []byte("config: |\n")); !ok {
				t.Fatal(file, "has no spec.config")
			}
		}
		all[filepath.Base(file)] = data
	}
	return all
}
