package faults

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
)

// overlay gives a pod that has net1 on the wire what an overlay's plugin has made before: eth0, a veth whose other end is
// on the node, and the pod's default routes. net1 has none then, as macvlan leaves it that cannot add a second one; its
// gateways are in the result.
func overlay(t *testing.T, p *lab.Pod) {
	t.Helper()
	links, err := p.Node.Run("ip", "-br", "link")
	must(t, err)
	number := strings.Count(links, "\n"+plugin.HostEndPrefix) // of pods before it
	host := overlayEnd(attachment(p))
	script := fmt.Sprintf("ip link add HOST address 02:00:00:00:43:%02x type veth peer name eth0 address 02:00:00:00:44:%02[1]x netns %s; ip link set HOST up; POD ip link set eth0 up\n", number, p.Path())
	var awaited []string
	for _, f := range []struct {
		addr          netip.Addr // of net1
		ip, node, pod string
	}{
		{p.Addr.V4, "ip -4", "10.244.1.1", fmt.Sprint("10.244.1.", number+5)},
		{p.Addr.V6, "ip -6", "fd00:10:244:1::1", fmt.Sprintf("fd00:10:244:1::%x", number+5)},
	} {
		if !f.addr.IsValid() {
			continue
		}
		bits, nodad := f.addr.BitLen(), ""
		if f.addr.Is6() {
			nodad = "nodad"
			awaited = append(awaited, "local "+f.node+" dev HOST ", "local "+f.pod+" dev eth0 ")
		}
		script += fmt.Sprintf("IP addr add NODE/%d dev HOST %s; IP route add OWN dev HOST; POD IP addr add OWN/%[1]d dev eth0 %[2]s\n", bits, nodad) +
			"POD IP route add NODE dev eth0 src OWN; POD IP route replace default via NODE dev eth0\n"
		script = strings.NewReplacer("IP", f.ip, "NODE", f.node, "OWN", f.pod).Replace(script)
	}
	enter := strings.NewReplacer("HOST", host, "POD", "nsenter --net="+p.Path())
	_, err = p.Node.Run("sh", "-ec", enter.Replace(script))
	must(t, err)
	eventually(t, func() string { // the kernel adds the last route of an IPv6 address at a time of its own
		routes, err := p.Node.Run("sh", "-ec", enter.Replace("ip -6 route show table local; POD ip -6 route show table local"))
		must(t, err)
		for _, route := range awaited {
			if !strings.Contains(routes, enter.Replace(route)) {
				return routes
			}
		}
		return ""
	})
}

// routed makes sure that a pod which must always have a default route has one, in each of its families.
func routed(t *testing.T, s *Subject, p *lab.Pod, when string) {
	t.Helper()
	if !s.Routed {
		return
	}
	for family, addr := range map[string]netip.Addr{"-4": p.Addr.V4, "-6": p.Addr.V6} {
		if !addr.IsValid() {
			continue
		}
		routes, err := p.Run("ip", family, "route", "show", "table", "main")
		must(t, err)
		if !regexp.MustCompile(`(?m)^default .*(dev|nexthop)`).MatchString(routes) {
			t.Errorf("the pod has no default route (ip %s) %s:\n%s", family, when, routes)
		}
	}
}
