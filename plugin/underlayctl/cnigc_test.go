package main

import (
	"fmt"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// TestGCVerbs: the GC verb of each plugin, for a network of the same name and with an empty list, takes its own host ends and
// leaves the other's, also where an ADD of the other was killed before it could say whose the host end is.
func TestGCVerbs(t *testing.T) {
	const killed = "ip link set {host} alias ''; " + noAltNames
	for _, state := range []string{"whole", "killed"} {
		for _, plugin := range []string{"veth-host", "veth"} {
			t.Run(fmt.Sprintf("%s, hosts ends are %s", plugin, state), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, lab.Options{})
				lists := map[string]*lab.Conflist{"veth-host": w.n1.Conflist(), "veth": w.vethNetwork("cni0")}
				lists["veth"].Plugins[0]["ipam"] = w.laterNetwork().Plugins[0]["ipam"] // one runtime would not give both the same addresses
				pods := map[string]*lab.Pod{}
				for name, list := range lists {
					pods[name] = w.pod(t, strings.ReplaceAll(name, "-", ""))
					must(t, w.n1.AddTo(list, pods[name]))
					if state == "killed" {
						if left := w.sh(t, pods[name], killed+"; ip link show {host}"); strings.Contains(left, "alias") || strings.Contains(left, "altname") {
							t.Fatal(left)
						}
					}
				}
				before := dump(t, w.n1.Namespace)
				request := lists[plugin].Request(plugin)
				request["cniVersion"], request["cni.dev/valid-attachments"] = "1.1.0", []any{}
				_, err := w.n1.Plugin(plugin, request, "CNI_COMMAND=GC")
				must(t, err)
				after := dump(t, w.n1.Namespace)
				lost := before.Since(after).String()
				for name, p := range pods {
					_, err := w.n1.Run("ip", "link", "show", p.HostEnd())
					if gone := err != nil; gone != (name == plugin) || strings.Contains(lost, p.HostEnd()) != gone {
						t.Errorf("the host end of %s is gone: %v; the node has lost\n%s", name, gone, lost)
					}
				}
			})
		}
	}
}
