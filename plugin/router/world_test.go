package main

import (
	"os"
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/router/router"
)

var bin string // where Main has built the binaries

func TestMain(m *testing.M) { os.Exit(Main(m, &bin, "../veth")) }

// behind is router in a pod whose eth0 an overlay has made by a script.
func behind(overlay func(Stack) string) *Subject {
	return &Subject{
		Plugin: router.Plugin(), Bin: &bin,
		Config: map[string]any{
			"overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/48"}, "service_hijack_subnet": []any{"172.96.0.0/18", "2001:4860:fd00::/108"},
		},
		Before: func(s Stack) string {
			return "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n" + overlay(s)
		},
		First: Net1, Later: Net2,
		By: "eth0", Seen: "1000:", Shared: "1000:",
		Left:      []string{"table 500", "router.", "route.", "10.10.30.53", "fd30::53"},
		LeftInPod: []string{"1024:", "512:", "table 200", "table 512", "proto static"},
		Traces: func(n *NIC) []string {
			return []string{n.Addr4 + " dev", n.Addr6 + " dev", "." + n.Addr4, "." + n.Name}
		},
	}
}

// The overlays, by their names: eth0 of the pod with its other end on the node.
var (
	ptp      = behind(script("vethptp0", ptp4, ptp6))
	calico   = behind(script("cali0", calico4, calico6))
	overlays = map[string]*Subject{"ptp": ptp, "calico": calico}
)

// ptpOf is ptp with a pod of some families, whatever the node has.
func ptpOf(s Stack) *Subject {
	return behind(func(Stack) string { return script("vethptp0", ptp4, ptp6)(s) })
}

// noOverlay leaves it to the test.
func noOverlay(Stack) string { return "" }

func script(peer, v4, v6 string) func(Stack) string {
	return func(s Stack) string {
		text := pair
		if s.V4 {
			text += v4
		}
		if s.V6 {
			text += v6
		}
		return strings.ReplaceAll(text, "PEER", peer) + "\n"
	}
}

const (
	pair = `ip link add PEER address 02:00:00:00:44:01 type veth peer name eth0 netns $POD address 02:00:00:00:44:02
		sysctl -qw net.ipv4.conf.PEER.forwarding=1
		ip link set PEER up; pod ip link set eth0 up;`
	ptp4 = `ip addr add 10.244.1.1/32 dev PEER; ip route add 10.244.1.5 dev PEER; pod ip addr add 10.244.1.5/24 dev eth0 noprefixroute
		pod ip route add 10.244.1.1 dev eth0 scope link src 10.244.1.5; pod ip route add 10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.5
		pod ip route add default via 10.244.1.1 dev eth0;`
	ptp6 = `ip addr add fd00:10:244:1::1/128 dev PEER nodad; ip -6 route add fd00:10:244:1::5 dev PEER; pod ip addr add fd00:10:244:1::5/64 dev eth0 nodad noprefixroute
		pod ip -6 route add fd00:10:244:1::1 dev eth0; pod ip -6 route add fd00:10:244:1::/64 via fd00:10:244:1::1 dev eth0
		pod ip -6 route add default via fd00:10:244:1::1 dev eth0;`
	calico4 = `sysctl -qw net.ipv4.conf.PEER.proxy_arp=1; ip route add 10.244.1.5 dev PEER scope link; pod ip addr add 10.244.1.5/32 dev eth0
		pod ip route add 169.254.1.1 dev eth0 scope link; pod ip route add default via 169.254.1.1 dev eth0;`
	calico6 = `sysctl -qw net.ipv6.conf.PEER.proxy_ndp=1; ip -6 addr add fe80::ecee:eeff:feee:eeee/64 dev PEER nodad; ip -6 route add fd00:10:244:1::5 dev PEER; pod ip addr add fd00:10:244:1::5/128 dev eth0 nodad
		pod ip -6 addr add fe80::5/64 dev eth0 nodad; pod ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0;`
)

const (
	bridge4 = `ip link add cni0 type bridge; ip link set PEER master cni0; ip link set cni0 up; ip addr add 10.244.1.1/24 dev cni0; sysctl -qw net.ipv4.conf.cni0.forwarding=1
		pod ip addr add 10.244.1.5/24 dev eth0; pod ip route add default via 10.244.1.1 dev eth0;`
	bridge6 = `ip addr add fd00:10:244:1::1/64 dev cni0 nodad; pod ip addr add fd00:10:244:1::5/64 dev eth0 nodad; pod ip -6 route add default via fd00:10:244:1::1 dev eth0;`
)

// view is what an operator sees of the pod and the node.
func view(t *testing.T, w *Trial) string {
	t.Helper()
	return w.View(t, `echo "NAME # ip link show"; ip link show | grep -o "^[0-9]*: [a-z0-9]*\|altname.*" | sed "s/^[0-9]*: //"`, "")
}
