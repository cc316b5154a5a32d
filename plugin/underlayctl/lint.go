package main

import (
	"fmt"
	"io"
	"os"

	"underlay-cni/conflist/quote"
)

var lintCommand = command{
	name: "lint", args: "FILE…",
	about: "say what is wrong, or unwise, in conflists",
	help: `
Reads conflists, and the spec.config of NetworkAttachmentDefinitions in YAML or JSON, and says what the plugins would refuse, and what they
would accept and nobody wants: a plugin before the one that makes the interface, marks that others use, Services that overlap the
wire. It looks at nothing but the text. "-" is standard input.

With -o json: {"findings": [{"file", "line", "key", "value", "advice"}]}.`,
	run: lint,
}

// A remark is a finding in a file.
type remark struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Key    string `json:"key,omitempty"`
	Value  string `json:"value,omitempty"`
	Advice string `json:"advice"`

	text string
}

func lint(c *call) error {
	if len(c.args) == 0 {
		return wrongUsage("FILE: missing; accepted: conflists, or - for standard input")
	}
	remarks := []remark{}
	for _, file := range c.args {
		text, err := readFile(file)
		if err != nil {
			return wrongUsage("FILE: %w; accepted: conflists, or - for standard input", err)
		}
		for _, f := range lintFile(text) {
			remarks = append(remarks, remark{file, f.Line, f.Key, f.Value, f.Advice, f.String()})
		}
	}
	err := c.print(map[string]any{"findings": remarks}, func(w io.Writer) {
		for _, r := range remarks {
			fmt.Fprintf(w, "%s: %s\n", quote.Line(r.File), quote.Line(r.text))
		}
	})
	if err == nil && len(remarks) > 0 {
		return errFound
	}
	return err
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name) //nolint:gosec // the operator's
}
