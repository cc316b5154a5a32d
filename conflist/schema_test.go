package conflist

import (
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// The schemas for editors have the keys of the Go tables, their ranges and their defaults.
func TestSchema(t *testing.T) {
	for _, test := range []struct {
		plugin   string
		keys     []key
		required []string
		config   func(...string) string
		decode   func(string) (any, error)
	}{
		{"veth-host", new(VethHost).keys(), []string{"type", "hostInterface", "containerInterface"}, config, func(s string) (any, error) {
			return DecodeVethHost([]byte(s))
		}},
		{"veth", newUnderlay("veth").keys(), []string{"type", "overlay_hijack_subnet", "service_hijack_subnet"}, underlayConfig, func(s string) (any, error) {
			return DecodeVeth([]byte(s))
		}},
		{"router", newUnderlay("router").keys(), []string{"type", "overlay_hijack_subnet", "service_hijack_subnet"}, underlayConfig, func(s string) (any, error) {
			return DecodeRouter([]byte(s))
		}},
	} {
		t.Run(test.plugin, func(t *testing.T) {
			data, err := os.ReadFile("schema/" + test.plugin + ".schema.json")
			if err != nil {
				t.Fatal(err)
			}
			var s schema
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			compareKeys(t, s, test.keys)
			if d := cmp.Diff(test.required, s.Required); d != "" {
				t.Errorf("required (-want +got)\n%s", d)
			}
			for key, p := range s.Properties {
				compareDefault(t, p, test.decode, func(value string) string { return test.config(key, value) })
				for below, p := range p.Properties {
					compareDefault(t, p, test.decode, func(value string) string {
						if value == "" {
							return test.config(key, "{}")
						}
						return test.config(key, `{"`+below+`": `+value+`}`)
					})
				}
			}
			for _, backend := range s.Properties["firewall"].Enum {
				if _, err := test.decode(test.config("firewall", `"`+backend+`"`)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// bounds are the least and the greatest value of a whole number.
func bounds(v value) (first, last int, ok bool) {
	switch v := v.(type) {
	case integer:
		return v.first, v.last, true
	case tableID:
		return 1, maxTable, true
	case *MigrateRoute:
		return -1, 1, true
	}
	return 0, 0, false
}

// compareKeys goes through both tables in both directions, and into the objects.
func compareKeys(t *testing.T, s schema, keys []key) {
	t.Helper()
	for _, k := range keys {
		p, ok := s.Properties[k.name]
		if !ok && k.name != "cni.dev/valid-attachments" { // covered by patternProperties
			t.Errorf("%s is not in the schema", k.name)
		}
		if first, last, ok := bounds(k.value); ok {
			if d := cmp.Diff([]*int{&first, &last}, []*int{p.Minimum, p.Maximum}); d != "" {
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
func compareDefault(t *testing.T, p property, decode func(string) (any, error), config func(value string) string) {
	t.Helper()
	if p.Default == nil {
		return
	}
	want, err := decode(config(""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(config(string(p.Default)))
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, MACPrefix{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("default (-want +got)\n%s", d)
	}
}
