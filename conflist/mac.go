package conflist

import (
	"encoding/hex"
	"errors"
)

// A MACPrefix is what the hardware addresses of a network's pods begin with: two octets, the first of which is that
// of a unicast address. The zero value is none.
//
// In JSON it is a string, "0a:1b" or "0a-1b"; the empty one, which published configurations have, is none.
type MACPrefix struct {
	octets [2]byte
	given  bool
}

// Octets returns the two octets, and whether there are any.
func (p MACPrefix) Octets() (octets [2]byte, given bool) { return p.octets, p.given }

// String is 0a:1b, or empty.
func (p MACPrefix) String() string {
	if !p.given {
		return ""
	}
	return hex.EncodeToString(p.octets[:1]) + ":" + hex.EncodeToString(p.octets[1:])
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *MACPrefix) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	if s == "" {
		*p = MACPrefix{}
		return nil
	}
	if len(s) != len("0a:1b") || s[2] != ':' && s[2] != '-' {
		return errors.New("not two octets")
	}
	octets, err := hex.DecodeString(s[:2] + s[3:])
	switch {
	case err != nil:
		return errors.New("not hexadecimal")
	case octets[0]&1 != 0:
		return errors.New("the address of a group: the first octet is odd")
	}
	*p = MACPrefix{octets: [2]byte(octets), given: true}
	return nil
}

func (*MACPrefix) accepted() string {
	return `two octets in hexadecimal, the first of them even, as in "0a:1b" or "0a-1b"`
}
