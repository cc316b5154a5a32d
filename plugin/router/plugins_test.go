package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

// TestRealPlugins: behind the reference ptp as the overlay and the reference macvlan, chained as libcni does it. macvlan's
// own CHECK agrees with what router has made of its interface.
func TestRealPlugins(t *testing.T) {
	tools, err := filepath.Abs("../../.tools")
	Must(t, err)
	if _, err := os.Stat(filepath.Join(tools, "ptp")); err != nil {
		t.Skip("the reference plugins are missing, make tools installs them: ", err)
	}
	w := behind(noOverlay).New(t, Dual, "")
	type object = map[string]any
	static := func(pairs ...string) object {
		var addrs []any
		for i := 0; i < len(pairs); i += 2 {
			addrs = append(addrs, object{"address": pairs[i], "gateway": pairs[i+1]})
		}
		return object{"type": "static", "addresses": addrs, "routes": []any{object{"dst": "0.0.0.0/0"}, object{"dst": "::/0"}}}
	}
	run := func(what, plugin, ifName string, conf object) object {
		t.Helper()
		env := []string{"CNI_COMMAND=" + what, "CNI_CONTAINERID=" + ID, "CNI_IFNAME=" + ifName, "CNI_NETNS=" + w.Pod}
		got := w.Run(t, exec.Command(filepath.Join(tools, plugin)), conf, env...)
		if got.Status != 0 {
			t.Fatalf("%s of %s: %+v", what, plugin, got)
		}
		var result object
		if got.Stdout != "" {
			Must(t, json.Unmarshal([]byte(got.Stdout), &result))
		}
		return result
	}
	ptp := object{"cniVersion": "1.0.0", "name": "overlay", "type": "ptp", "ipam": static("10.244.1.5/24", "10.244.1.1", "fd00:10:244:1::5/64", "fd00:10:244:1::1")}
	run("ADD", "ptp", "eth0", ptp)
	before := w.Sh(t, "pod ip route; pod ip -6 route; pod ip rule; pod ip -6 rule")

	macvlan := func(n *NIC) object {
		return object{
			"cniVersion": "1.0.0", "name": n.Network, "type": "macvlan", "master": fmt.Sprintf("enp%d", n.Number), "mode": "bridge",
			"ipam": static(n.Addr4+"/24", fmt.Sprintf("10.10.%d.1", n.Number), n.Addr6+"/64", fmt.Sprintf("fd%d::1", n.Number)),
		}
	}
	nics, results := []*NIC{Net1(Dual), Net2(Dual)}, map[*NIC]object{}
	for i, n := range nics {
		prev := run("ADD", "macvlan", n.Name, macvlan(n))
		Must(t, json.Unmarshal([]byte(w.Add(t, n, "prevResult", prev)), new(object)))
		results[n] = prev
		for _, n := range nics[:i+1] {
			conf := macvlan(n)
			conf["prevResult"] = results[n]
			run("CHECK", "macvlan", n.Name, conf)
			w.Check(t, n, "prevResult", results[n])
		}
		out := w.Sh(t, "pod ip route get 192.0.2.9; pod ip -6 route get 2001:db8::9; pod ip route get 172.96.0.10; pod ip -6 route get 2001:4860:fd00::a; ip route get "+n.Addr4)
		if strings.Count(out, "dev "+n.Name) != 2 || strings.Count(out, "dev eth0") != 2 || strings.Count(out, "dev veth") != 1 {
			t.Error(out)
		}
	}
	for _, n := range nics {
		w.Del(t, n, "prevResult", results[n])
		run("DEL", "macvlan", n.Name, macvlan(n))
	}
	if after := w.Sh(t, "pod ip route; pod ip -6 route; pod ip rule; pod ip -6 rule"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	run("DEL", "ptp", "eth0", ptp)
}

// TestBridge: the overlay's interface on the node is a port of a bridge, as flannel's is: with a strict rp_filter the node drops what
// the pod sends, and the log says so.
func TestBridge(t *testing.T) {
	for filter, strict := range map[int]bool{0: false, 1: true, 2: false} {
		t.Run(fmt.Sprint("rp_filter ", filter), func(t *testing.T) {
			t.Parallel()
			n := Net1(Dual)
			w := behind(script("vethbr", bridge4, bridge6)).New(t, Dual, fmt.Sprintf("sysctl -qw net.ipv4.conf.all.rp_filter=%d net.ipv4.conf.cni0.rp_filter=%[1]d", filter), n)
			file := filepath.Join(t.TempDir(), "router.log")
			w.Add(t, n, "log_options", map[string]any{"log_file": file})
			w.Check(t, n)
			log, err := os.ReadFile(file)
			Must(t, err)
			const says = "the node drops what comes from net1: vethbr is a port of the bridge cni0 with rp_filter 1; accepted: 0 or 2"
			if strings.Contains(string(log), says) != strict || strings.Contains(string(log), "level=WARN") != strict {
				t.Errorf("strict is %v:\n%s", strict, log)
			}
			w.Del(t, n)
			None(t, "on the node", w.Sh(t, "ip link; ip route show table all; ip -6 route show table all; ip neigh show nud permanent"), w.Left...)
		})
	}
}
