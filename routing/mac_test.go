package routing_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

func macCases() []changeCase {
	const was = "eth0 has address 02:00:00:00:00:06, not 0a:1b:0a:0a:14:35"
	change := func(w *world) change { return podEth0(w) }
	return []changeCase{
		{
			name: "mac", change: change, says: was,
			spoilt: []spoilt{
				{"another", "pod ip link set eth0 address 02:00:00:00:00:99", "eth0 has address 02:00:00:00:00:99"},
			},
		},
		{
			name: "mac of a macvlan that is up", bare: true, before: macvlan, change: change, says: was,
		},
		{
			name: "mac, neighbours are forgotten", change: change, says: was,
			before:   "pod ip neigh add 10.10.20.1 lladdr 02:00:00:00:00:11 dev eth0 nud permanent; pod ip neigh add fd20::1 lladdr 02:00:00:00:00:11 dev eth0 nud permanent",
			reverted: "pod ip neigh del 10.10.20.1 dev eth0; pod ip neigh del fd20::1 dev eth0",
		},
		{
			name: "mac, already", change: change, already: true, before: "pod ip link set eth0 address 0a:1b:0a:0a:14:35",
		},
	}
}

func podEth0(w *world) *routing.LinkMAC {
	return &routing.LinkMAC{Link: w.pod.Link("eth0"), MAC: net.HardwareAddr{0x0a, 0x1b, 10, 10, 20, 53}}
}

// macvlan is a pod as the macvlan plugin leaves it.
const macvlan = `
	ip link add enp1s0 address 02:00:00:00:00:03 type veth peer name wire address 02:00:00:00:00:04
	ip link set enp1s0 up; ip link set wire up
	ip link add link enp1s0 name eth0 netns $POD address 02:00:00:00:00:06 type macvlan mode bridge
	pod ip -batch - <<-END
		link set eth0 up
		addr add 10.10.20.53/24 dev eth0
		addr add fd20::53/64 dev eth0 nodad
		route add default via 10.10.20.1
		route add ::/0 via fd20::1
	END
`

// TestMACRefused: the kernel's reason, and nothing is changed.
func TestMACRefused(t *testing.T) {
	for _, test := range []struct {
		name, script string
		is           error
		says         string
	}{
		{"no interface", "pod ip link del eth0", routing.ErrNoLink, "interface eth0: no such interface"},
		{
			"another macvlan of the parent has it", "ip link add link enp1s0 name other address 0a:1b:0a:0a:14:35 type macvlan mode bridge; ip link set other up",
			unix.EADDRINUSE, "address already in use",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, macvlan+test.script)
			before := w.show(t, false)
			m := podEth0(w)
			if err := m.Apply(); !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v", err, test.is)
			}
			must(t, m.Revert())
			same(t, "afterwards", before, w.show(t, false))
		})
	}
	t.Run("gone before Revert", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, macvlan)
		m := podEth0(w)
		must(t, m.Possible())
		must(t, m.Apply())
		w.sh(t, "pod ip link del eth0")
		must(t, m.Revert())
	})
	t.Run("of an ipvlan", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, macvlan)
		out, err := w.try("pod ip link del eth0; ip link add link enp1s0 name eth0 netns $POD type ipvlan mode l2; pod ip link set eth0 up")
		if err != nil {
			t.Skipf("THE KERNEL HAS NO IPVLAN, NOT TESTED HERE (make vm): %s%v", out, err)
		}
		before := w.show(t, false)
		for _, refuse := range []func() error{podEth0(w).Possible, podEth0(w).Apply} {
			if err := refuse(); !errors.Is(err, routing.ErrSharedMAC) || !strings.Contains(err.Error(), "eth0") {
				t.Errorf("got %v", err)
			}
		}
		same(t, "afterwards", before, w.show(t, false))
	})
}
