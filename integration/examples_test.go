package integration

import (
	"os"
	"path/filepath"
	"testing"

	"underlay-cni/integration/lab"
)

// TestExamples runs every shipped conflist as it is: ADD, CHECK where the version has it, the pod and its node reach each
// other, DEL. What needs something that is not here is skipped, and says what.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../conflist/examples/*")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			list, err := lab.ReadConflist(file)
			must(t, err)
			options := lab.Options{}
			options.HostInterface, _ = list.Plugins[0]["master"].(string)
			if list.Plugin("router") != nil {
				options.Overlay = lab.Calico
			}
			w := newWorld(t, options)
			if missing := missing(w, list); missing != "" {
				t.Skip("SKIPPED, NOT TESTED: ", missing)
			}
			p := newPod(t, w.N1, "a")
			if options.Overlay != lab.NoOverlay {
				must(t, w.N1.AddOverlay(p))
			}
			must(t, w.N1.AddTo(list, p))
			for _, f := range lab.DualStack {
				if !p.Addr.Of(f).IsValid() {
					continue
				}
				must(t, p.Ping(w.N1.Addr.Of(f)))
				must(t, w.N1.Ping(p.Addr.Of(f)))
			}
			if list.CNIVersion >= "0.4.0" { // below, a configuration has no CHECK
				_, err = w.N1.CNI("check", list, p)
				must(t, err)
			}
			must(t, w.N1.DelFrom(list, p))
		})
	}
}

// missing tells what a conflist needs and is not here.
func missing(w *lab.World, list *lab.Conflist) string {
	for _, p := range list.Plugins {
		typ, _ := p["type"].(string)
		if typ == "ipvlan" && w.N1.IP("link add probe link "+w.Options.HostInterface+" type ipvlan", "link del probe") != nil {
			return "this kernel has no ipvlan"
		}
		ipam, _ := p["ipam"].(map[string]any)
		if name, ok := ipam["type"].(string); ok {
			if _, err := os.Stat(filepath.Join(w.Options.Tools, name)); err != nil {
				return "no IPAM plugin " + name + " here"
			}
		}
	}
	return ""
}
