package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"underlay-cni/plugin"
)

// print writes the value as one JSON object, or the text.
func (c *call) print(value any, text func(io.Writer)) error {
	if c.output != "json" {
		text(c.stdout)
		return nil
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// table writes rows with aligned columns.
func table(w io.Writer, header []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
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
		_, command, _ = strings.Cut(strings.TrimPrefix(command, inPod), " ")
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
