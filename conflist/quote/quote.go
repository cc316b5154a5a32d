// Package quote writes down text that others have chosen (who is root in a pod chooses names of interfaces, tenants write
// configurations) so that it is text and nothing else: for a shell and for a terminal.
package quote

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plain are the characters that no shell takes for anything else, wherever in a word they stand.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,="

// Sh is a word that a POSIX shell takes for exactly this argument, and that a terminal shows: a plain word as it is, what can be
// shown in single quotes, and the rest as octal numbers of printf(1). An argument cannot hold a NUL, which is left out.
func Sh(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	var word strings.Builder
	for rest := s; rest != ""; {
		shown, hidden := runs(rest)
		if shown != "" {
			word.WriteString("'" + strings.ReplaceAll(shown, "'", `'\''`) + "'")
		}
		for i, line := range strings.Split(hidden, "\n") {
			if i > 0 {
				word.WriteString(`"${IFS#??}"`) // a newline: the shell cuts those off the end of what a command prints
			}
			if line == "" {
				continue
			}
			word.WriteString(`"$(printf '`)
			for _, b := range []byte(line) {
				fmt.Fprintf(&word, `\%03o`, b)
			}
			word.WriteString(`')"`)
		}
		rest = rest[len(shown)+len(hidden):]
	}
	if s == "" {
		return "''"
	}
	return word.String()
}

// runs are what a text begins with that can be shown, and what follows that cannot.
func runs(s string) (shown, hidden string) {
	i := 0
	for i < len(s) && printable(s[i:]) {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	j := i
	for j < len(s) && !printable(s[j:]) {
		_, size := utf8.DecodeRuneInString(s[j:])
		j += size
	}
	return s[:i], s[i:j]
}

// printable tells whether the first character of a text shows as itself: it is no control character, of C0 or C1, does not change the
// direction or the line, has a width, and is UTF-8.
func printable(s string) bool {
	r, size := utf8.DecodeRuneInString(s)
	return strconv.IsPrint(r) && (r != utf8.RuneError || size > 1)
}

// CutWord splits a line of a shell after its first word, as Sh writes words.
func CutWord(line string) (word, rest string) {
	var within byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case within != 0:
			if c == within {
				within = 0
			}
		case c == '\\':
			i++
		case c == '\'' || c == '"':
			within = c
		case c == ' ':
			return line[:i], line[i+1:]
		}
	}
	return line, ""
}

// Most is how many bytes of a text Line lets through.
const Most = 1000

// Line is a text as one line for a terminal: control characters and whatever else does not show are written as in Go, "\x1b", the ends
// of lines as "; ", and a text that is too long is cut.
func Line(s string) string {
	s = Lines(strings.NewReplacer("\n", "; ", "\t", " ").Replace(strings.TrimRight(s, "\n")))
	if len(s) <= Most {
		return s
	}
	s = s[:Most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// Lines is a text of several lines for a terminal, the whole of it: of what does not show it keeps the ends of lines and the tabs.
func Lines(s string) string {
	var text strings.Builder
	for rest := s; rest != ""; {
		shown, hidden := runs(rest)
		text.WriteString(shown)
		rest = rest[len(shown)+len(hidden):]
		for hidden != "" {
			r, size := utf8.DecodeRuneInString(hidden)
			switch {
			case r == '\n' || r == '\t':
				text.WriteRune(r)
			case r == utf8.RuneError && size == 1:
				fmt.Fprintf(&text, `\x%02x`, hidden[0])
			default:
				escaped := strconv.QuoteRune(r)
				text.WriteString(escaped[1 : len(escaped)-1])
			}
			hidden = hidden[size:]
		}
	}
	return text.String()
}

// JSON is a JSON text in which everything that does not show is written as a number: package json leaves DEL and C1 as they are. What
// it means stays the same.
func JSON(text []byte) []byte {
	var out []byte
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r < 0x7f || printable(string(text[i:i+size])):
			out = append(out, text[i:i+size]...)
		case r > 0xffff:
			r -= 0x10000 // a pair of surrogates
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += size
	}
	return out
}
