package routing_test

import (
	"testing"

	"underlay-cni/routing"
)

// TestIPv6WithoutFile: where the interface says that IPv6 is on, no file is looked up, which would take longer with every
// pod; here there is none.
func TestIPv6WithoutFile(t *testing.T) {
	w := newWorld(t, "ip link add eth0.100 type veth peer name x")
	s := &routing.Sysctls{NS: w.node, Dir: "net/ipv6/conf/nowhere", Dev: w.node.Link("eth0.100"), Values: routing.Values("disable_ipv6=0")}
	if err := s.Apply(); err != nil {
		t.Errorf("IPv6 is on: %v", err)
	}
	w.sh(t, "sysctl -qw net/ipv6/conf/eth0.100/disable_ipv6=1")
	if err := s.Apply(); err == nil {
		t.Error("IPv6 is off, and no file was looked up")
	}
}
