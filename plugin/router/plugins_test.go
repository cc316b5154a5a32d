package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestRealPlugins: behind the reference ptp as the overlay and the reference macvlan, chained as libcni does it. macvlan's
// own CHECK agrees with what router has made of its interface.
func TestRealPlugins(t *testing.T) {
	tools, err := filepath.Abs("../../.tools")
	Must(t, err)
	if _, err := os.Stat(filepath.Join(tools, "ptp")); err != nil {
		t.Skip("the reference plugins are missing, make tools installs them: ", err)
	}
	w := newWorld(t, dual, overlay{"", "", func(stack) string { return "" }}, "")
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
		env := []string{"CNI_COMMAND=" + what, "CNI_CONTAINERID=" + id, "CNI_IFNAME=" + ifName, "CNI_NETNS=" + w.Pod}
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

	macvlan := func(n *nic) object {
		return object{
			"cniVersion": "1.0.0", "name": n.network, "type": "macvlan", "master": fmt.Sprintf("enp%d", n.number), "mode": "bridge",
			"ipam": static(n.addr4+"/24", fmt.Sprintf("10.10.%d.1", n.number), n.addr6+"/64", fmt.Sprintf("fd%d::1", n.number)),
		}
	}
	nics, results := []*nic{net1(dual), net2(dual)}, map[*nic]object{}
	for i, n := range nics {
		prev := run("ADD", "macvlan", n.name, macvlan(n))
		Must(t, json.Unmarshal([]byte(add(t, w, n, "prevResult", prev)), new(object)))
		results[n] = prev
		for _, n := range nics[:i+1] {
			conf := macvlan(n)
			conf["prevResult"] = results[n]
			run("CHECK", "macvlan", n.name, conf)
			check(t, w, n, "prevResult", results[n])
		}
		out := w.Sh(t, "pod ip route get 192.0.2.9; pod ip -6 route get 2001:db8::9; pod ip route get 172.96.0.10; pod ip -6 route get 2001:4860:fd00::a; ip route get "+n.addr4)
		if strings.Count(out, "dev "+n.name) != 2 || strings.Count(out, "dev eth0") != 2 || strings.Count(out, "dev veth") != 1 {
			t.Error(out)
		}
	}
	for _, n := range nics {
		del(t, w, n, "prevResult", results[n])
		run("DEL", "macvlan", n.name, macvlan(n))
	}
	if after := w.Sh(t, "pod ip route; pod ip -6 route; pod ip rule; pod ip -6 rule"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	run("DEL", "ptp", "eth0", ptp)
}
