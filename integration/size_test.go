package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSize: a plugin is a process for each verb of each pod, and in some callers' memory limit, so it stays below 4,500,000 bytes
// as `make build` makes it.
func TestSize(t *testing.T) {
	const most = 4_500_000
	for _, name := range []string{"veth-host", "veth", "router"} {
		binary, err := os.Stat(filepath.Join("..", "bin", name))
		must(t, err)
		if binary.Size() >= most {
			t.Errorf("%s has %d bytes", name, binary.Size())
		}
	}
}
