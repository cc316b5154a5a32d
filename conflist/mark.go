package conflist

import (
	"errors"
	"strconv"
	"strings"
)

// A Mark is one or more bits of the 32-bit mark of a packet or a connection. It is always used as value and mask:
// the other bits belong to other components. Never 0.
//
// In JSON it is a number or a string, decimal or with 0x: 8192, "8192" or "0x2000".
type Mark uint32

// String is the mark as ip(8) prints it: 0x2000.
func (m Mark) String() string { return "0x" + strconv.FormatUint(uint64(m), 16) }

// UnmarshalJSON implements json.Unmarshaler.
func (m *Mark) UnmarshalJSON(raw []byte) error {
	s := string(raw)
	if quoted, err := unquote(raw); err == nil {
		s = quoted
	}
	digits, base := s, 10
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		digits, base = hex, 16
	} else if len(s) > 1 && s[0] == '0' {
		return errors.New("a leading 0 is octal to ip(8) and decimal to others")
	}
	n, err := strconv.ParseUint(digits, base, 32)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("more than 32 bits")
	case s == "":
		return errEmpty
	case err != nil:
		return errors.New("not a mark")
	case n == 0:
		return errors.New("a mark of 0 has no bit to set")
	}
	*m = Mark(n)
	return nil
}

func (*Mark) accepted() string {
	return `bits of a 32-bit mark, as a number or a string such as "0x2000"`
}
