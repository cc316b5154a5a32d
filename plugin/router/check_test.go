package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "underlay-cni/integration/nettest" //nolint:revive // the words of the tests
	. "underlay-cni/plugin/plugintest"   //nolint:revive // the words of the tests
)

func TestCheck(t *testing.T) {
	ptp.CheckFinds(t, []CheckRow{
		Taken("the mark of the interface", "pod ip link show net1 | grep -o 'router\\..*' | xargs nsenter --net=$POD ip link property del dev net1 altname", "interface net1 has no altname router.pod."),
		Taken("the name on the node", "ip link show vethptp0 | grep -o 'router\\..*' | xargs ip link property del dev vethptp0 altname", "interface vethptp0 has no altname router."),
		Taken("the host route", "ip route del 10.10.30.53 table 500", "route is missing: ip route  10.10.30.53 dev vethptp0 scope link src 10.10.30.152 table 500"),
		Taken("the IPv6 host route", "ip -6 route del fd30::53 table 500", "route is missing: ip -6 route  fd30::53 dev vethptp0 src fd30::152 table 500"),
		Taken("the shared rule", "ip rule del pref 1000", "rule is missing: ip rule  pref 1000 lookup 500"),
		Taken("the shared rule of IPv6", "ip -6 rule del pref 1000", "rule is missing: ip -6 rule  pref 1000 lookup 500"),
		Taken("the neighbour", "ip neigh del 10.10.30.53 dev vethptp0", "neighbour 10.10.30.53 is missing on vethptp0"),
		Taken("the node's neighbour in the pod", "pod ip neigh del fd20::152 dev eth0", "neighbour fd20::152 is missing on eth0"),
		Taken("the pod's route to the node", "pod ip route del 10.10.20.152", "route is missing: ip route  10.10.20.152 dev eth0 scope link src 10.244.1.5 proto static"),
		Taken("a hijack", "pod ip route del 172.96.0.0/18", "route is missing: ip route  172.96.0.0/18 via 10.244.1.1 dev eth0 src 10.244.1.5 metric 1024 proto static"),
		Taken("a hijack by the wire", "pod ip -6 route replace 2001:4860:fd00::/108 via fd30::1", "route is missing: ip -6 route  2001:4860:fd00::/108 via fd00:10:244:1::1 dev eth0"),
		Taken("the table of answers", "pod ip route flush table 512", "route is missing: ip route  default via 10.244.1.1 dev eth0 table 512"),
		Taken("the rule of answers", "pod ip -6 rule del pref 512", "rule is missing: ip -6 rule  pref 512 fwmark 0x1000/0x1000 iif lo lookup 512"),
		Taken("eth0's table", "pod ip route flush table 200", "route is missing: ip route  10.10.20.152 dev eth0 scope link src 10.244.1.5 proto static table 200"),
		Taken("eth0's rule", "pod ip rule del pref 1024", "rule is missing: ip rule  pref 1024 from 10.244.1.5 lookup 200"),
		Taken("the default", "pod ip route del default", "route is missing: ip route  default via 10.10.30.1 dev net1"),
		Taken("eth0's default is back in main", "pod ip route add default via 10.244.1.1 dev eth0 metric 7", "route is still there: ip route  default via 10.244.1.1 dev eth0 metric 7"),
		Taken("the firewall of the pod", "pod nft flush chain inet router output", "table inet router has other rules in output"),
		Taken("rp_filter of the pod", "pod sysctl -qw net/ipv4/conf/eth0/rp_filter=1", "sysctl net/ipv4/conf/eth0/rp_filter is 1, not 2"),
		Taken("src_valid_mark", "pod sysctl -qw net/ipv4/conf/eth0/src_valid_mark=0", "sysctl net/ipv4/conf/eth0/src_valid_mark is 0, not 1"),
	})
}

func TestCheckBeforeAdd(t *testing.T) { ptp.CheckBeforeAdd(t) }

func TestStatus(t *testing.T) {
	ptp.Status(t, StatusRow{Name: "a bad table", Pairs: []any{"host_rule_table", 0}, Code: 7, Msg: "host_rule_table: 0: out of range"})
}

// TestStatusOfReplies: STATUS asks for the rules that ADD writes, which are in pods: a node that cannot translate addresses will
// do, one that cannot mark packets will not.
func TestStatusOfReplies(t *testing.T) {
	for table, code := range map[string]uint{"nat": 0, "filter": 0, "mangle": 50} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
				path, err := exec.LookPath(program)
				Must(t, err)
				script := fmt.Sprintf("#!/bin/sh\nin=$(cat)\ncase $in in *'*%s'*) echo line 1 failed >&2; exit 1;; esac\nprintf '%%s\\n' \"$in\" | exec %s \"$@\"\n", table, path)
				Must(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700))
			}
			n := Net1(Dual)
			w := ptp.New(t, Dual, "")
			got := w.Verb(t, "STATUS", n, w.Request(n, "firewall", "iptables", "cniVersion", "1.1.0", "prevResult", LeaveOut),
				"CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=", "PATH="+dir+":"+os.Getenv("PATH"))
			if code == 0 {
				got.Silent(t, "STATUS")
			} else if f := got.Failed(t); f.Code != code || !strings.HasPrefix(f.Msg, "firewall: ") {
				t.Errorf("got %+v", f)
			}
		})
	}
}

// TestIPTables: in the pod only.
func TestIPTables(t *testing.T) { ptp.IPTables(t, 2) }

func TestGC(t *testing.T) { calico.GCOfNetworks(t) }

// TestNoRouter: the pod does not hand on what comes in by the wire.
func TestNoRouter(t *testing.T) {
	n := Net1(Only4)
	w := ptp.New(t, Only4, "pod sysctl -qw net.ipv4.ip_forward=1", n)
	w.Add(t, n)
	if got := w.Sh(t, "pod cat /proc/sys/net/ipv4/conf/net1/forwarding"); got != "0\n" {
		t.Error(got)
	}
}

func TestIPTablesTakenAway(t *testing.T) { ptp.IPTablesTakenAway(t) }

func TestAtOnceInOnePod(t *testing.T) { ptp.AtOnceInOnePod(t) }
