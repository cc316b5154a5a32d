package conflist

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
			typ, _ := find(mustWalk(t, last.raw), "type")
			switch string(typ.raw) {
			case `"veth-host"`:
				c, err := DecodeVethHost([]byte(conf))
				if err != nil || c.HostInterface != "enp1s0" || c.ContainerInterface != "veth0" {
					t.Errorf("%v: on %s, %s in the pod", err, c.HostInterface, c.ContainerInterface)
				}
			case `"veth"`:
				c, err := DecodeVeth([]byte(conf))
				comparePublished(t, c, err)
				if c.LogOptions.File != "/var/log/meta-plugins/veth.log" || c.IPConflict.Enabled || c.MACPrefix.String() != "" {
					t.Errorf("%+v", c)
				}
			case `"router"`:
				c, err := DecodeRouter([]byte(conf))
				comparePublished(t, c, err)
				if c.LogOptions.File != "/var/log/meta-plugins/router.log" || c.IPConflict != (IPConflict{true, time.Second, 5}) || c.MACPrefix.String() != "0a:0b" {
					t.Errorf("%+v", c)
				}
			default:
				t.Errorf("of no plugin of ours: %s", typ.raw)
			}
		})
	}
}

// comparePublished looks at what both of the published NetworkAttachmentDefinitions have.
func comparePublished(t *testing.T, c *Underlay, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	const want = "10.240.0.0/12,fd00:10:244::/96; 172.96.0.0/18,2001:4860:fd00::/108; ; -1; {true 0}; 200"
	if got := fmt.Sprintf("%s; %s; %s; %d; %v; %d", c.Overlay, c.Service, Prefixes(c.Additional), c.MigrateRoute, c.RPFilter, c.RouteTableStart); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func mustWalk(t *testing.T, object []byte) []member {
	t.Helper()
	members, ok := walk(object, 0, '{')
	if !ok {
		t.Fatalf("no object: %s", object)
	}
	return members
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
