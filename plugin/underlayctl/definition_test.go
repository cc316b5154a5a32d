package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode"

	"underlay-cni/conflist"
	"underlay-cni/conflist/quote"
)

const definition = `# a comment
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: net1}
spec:
  config: |
    {
      "cniVersion": "1.0.0", "name": "net1", "plugins": [
        {"type": "macvlan", "master": "enp1s0", "ipam": {"type": "host-local", "ranges": [
          [{"subnet": "10.10.20.0/24", "gateway": "10.10.20.1"}]]}},
        {"type": "veth", "service_hijack_subnet": ["172.96.0.0/18"], "overlay_hijack_subnet": ["10.240.0.0/12"]}
      ]
    }
`

// A NetworkAttachmentDefinition is all nodes': host-local in it without a range of a node's own is remarked, where it stands.
func TestLintSharedRange(t *testing.T) {
	asJSON := `{"kind": "NetworkAttachmentDefinition", "spec": {"config": "` +
		strings.NewReplacer("\n", `\n`, `"`, `\"`).Replace(definition[max(0, strings.Index(definition, "    {")):]) + `"}}`
	for name, text := range map[string]string{"YAML": definition, "JSON": asJSON} {
		t.Run(name, func(t *testing.T) {
			findings := lintFile([]byte(text))
			for _, bound := range []string{"rangeStart", "rangeEnd"} {
				if !slices.ContainsFunc(findings, func(f conflist.Finding) bool {
					return f.Key == "plugins[0].ipam.ranges[0][0]."+bound && strings.Contains(f.Advice, "an IPAM that spans nodes")
				}) {
					t.Errorf("no remark about %s in %v", bound, findings)
				}
			}
		})
	}
}

// FuzzLintFile: whatever a file has, lint does not panic, names lines that the file has, and prints no control character.
func FuzzLintFile(f *testing.F) {
	f.Add([]byte(definition))
	f.Add([]byte(`{"kind": "NetworkAttachmentDefinition", "spec": {"config": "{\"plugins\": [null, {\"type\": \"router\"}]}"}}`))
	f.Add([]byte("kind: NetworkAttachmentDefinition\nspec:\n  config: '{\"type\": \"veth\\u001b[2J\"}'\n---\nkind: NetworkAttachmentDefinition\n"))
	f.Add([]byte(`{"cniVersion": "1.0.0", "name": null, "plugins": [{"type": "ipvlan", "ipam": null}, {"type": "veth-host"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, finding := range lintFile(text) {
			if lines := bytes.Count(text, []byte("\n")) + 1; finding.Line < 0 || finding.Line > lines {
				t.Errorf("line %d of %d", finding.Line, lines)
			}
			if line := quote.Line(finding.String()); strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("a control character in %q", line)
			}
		}
	})
}
