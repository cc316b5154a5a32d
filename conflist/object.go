package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// A key is one key of a JSON object, and where its value goes.
type key struct {
	name     string
	required bool
	value    value        // nil: accepted, and left to others
	object   func() []key // instead of a value: the keys of the object below, called if the key is there
}

// A value takes the JSON text of one key. The error says what is wrong with the text, not what is accepted
// instead, and leaves the value as it was.
type value interface {
	json.Unmarshaler
	accepted() string // what follows "accepted: "
}

// A member is a key with its value as they stand in the text.
type member struct {
	key  string
	raw  []byte
	line int // where the value begins; 0: not counted
}

// foreign says whether the key belongs to the runtime by its prefix.
func (m member) foreign() bool { return strings.HasPrefix(m.key, "cni.dev/") }

// decode gives each member to its key. Errors name keys as prefix + name.
func decode(prefix string, members []member, keys []key) []error {
	var errs []error
	given := make([]bool, len(keys))
	for _, m := range members {
		at := indexOf(keys, m.key)
		if at < 0 {
			if !m.foreign() {
				errs = append(errs, unknown(prefix, m, keys))
			}
			continue
		}
		if given[at] {
			errs = append(errs, m.error(prefix, "given a second time", "each key once"))
			continue
		}
		given[at] = true
		errs = append(errs, keys[at].decode(prefix, m)...)
	}
	for i, k := range keys {
		if k.required && !given[i] {
			errs = append(errs, &KeyError{Key: prefix + k.name, Problem: "missing", Accepted: k.value.accepted()})
		}
	}
	return errs
}

func (k key) decode(prefix string, m member) []error {
	switch {
	case k.object != nil:
		below, ok := walk(m.raw, m.line, '{')
		if !ok {
			return []error{m.error(prefix, errWrongType.Error(), "an object")}
		}
		return decode(prefix+k.name+".", below, k.object())
	case k.value != nil:
		if err := k.value.UnmarshalJSON(m.raw); err != nil {
			return []error{m.error(prefix, err.Error(), k.value.accepted())}
		}
	}
	return nil
}

func indexOf(keys []key, name string) int {
	for i := range keys {
		if keys[i].name == name {
			return i
		}
	}
	return -1
}

// split returns the members of a JSON object. line is the line on which the text begins, 0 if lines do not matter.
// Every error is a *KeyError.
func split(text []byte, line int) ([]member, error) {
	if err := valid(text); err != nil {
		return nil, err
	}
	all, ok := walk(text, line, '{')
	if !ok {
		return nil, &KeyError{Key: "configuration", Value: excerpt(text), Problem: errWrongType.Error(), Accepted: "a JSON object"}
	}
	return all, nil
}

// walk returns the members of an object, or the elements of a list with keys "[0]", "[1]" …, in the order of the
// text, which is valid JSON. It is false if the text does not begin with open.
func walk(text []byte, line int, open json.Delim) (all []member, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != open {
		return nil, false
	}
	for dec.More() {
		m := member{key: "[" + decimal(len(all)) + "]"}
		if open == '{' {
			name, err := dec.Token()
			if err != nil {
				return nil, false
			}
			m.key, _ = name.(string) // as the key of an object always is
		}
		if err := dec.Decode((*json.RawMessage)(&m.raw)); err != nil {
			return nil, false
		}
		if line > 0 {
			m.line = line + newlines(text[:int(dec.InputOffset())-len(m.raw)])
		}
		all = append(all, m)
	}
	return all, true
}

// find returns the member with that key.
func find(members []member, key string) (member, bool) {
	for _, m := range members {
		if m.key == key {
			return m, true
		}
	}
	return member{}, false
}

// firstLine is 1 if text has several lines. Runtimes write one line, and its number says nothing to anybody.
func firstLine(text []byte) int {
	if bytes.Contains(bytes.TrimSpace(text), []byte("\n")) {
		return 1
	}
	return 0
}

// Valid reports text that is not JSON, by its line. Nothing else is looked at.
func Valid(text []byte) error { return valid(text) }

// valid reports text that is not JSON, by its line.
func valid(text []byte) error {
	var all json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return syntaxError(text, err)
	}
	if !utf8.Valid(text) {
		at := 0
		for i, r := range string(text) {
			if r == utf8.RuneError && !bytes.HasPrefix(text[i:], []byte("\uFFFD")) {
				at = i
				break
			}
		}
		return notJSON(text, at, "not UTF-8")
	}
	return nil
}

func syntaxError(text []byte, err error) error {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return notJSON(text, len(text), err.Error())
	}
	at := max(int(syntax.Offset)-1, 0) // Offset counts the byte that was too much
	rest := text[min(at, len(text)):]
	for _, comment := range []string{"//", "/*", "#"} {
		if bytes.HasPrefix(rest, []byte(comment)) {
			return notJSON(text, at, "a comment, and JSON has none")
		}
	}
	return notJSON(text, at, syntax.Error())
}

func notJSON(text []byte, at int, problem string) error {
	at = min(at, len(text))
	line, _, _ := bytes.Cut(text[at:], []byte("\n"))
	return &KeyError{
		Line:     1 + newlines(text[:at]),
		Value:    excerpt(line),
		Problem:  problem,
		Accepted: "valid JSON without comments",
	}
}

func newlines(text []byte) int { return bytes.Count(text, []byte("\n")) }
