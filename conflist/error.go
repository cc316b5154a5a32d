package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
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
	Problem  string // what is wrong with the value; empty if Accepted says it all
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
		if e.Problem != "" {
			b.WriteString("; ")
		}
		b.WriteString("accepted: " + e.Accepted)
	}
	return b.String()
}

func (m member) error(prefix, problem, accepted string) error {
	name := shorten(m.key)
	if name == "" {
		name = `""`
	}
	return &KeyError{Line: m.line, Key: prefix + name, Value: excerpt(m.raw), Problem: problem, Accepted: accepted}
}

// What is wrong with a value in general. Values have more particular errors besides.
var (
	errWrongType  = errors.New("wrong type")
	errOutOfRange = errors.New("out of range")
	errEmpty      = errors.New("empty")
)

// excerpt is JSON as an error message shows it.
func excerpt(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) == nil {
		raw = b.Bytes()
	}
	return shorten(string(raw))
}

// shorten makes any text short enough for an error message, on one line and harmless to a terminal.
func shorten(text string) string {
	const most = 60
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text))
	if len(text) <= most {
		return text
	}
	end := most
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// quote is strconv.Quote of a text that may be long.
func quote(text string) string { return strconv.Quote(shorten(text)) }

func decimal(n int) string { return strconv.Itoa(n) }

// unknown is the error of a key that is not in the table, with the key that was probably meant.
func unknown(prefix string, m member, keys []key) error {
	if name := nearest(m.key, keys); name != "" {
		return m.error(prefix, "unknown key, did you mean "+strconv.Quote(name)+"?", "")
	}
	var names []string
	for _, k := range keys {
		if k.value != nil || k.object != nil {
			names = append(names, k.name)
		}
	}
	return m.error(prefix, "unknown key", strings.Join(names, ", "))
}

// nearest returns the key that differs least from name, if that is little. Case, underscores and dashes do not
// count: host_interface is hostInterface.
func nearest(name string, keys []key) string {
	if len(name) > 40 { // resembles none of ours
		return ""
	}
	fold := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
	}
	best, least := "", len(name)
	for _, k := range keys {
		d := distance(fold(name), fold(k.name))
		if d < least && d <= max(len(name), len(k.name))/3 {
			best, least = k.name, d
		}
	}
	return best
}

// distance is the number of bytes to add, drop, replace or swap with their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j] is the distance of a[:i] and b[:j]
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
				}
			}
		}
	}
	return rows[len(a)][len(b)]
}
