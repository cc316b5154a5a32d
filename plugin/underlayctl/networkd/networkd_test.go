package networkd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hostEnd = "veth0a1b2c3d"

// write makes the files of a machine, by their paths below its root.
func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What claims a host end is found as systemd.syntax(7) and systemd.network(5) have it.
func TestClaims(t *testing.T) {
	const all, other = "etc/systemd/network/50-all.network", "etc/systemd/network/60-other.network"
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a pattern", map[string]string{all: "[Match]\nName=veth*\n"}, all},
		{"a line that goes on", map[string]string{all: "[Match]\nName=eth0 \\\n# not this one\n veth*\n"}, all},
		{"a last line that goes on", map[string]string{all: "[Match]\nName=veth* \\"}, all},
		{"a comment does not go on", map[string]string{all: "[Match]\n# no \\\nName=veth*\n"}, all},
		{"a reset", map[string]string{all: "[Match]\nName=veth*\nName=\nName=eth0\n"}, ""},
		{"a reset and nothing else", map[string]string{all: "[Match]\nName=veth*\nName=\n"}, ""},
		{"a drop-in that matches", map[string]string{all: "[Match]\nName=eth0\n", "run/systemd/network/50-all.network.d/a.conf": "[Match]\nName=veth*\n"}, all},
		{"a drop-in that resets", map[string]string{all: "[Match]\nName=veth*\n", all + ".d/a.conf": "[Match]\nName=\nName=eth0\n"}, ""},
		{"a drop-in that leaves it alone", map[string]string{all: "[Match]\nName=veth*\n", all + ".d/a.conf": "[Link]\nUnmanaged=yes\n"}, ""},
		{"a stronger drop-in of the same name", map[string]string{
			all: "[Match]\nName=veth*\n", all + ".d/a.conf": "# nothing\n", "usr/lib/systemd/network/50-all.network.d/a.conf": "[Link]\nUnmanaged=yes\n",
		}, all},
		{"a masked file", map[string]string{all: "", all + ".d/a.conf": "[Match]\nName=veth*\n", other: "[Match]\nName=veth*\n"}, other},
		{"a name that is a pattern", map[string]string{"etc/systemd/network/[a.network": "[Match]\nName=veth*\n"}, "etc/systemd/network/[a.network"},
		{"a line of 100 kB", map[string]string{all: "[Match]\nName=" + strings.Repeat("eth0 ", 20000) + "\nName=veth*\n"}, all},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := write(t, test.files)
			got, err := claims(root, hostEnd)
			if err != nil {
				t.Fatal(err)
			}
			if got = strings.TrimPrefix(strings.TrimPrefix(got, root), "/"); got != test.want {
				t.Errorf("%q claims it, want %q", got, test.want)
			}
		})
	}
}

// Whatever a file has, it is read without a panic, and no setting is empty.
func FuzzParse(f *testing.F) {
	f.Add([]byte("[Match]\nName=veth* \\\n# a\n eth0\nName=\n"))
	f.Add([]byte("=\\\n\\\n[\n]=\n;"))
	file := filepath.Join(f.TempDir(), "a.network")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		settings, err := parse(file)
		if err != nil {
			t.Fatal(err)
		}
		for key, values := range settings {
			for _, value := range values {
				if value == "" || strings.TrimSpace(value) != value {
					t.Errorf("%q = %q", key, value)
				}
			}
		}
		matches(settings, hostEnd)
	})
}
