package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A KeyError is one thing wrong with a configuration. Its text becomes the msg of a CNI error with code 7
// (invalid network configuration):
//
//	routeTableStart: 253: out of range; accepted: a whole number from 256 to 1073741824
type KeyError struct {
	Line     int    // in the text, from 1; 0 if the text is a single line or the key is not in it
	Key      string // with the path to it, "log_options.log_level"; empty if the text is not JSON
	Value    string // as it stands in the text, shortened; empty if the key is missing
	Problem  string // what is wrong with the value
	Accepted string // what is accepted; empty if Problem names the key that was meant
}

// Error is one line of text, never a Go type name.
func (e *KeyError) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		b.WriteString("line " + decimal(e.Line) + ": ")
	}
	for _, part := range []string{e.Key, e.Value} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(e.Problem)
	if e.Accepted != "" {
		b.WriteString("; accepted: " + e.Accepted)
	}
	return b.String()
}

func (m member) error(prefix, problem, accepted string) error {
	return &KeyError{Line: m.line, Key: prefix + m.key, Value: excerpt(m.raw), Problem: problem, Accepted: accepted}
}

// What is wrong with a value in general. Values have more particular errors besides.
var (
	errWrongType  = errors.New("wrong type")
	errOutOfRange = errors.New("out of range")
	errEmpty      = errors.New("empty")
)

// excerpt is text on one line, short enough for an error message.
func excerpt(text []byte) string {
	const most = 60
	var b bytes.Buffer
	if json.Compact(&b, text) == nil {
		text = b.Bytes()
	}
	text = bytes.TrimSpace(text)
	if len(text) <= most {
		return string(text)
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return string(text[:end]) + "…"
}

func decimal(n int) string { return strconv.Itoa(n) }

// unknown suggests the key that was probably meant: the one that is equal but for case, underscores and dashes
// (host_interface), or else the nearest one by edit distance.
func unknown(prefix string, m member, keys []key) error {
	best, nearest := "", 1+len(m.key)/3
	for _, k := range keys {
		if d := distance(fold(m.key), fold(k.name)); d < nearest {
			best, nearest = k.name, d
		}
	}
	if best != "" {
		return m.error(prefix, "unknown key, did you mean "+strconv.Quote(best)+"?", "")
	}
	var own []string
	for _, k := range keys {
		if k.value != nil || k.object != nil {
			own = append(own, k.name)
		}
	}
	return m.error(prefix, "unknown key", strings.Join(own, ", "))
}

func fold(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key))
}

// distance is the Levenshtein distance, one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
