package plugintest

import (
	"fmt"
	"strings"
)

// A Stack is the families of the node and of the pod's interfaces.
type Stack struct {
	Name   string
	V4, V6 bool
}

// The stacks in which everything is tested that touches the kernel.
var (
	Only4 = Stack{"IPv4", true, false}
	Only6 = Stack{"IPv6", false, true}
	Dual  = Stack{"dual", true, true}
)

// Stacks are all of them.
func Stacks() []Stack { return []Stack{Only4, Only6, Dual} }

// ID is the container id of the tests' pod.
const ID = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3"

// ThreeWires is the script of a node with three wires, enp20, enp30 and enp40, of which the first has the default route.
func ThreeWires(s Stack) string {
	var script strings.Builder
	for _, n := range []int{20, 30, 40} {
		fmt.Fprintf(&script, "ip link add enp%d address 02:00:00:00:01:%[1]d type veth peer name wire%[1]d address 02:00:00:00:99:%[1]d; ip link set wire%[1]d up; ip link set enp%[1]d up;", n)
		if s.V4 {
			fmt.Fprintf(&script, "ip addr add 10.10.%d.152/24 dev enp%[1]d;", n)
		}
		if s.V6 {
			fmt.Fprintf(&script, "ip addr add fd%d::152/64 dev enp%[1]d nodad;", n)
		}
	}
	if s.V4 {
		script.WriteString("ip route add default via 10.10.20.1;")
	}
	if s.V6 {
		script.WriteString("ip -6 route add default via fd20::1;")
	}
	return script.String()
}

// A NIC is an interface of a pod on one of the node's wires, and its attachment.
type NIC struct {
	Stack
	Name         string
	Number       int // of the wire: 10.10.<number>.0/24 and fd<number>::/64
	Container    string
	Network      string
	Addr4, Addr6 string
	MAC          string
}

// NewNIC is an interface of the tests' pod.
func NewNIC(name string, number int, s Stack) *NIC {
	return &NIC{
		Stack: s, Name: name, Number: number, Container: ID, Network: "net-" + name,
		MAC:   fmt.Sprintf("02:00:00:%02x:%02x:53", len(name), number),
		Addr4: fmt.Sprintf("10.10.%d.53", number), Addr6: fmt.Sprintf("fd%d::53", number),
	}
}

// Eth0 is the first interface of a pod.
func Eth0(s Stack) *NIC { return NewNIC("eth0", 20, s) }

// Net1 is the second.
func Net1(s Stack) *NIC { return NewNIC("net1", 30, s) }

// Net2 is the third.
func Net2(s Stack) *NIC { return NewNIC("net2", 40, s) }

// Make is the script of the interface, as the macvlan plugin leaves it: where there is a default route already, it cannot
// add another.
func (n *NIC) Make() string {
	s := fmt.Sprintf("ip link add link enp%d name %s netns $POD address %s type macvlan mode bridge; pod ip link set %[2]s up;", n.Number, n.Name, n.MAC)
	if n.V4 {
		s += fmt.Sprintf("pod ip addr add %s/24 dev %s; pod ip route add default via 10.10.%d.1 2>&- || :;", n.Addr4, n.Name, n.Number)
	}
	if n.V6 {
		s += fmt.Sprintf("pod ip addr add %s/64 dev %s nodad; pod ip -6 route add default via fd%d::1 2>&- || :;", n.Addr6, n.Name, n.Number)
	}
	return s
}

// MakeBare is Make where the IPAM plugin gives no default route.
func (n *NIC) MakeBare() string {
	return strings.ReplaceAll(n.Make(), "route add default", "route show default")
}

// BareResult is PrevResult where the IPAM plugin gives no default route and names no gateway.
func (n *NIC) BareResult(pod, version string) map[string]any {
	prev := n.PrevResult(pod, version)
	delete(prev, "routes")
	ips, _ := prev["ips"].([]any)
	for _, ip := range ips {
		fields, _ := ip.(map[string]any)
		delete(fields, "gateway")
	}
	return prev
}

// PrevResult is what the macvlan plugin says of the interface in the pod, in the words of a version of the specification.
func (n *NIC) PrevResult(pod, version string) map[string]any {
	ips, routes := []any{}, []any{}
	add := func(v, addr, gateway, dst string) {
		ip := map[string]any{"address": addr, "gateway": gateway, "interface": 0}
		if version < "1" {
			ip["version"] = v
		}
		ips = append(ips, ip)
		routes = append(routes, map[string]any{"dst": dst})
	}
	if n.V4 {
		add("4", n.Addr4+"/24", fmt.Sprintf("10.10.%d.1", n.Number), "0.0.0.0/0")
	}
	if n.V6 {
		add("6", n.Addr6+"/64", fmt.Sprintf("fd%d::1", n.Number), "::/0")
	}
	return map[string]any{
		"cniVersion": version, "ips": ips, "routes": routes,
		"interfaces": []any{map[string]any{"name": n.Name, "mac": n.MAC, "sandbox": pod}},
	}
}

// MACByPrefix is the hardware address that a prefix of two octets, as "0a:1b", makes of the interface's address.
func (n *NIC) MACByPrefix(prefix string) string {
	if n.V4 {
		return fmt.Sprintf("%s:0a:0a:%02x:35", prefix, n.Number)
	}
	return prefix + ":00:00:00:53"
}
