package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"underlay-cni/conflist/quote"
	"underlay-cni/plugin"
)

// print writes the value as one JSON object, or the text. Whatever is in them that others have chosen, nothing of it is an order to
// the terminal.
func (c *call) print(value any, text func(io.Writer)) error {
	var out bytes.Buffer
	if c.output != "json" {
		text(&out)
		_, err := io.WriteString(c.stdout, quote.Lines(out.String()))
		return err
	}
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return err
	}
	_, err := c.stdout.Write(quote.JSON(out.Bytes()))
	return err
}

// table writes rows with aligned columns. A cell has one line, whatever somebody has chosen as a name.
func table(w io.Writer, header []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i := range row {
			row[i] = quote.Line(row[i])
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = t.Flush()
}

// A line is a change as an operator would type it.
type line struct {
	Where   string `json:"where"`   // node or pod
	Command string `json:"command"` // may have several lines
}

func lineOf(c plugin.Change) line {
	command := c.String()
	if strings.HasPrefix(command, inPod) {
		return line{"pod", command}
	}
	return line{"node", command}
}

// inPod begins the commands that are typed on the node and meant for a pod.
const inPod = "nsenter --net="

// brief is the change without the way into the namespace, on one line: a table of nftables is named.
func (l line) brief() string {
	command := l.Command
	if l.Where == "pod" {
		_, command = quote.CutWord(strings.TrimPrefix(command, inPod))
	}
	first, rest, several := strings.Cut(command, "\n")
	if several && strings.HasPrefix(rest, "table ") {
		rest, _, _ = strings.Cut(rest, " {")
		return "nft " + rest
	}
	return strings.TrimSuffix(first, " <<'EOF'")
}

func linesOf(changes []plugin.Change) (lines []line) {
	for _, c := range changes {
		lines = append(lines, lineOf(c))
	}
	return lines
}
