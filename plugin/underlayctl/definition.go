package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"

	"underlay-cni/conflist"
)

// definitionKind is what Kubernetes calls a network of Multus.
const definitionKind = "NetworkAttachmentDefinition"

// lintFile looks at a conflist, or at the spec.config of each NetworkAttachmentDefinition of the file, in YAML or JSON.
func lintFile(text []byte) []conflist.Finding {
	var object struct {
		Kind string `json:"kind"`
		Spec struct {
			Config string `json:"config"`
		} `json:"spec"`
	}
	switch {
	case json.Unmarshal(text, &object) == nil && object.Kind == definitionKind:
		if object.Spec.Config == "" {
			return []conflist.Finding{noConfig(0)}
		}
		findings := conflist.Lint([]byte(object.Spec.Config))
		for i := range findings {
			findings[i].Line = 0 // of the string, which is one line of the file
		}
		return findings
	case !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) && kindLine().Match(text):
		return lintYAML(string(text))
	default:
		return conflist.Lint(text)
	}
}

// kindLine is the line of YAML that makes an object a NetworkAttachmentDefinition.
var kindLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^kind:\s*["']?` + definitionKind + `["']?\s*$`)
})

// configLine is where spec.config begins in YAML: with its indentation, and with what follows the colon.
var configLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(\s+)["']?config["']?:\s*(.*?)\s*$`)
})

// lintYAML looks at the objects of a file. It reads as much of YAML as people write a spec.config in: a block (config: |), or
// single quotes; the lines of findings are those of the file.
func lintYAML(text string) (findings []conflist.Finding) {
	lines := strings.Split(text, "\n")
	for first := 0; first < len(lines); {
		last := first
		for last < len(lines) && (last == first || !strings.HasPrefix(lines[last], "---")) {
			last++
		}
		if object := lines[first:last]; kindLine().MatchString(strings.Join(object, "\n")) {
			findings = append(findings, lintObject(object, first)...)
		}
		first = last
	}
	return findings
}

// lintObject looks at one object, before which the file has so many lines.
func lintObject(lines []string, before int) []conflist.Finding {
	for i, line := range lines {
		match := configLine().FindStringSubmatch(line)
		if match == nil {
			continue
		}
		start := i
		var config string
		switch value := match[2]; {
		case strings.HasPrefix(value, "|"), strings.HasPrefix(value, ">"):
			start++
			config = block(lines[start:], len(match[1]))
		case strings.HasPrefix(value, "'"):
			config = quoted(strings.Join(append([]string{value[1:]}, lines[i+1:]...), "\n"))
		default:
			return []conflist.Finding{{
				Line: before + i + 1, Key: "spec.config", Value: value, Advice: "not read by this command; accepted: config: | with the JSON below it, or the JSON in single quotes",
			}}
		}
		return conflist.Lint([]byte(strings.Repeat("\n", before+start) + config))
	}
	return []conflist.Finding{noConfig(before + 1)}
}

// block is what is indented more than its key.
func block(lines []string, indent int) string {
	for i, line := range lines {
		if text := strings.TrimLeft(line, " "); text != "" && len(line)-len(text) <= indent {
			lines = lines[:i]
			break
		}
	}
	return strings.Join(lines, "\n")
}

// quoted is what stands before the single quote that ends it; two of them stand for one.
func quoted(text string) string {
	const one = "\x00"
	text, _, _ = strings.Cut(strings.ReplaceAll(text, "''", one), "'")
	return strings.ReplaceAll(text, one, "'")
}

func noConfig(line int) conflist.Finding {
	return conflist.Finding{
		Line: line, Key: "spec.config", Advice: "missing: Multus takes the node's conflist of the object's name; give that file to this command, or write the conflist here",
	}
}
