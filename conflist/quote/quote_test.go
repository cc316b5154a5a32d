package quote_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"underlay-cni/conflist/quote"
)

// seeds are what somebody may choose, and what is in use.
var seeds = []string{
	"", "veth0", "eth0.100", "-x", "--help", "a b", "a'b", `a"b`, `a\`, "$(touch pwned)", "`touch pwned`", "${IFS}", "a;b", "a&b", "a|b", "a>b", "#a", "~", "*", "a\nb", "\n", "a\n\n",
	"\x1b[2J\x1b]0;x\x07", "\x9b2J", "\u009b2J", "\u202ea", "\u200b", "\u2028", "é", "界", "\xff\xfe", "'\x1b'", "a\tb", "\x7f", "!!", "{a,b}", "\U000e0001", "x=1", strings.Repeat("\x1b", 600), "\ufffd", "a\r",
}

// shows tells whether a terminal shows a text as it is.
func shows(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// FuzzQuote: a word is for a shell the one argument that is meant, and nothing in it does anything to a terminal.
func FuzzQuote(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, "b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		line := quote.Sh(a) + " " + quote.Sh(b)
		if !shows(line) {
			t.Fatalf("%q", line)
		}
		cmd := exec.Command("sh", "-c", `printf '%s\0' `+line)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if len(line) > 100_000 {
			t.Skip() // more than a shell takes
		}
		want := strings.ReplaceAll(a, "\x00", "") + "\x00" + strings.ReplaceAll(b, "\x00", "") + "\x00"
		if err != nil || string(out) != want {
			t.Fatalf("%s\ngot  %q, %v\nwant %q", line, out, err, want)
		}
		if word, rest := quote.CutWord(line); word != quote.Sh(a) || rest != quote.Sh(b) {
			t.Fatalf("%s: cut into %q and %q", line, word, rest)
		}
	})
}

// FuzzPrintable: a line shows as it is and is no longer than it may be; several lines keep their ends; JSON means the same.
func FuzzPrintable(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if line := quote.Line(s); !shows(line) || len(line) > quote.Most+len("…") {
			t.Errorf("%q", line)
		}
		lines := quote.Lines(s)
		if !shows(strings.NewReplacer("\n", "", "\t", "").Replace(lines)) || strings.Count(lines, "\n") != strings.Count(s, "\n") {
			t.Errorf("%q", lines)
		}
		if shows(s) && lines != s {
			t.Errorf("%q is written as %q", s, lines)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got, want string
		safe := quote.JSON(text)
		if err := json.Unmarshal(safe, &got); err != nil || !shows(string(safe)) {
			t.Fatalf("%q: %v", safe, err)
		}
		if err := json.Unmarshal(text, &want); err != nil || got != want {
			t.Errorf("%q means %q, not %q", safe, got, want)
		}
	})
}

// TestTrust04Plain: what needs no quotes has none.
func TestTrust04Plain(t *testing.T) {
	for s, want := range map[string]string{
		"veth0": "veth0", "/run/netns/a": "/run/netns/a", "eth0.100": "eth0.100", "a b": "'a b'", "it's": `'it'\''s'`, "": "''",
		"$(x)": "'$(x)'", "a\x1bb": `'a'"$(printf '\033')"'b'`, "a\n": `'a'"${IFS#??}"`,
	} {
		if got := quote.Sh(s); got != want {
			t.Errorf("%q: %s, not %s", s, got, want)
		}
	}
	if got := quote.Line("a\x1b[2J\u202e\xff\nb\tc\n"); got != `a\x1b[2J\u202e\xff; b c` {
		t.Error(got)
	}
	if got := quote.JSON([]byte("\"a\u009b\"\n")); !bytes.Equal(got, []byte("\"a\\u009b\"\n")) {
		t.Errorf("%s", got)
	}
}
