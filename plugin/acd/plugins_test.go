package acd_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"underlay-cni/plugin/acd"
)

// TestRealMacvlan: what the macvlan plugin leaves, with the IPAM plugins' addresses. With a gateway it waits for the
// kernel's detection, and refuses a duplicate in IPv6 itself; without one the address is still tentative.
func TestRealMacvlan(t *testing.T) {
	const (
		withGateway = `{"type": "host-local", "ranges": [[{"subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "gateway": "10.10.20.1"}],
			[{"subnet": "fd20::/64", "rangeStart": "fd20::50", "gateway": "fd20::1"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
		without = `{"type": "static", "addresses": [{"address": "10.10.20.50/24"}, {"address": "fd20::50/64"}]}`
	)
	for _, test := range []struct {
		name, ipam string
		taken      netip.Addr
		refused    string // by the plugin before
	}{
		{"host-local, free", withGateway, netip.Addr{}, ""},
		{"host-local, IPv4 is taken", withGateway, pod4, ""},
		{"host-local, IPv6 is taken", withGateway, pod6, "DADFAILED"},
		{"static without a gateway, free", without, netip.Addr{}, ""},
		{"static without a gateway, IPv4 is taken", without, pod4, ""},
		{"static without a gateway, IPv6 is taken", without, pod6, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, onMacvlan)
			must(t, w.pod.IP("link del eth0"))
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "a.conflist"),
				fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "macvlan", "master": "enp1s0", "mode": "bridge", "ipam": %s}]}`, test.ipam), 0o600))
			tools, err := filepath.Abs("../../.tools")
			must(t, err)
			if tools, err = filepath.EvalSymlinks(tools); err != nil {
				t.Fatalf("`make cni-tools` builds the plugins: %v", err)
			}
			if test.taken.IsValid() {
				add(t, w.other, test.taken, "eth0")
			}
			// IPv6 as the kernel has it by default.
			must(t, w.pod.Sysctl(map[string]string{"net/ipv6/conf/default/accept_dad": "1", "net/ipv6/conf/default/dad_transmits": "1"}))
			start := time.Now()
			_, err = w.node.Run("unshare", "--mount", "sh", "-ec", `mkdir -p /var/lib/cni; mount -t tmpfs none /var/lib/cni
				CNI_PATH=$0 NETCONFPATH=$1 exec $0/cnitool add a $2`, tools, dir, w.pod.Path())
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("macvlan: got %v, want %s", err, test.refused)
				}
				return
			}
			must(t, err)
			addrs, err := w.podNS.Addresses(w.eth0)
			must(t, err)
			t.Logf("macvlan took %s and left %v", time.Since(start), addrs)
			o := quick
			if test.taken.IsValid() {
				o = patient
			}
			err = w.check(o)
			if c, ok := errors.AsType[*acd.Conflict](err); ok != test.taken.IsValid() || ok && (c.Addr != test.taken || c.MAC.String() != otherMAC.String()) {
				t.Errorf("got %v, want a conflict for %s", err, test.taken)
			} else if !ok {
				must(t, err)
			}
		})
	}
}

// TestIPvlan: pods and their node have one hardware address. In mode l2 the wire answers as ever; in the others the
// interface has no neighbours.
func TestIPvlan(t *testing.T) {
	for _, mode := range []string{"l2", "l3", "l3s"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, onMacvlan)
			must(t, w.pod.IP("link del eth0"))
			if err := w.node.IP(fmt.Sprintf("link add link enp1s0 name eth0 netns %s type ipvlan mode %s", w.pod.Path(), mode)); err != nil {
				t.Skipf("THE KERNEL HAS NO IPVLAN, NOT TESTED HERE (make vm): %v", err)
			}
			must(t, w.pod.IP("link set eth0 up"))
			for _, addr := range []netip.Addr{pod4, pod6} {
				add(t, w.pod, addr, "eth0")
				must(t, w.check(quick))

				add(t, w.other, addr, "eth0")
				err := w.check(patient)
				c, ok := errors.AsType[*acd.Conflict](err)
				if ok != (mode == "l2") || ok && c.MAC.String() != otherMAC.String() {
					t.Errorf("another machine has %s: got %v", addr, err)
				}
				del(t, w.other, addr, "eth0")

				must(t, w.node.IP(fmt.Sprintf("route add local %s dev lo", addr))) // an address would be refused
				err = w.check(quick)
				if c, ok = errors.AsType[*acd.Conflict](err); !ok || c.Local != "the node" {
					t.Errorf("the node has %s: got %v", addr, err)
				}
				must(t, w.node.IP(fmt.Sprintf("route del local %s dev lo", addr)))
			}
		})
	}
}
