package conflist

import (
	"testing"
)

// TestMACPrefix: two octets of a unicast address, and the crashes of others: "0a-1b", a prefix that is none.
func TestMACPrefix(t *testing.T) {
	for _, test := range []struct{ json, want string }{
		{`"0a:1b"`, "0a:1b"},
		{`"0a-1b"`, "0a:1b"},
		{`"0A:1B"`, "0a:1b"},
		{`"00:00"`, "00:00"},
		{`"fe:ff"`, "fe:ff"},
		{`""`, ""},
	} {
		p := MACPrefix{octets: [2]byte{2, 2}, given: true}
		if err := p.UnmarshalJSON([]byte(test.json)); err != nil || p.String() != test.want {
			t.Errorf("%s: got %q and %v, want %q", test.json, p, err, test.want)
		}
		if _, given := p.Octets(); given != (test.want != "") {
			t.Errorf("%s: given %t", test.json, given)
		}
	}
	for _, test := range []struct{ json, problem string }{
		{`"0b:1b"`, "the address of a group: the first octet is odd"},
		{`"ff:ff"`, "the address of a group: the first octet is odd"},
		{`"0a"`, "not two octets"},
		{`"0a1b"`, "not two octets"},
		{`"0a.1b"`, "not two octets"},
		{`"0a:1b:"`, "not two octets"},
		{`"0a:1b:2c"`, "not two octets"},
		{`"a:1b"`, "not two octets"},
		{`" 0a:1b"`, "not two octets"},
		{`"é:1b"`, "not hexadecimal"},
		{`"0g:1b"`, "not hexadecimal"},
		{`"0a:-1"`, "not hexadecimal"},
		{`"::::1"`, "not hexadecimal"},
		{`null`, "wrong type"},
		{`10`, "wrong type"},
		{`["0a", "1b"]`, "wrong type"},
	} {
		p := MACPrefix{octets: [2]byte{2, 2}, given: true}
		if err := p.UnmarshalJSON([]byte(test.json)); err == nil || err.Error() != test.problem {
			t.Errorf("%s: got %v, want %s", test.json, err, test.problem)
		}
		if p.String() != "02:02" {
			t.Errorf("%s: the prefix has become %q", test.json, p)
		}
	}
	if octets, given := (MACPrefix{}).Octets(); given || octets != [2]byte{} {
		t.Error("the zero value is none")
	}
}
