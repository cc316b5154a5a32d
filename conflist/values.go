package conflist

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ValidInterfaceName says whether the kernel accepts name for an interface (dev_valid_name), and refuses
// things more that the kernel takes and an operator does not mean: control characters, "%" (the kernel makes
// veth0 of veth%d), "all" and "default", which stand for every interface in /proc/sys/net, "*" and "+", which do so in
// rules of nft(8) and iptables(8), and what would be quoted, an option or a negation in a line of theirs.
// The error says what is wrong and does not repeat the name.
func ValidInterfaceName(name string) error {
	switch {
	case name == "":
		return errEmpty
	case len(name) > 15: // IFNAMSIZ without the final zero
		return errors.New("longer than 15 bytes")
	case name == "." || name == "..":
		return errors.New("a directory")
	case name == "all" || name == "default":
		return errors.New("reserved: it stands for every interface in sysctls")
	case strings.ContainsAny(name, "/:%"):
		return errors.New("contains /, : or %")
	case strings.ContainsAny(name, "*+"):
		return errors.New("contains * or +, which stand for other interfaces in nft and iptables")
	case strings.ContainsAny(name, "\"'`\\$"):
		return errors.New("contains a quote, \\ or $")
	case name[0] == '-' || name[0] == '!':
		return errors.New("begins with - or !, as no name does in a command")
	}
	for _, b := range []byte(name) {
		// The kernel looks at bytes, and its isspace knows the no-break space of Latin-1: "à" in UTF-8 is refused.
		if b <= ' ' || b == 0x7f || b == 0xa0 {
			return errors.New("contains white space or a control character")
		}
	}
	return nil
}

// interfaceName is a string that ValidInterfaceName accepts.
type interfaceName string

// UnmarshalJSON implements json.Unmarshaler.
func (n *interfaceName) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	if err := ValidInterfaceName(s); err != nil {
		return err
	}
	*n = interfaceName(s)
	return nil
}

func (*interfaceName) accepted() string {
	return `the name of an interface, 1 to 15 bytes without white space, quotes and any of /:%*+\$`
}

// networkName is the name of a network as the CNI specification wants it.
type networkName string

// UnmarshalJSON implements json.Unmarshaler.
func (n *networkName) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	if s == "" {
		return errEmpty
	}
	for i, r := range s {
		ok := r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || i > 0 && strings.ContainsRune("_.-", r))
		if !ok {
			return errors.New("has a character that CNI does not allow there: " + strconv.QuoteRune(r))
		}
	}
	*n = networkName(s)
	return nil
}

func (*networkName) accepted() string {
	return `a string that begins with a letter or a digit and goes on with those, "_", "." and "-"`
}

// boolean is true or false, and not null.
type boolean bool

// UnmarshalJSON implements json.Unmarshaler.
func (v *boolean) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case "true":
		*v = true
	case "false":
		*v = false
	default:
		return errWrongType
	}
	return nil
}

func (*boolean) accepted() string { return "true or false" }

// integer is a whole number from first to last.
type integer struct {
	to          *int
	first, last int
}

// UnmarshalJSON implements json.Unmarshaler.
func (v integer) UnmarshalJSON(raw []byte) error {
	n, err := strconv.Atoi(string(raw))
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errOutOfRange
	case err != nil:
		return errors.New("not a whole number")
	case n < v.first || n > v.last:
		return errOutOfRange
	}
	*v.to = n
	return nil
}

func (v integer) accepted() string {
	return "a whole number from " + decimal(v.first) + " to " + decimal(v.last)
}

// field is a key of the CNI specification: what encoding/json makes of it, null included.
type field[T any] struct {
	to      *T
	accepts string
}

// UnmarshalJSON implements json.Unmarshaler.
func (f field[T]) UnmarshalJSON(raw []byte) error {
	var v T
	if json.Unmarshal(raw, &v) != nil {
		return errWrongType
	}
	*f.to = v
	return nil
}

func (f field[T]) accepted() string { return f.accepts }

// unquote returns the value of a JSON string.
func unquote(raw []byte) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errWrongType
	}
	return s, nil
}
