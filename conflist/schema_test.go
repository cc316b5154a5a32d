package conflist

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// schema is what this test needs of JSON schema.
type schema struct {
	Properties map[string]property `json:"properties"`
	Required   []string            `json:"required"`
}

type property struct {
	schema
	Minimum *int            `json:"minimum"`
	Maximum *int            `json:"maximum"`
	Enum    []string        `json:"enum"`
	Default json.RawMessage `json:"default"`
}

// UnmarshalJSON takes the schemas true and false, too.
func (p *property) UnmarshalJSON(data []byte) error {
	if string(data) == "true" {
		return nil
	}
	type plain property
	return json.Unmarshal(data, (*plain)(p))
}

// The schema for editors has the keys of the Go table, their ranges and their defaults.
func TestSchema(t *testing.T) {
	data, err := os.ReadFile("schema/veth-host.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	var c VethHost
	compareKeys(t, s, c.keys())
	if d := cmp.Diff([]string{"type", "hostInterface", "containerInterface"}, s.Required); d != "" {
		t.Errorf("required (-want +got)\n%s", d)
	}
	for key, p := range s.Properties {
		compareDefault(t, p, func(value string) string { return config(key, value) })
	}
	for key, p := range s.Properties["log_options"].Properties {
		compareDefault(t, p, func(value string) string {
			if value == "" {
				return config("log_options", "{}")
			}
			return config("log_options", `{"`+key+`": `+value+`}`)
		})
	}
	for _, backend := range s.Properties["firewall"].Enum {
		if _, err := DecodeVethHost([]byte(config("firewall", `"`+backend+`"`))); err != nil {
			t.Error(err)
		}
	}
}

// compareKeys goes through both tables in both directions, and into the objects.
func compareKeys(t *testing.T, s schema, keys []key) {
	t.Helper()
	for _, k := range keys {
		p, ok := s.Properties[k.name]
		if !ok && k.name != "cni.dev/valid-attachments" { // covered by patternProperties
			t.Errorf("%s is not in the schema", k.name)
		}
		if n, ok := k.value.(integer); ok {
			if d := cmp.Diff([]*int{&n.first, &n.last}, []*int{p.Minimum, p.Maximum}); d != "" {
				t.Errorf("%s: range (-want +got)\n%s", k.name, d)
			}
		}
		if k.object != nil {
			compareKeys(t, p.schema, k.object())
		}
	}
	for name := range s.Properties {
		if indexOf(keys, name) < 0 {
			t.Errorf("%s is only in the schema", name)
		}
	}
}

// compareDefault decodes the default of the schema; it means the same as the key left out.
func compareDefault(t *testing.T, p property, config func(value string) string) {
	t.Helper()
	if p.Default == nil {
		return
	}
	want, err := DecodeVethHost([]byte(config("")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeVethHost([]byte(config(string(p.Default))))
	if err != nil {
		t.Error(err)
	}
	if d := diff(want, got); d != "" {
		t.Errorf("default (-want +got)\n%s", d)
	}
}
