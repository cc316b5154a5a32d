package conflist

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is wrong with the text as a whole, or with several keys of it.
func TestDecodeVethHostRefusesText(t *testing.T) {
	const text = "; accepted: valid JSON without comments"
	tests := []struct{ name, data, err string }{
		{"nothing", "", `line 1: unexpected end of JSON input` + text},
		{"a list", "[]", `configuration: []: wrong type; accepted: a JSON object`},
		{"null", "null", `configuration: null: wrong type; accepted: a JSON object`},
		{"cut off", "{\n\"name\": ", `line 2: unexpected end of JSON input` + text},
		{"a line comment", "{\n  // the parent\n  \"name\": \"a\"\n}", `line 2: // the parent: a comment, and JSON has none` + text},
		{"a comment after a value", "{\n  \"mtu\": 1500, // jumbo\n  \"name\": \"a\"\n}", `line 2: // jumbo: a comment, and JSON has none` + text},
		{"a block comment", "{\n\n  \"name\": /* mine */ \"a\"}", `line 3: /* mine */ "a"}: a comment, and JSON has none` + text},
		{"a shell comment", "{}\n# end", `line 2: # end: a comment, and JSON has none` + text},
		{"a comma too much", "{\n  \"name\": \"a\",\n}", `line 3: }: invalid character '}' looking for beginning of object key string` + text},
		{"trailing garbage", config() + "\n" + config(), `line 2: {"cniVersion":"1.1.0","name":"cni0","type":"veth-host","host…: invalid character '{' after top-level value` + text},
		{"not UTF-8", "{\n\"name\": \"\xff\"}", "line 2: \uFFFD\"}: not UTF-8" + text},
		{
			"a key twice", "{\"name\": \"a\", \"hostInterface\": \"a\", \"containerInterface\": \"b\",\n\"mtu\": 1400,\n\"mtu\": 1500}",
			`line 3: mtu: 1500: given a second time; accepted: each key once`,
		},
		{
			"a key twice in log_options", config("log_options", `{"log_max_age": 1, "log_max_age": 1}`),
			`log_options.log_max_age: 1: given a second time; accepted: each key once`,
		},
		{
			"null in a text of several lines", "{\"name\": \"a\", \"hostInterface\": \"a\", \"containerInterface\": \"b\",\n\n\"ipMasq\":\nnull}\n",
			`line 4: ipMasq: null: wrong type; accepted: true or false`,
		},
		{
			"several keys", config("mtu", "1", "ipMasq", "1", "name", ""),
			"mtu: 1: out of range; accepted: a whole number from 68 to 65535\n" +
				"ipMasq: 1: wrong type; accepted: true or false\n" +
				`name: missing; accepted: a string that begins with a letter or a digit and goes on with those, "_", "." and "-"`,
		},
		{
			"mtu too small for IPv6 Services", config("mtu", "1279", "serviceCidr", `"fd00::/108"`),
			"mtu: 1279: too small for the IPv6 in serviceCidr; accepted: a whole number from 1280 to 65535",
		},
		{
			"two marks that overlap", config("nodePortMark", `"0x18"`, "serviceMark", `"0x30"`),
			"serviceMark: 0x30: shares a bit with nodePortMark 0x18; accepted: bits of a 32-bit mark that nodePortMark does not have",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := DecodeVethHost([]byte(test.data))
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(test.err, err.Error()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
