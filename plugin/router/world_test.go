package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

var (
	bin    string // where Main has built the binary
	update = flag.Bool("update", false, "rewrite the golden text in testdata")
)

func TestMain(m *testing.M) { os.Exit(Main(m, &bin)) }

// A stack is the families of the node and of the pod's interfaces.
type stack struct {
	name   string
	v4, v6 bool
}

var (
	only4  = stack{"IPv4", true, false}
	only6  = stack{"IPv6", false, true}
	dual   = stack{"dual", true, true}
	stacks = []stack{only4, only6, dual}
)

// A nic is an interface of a pod on the wire.
type nic struct {
	stack
	name         string
	number       int // of the wire: 10.10.<number>.0/24 and fd<number>::/64
	container    string
	network      string
	addr4, addr6 string
	mac          string
}

const id = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3"

func net1(s stack) *nic { return newNIC("net1", 30, s) }
func net2(s stack) *nic { return newNIC("net2", 40, s) }

func newNIC(name string, number int, s stack) *nic {
	return &nic{
		stack: s, name: name, number: number, container: id, network: "net-" + name,
		mac:   "02:00:00:" + fmt.Sprintf("%02x:%02x:53", len(name), number),
		addr4: fmt.Sprintf("10.10.%d.53", number), addr6: fmt.Sprintf("fd%d::53", number),
	}
}

// make is the script of the interface, as the macvlan plugin leaves it: where there is a default route already, it cannot
// add another.
func (n *nic) make() string {
	s := fmt.Sprintf("ip link add link enp%d name %s netns $POD address %s type macvlan mode bridge; pod ip link set %[2]s up;", n.number, n.name, n.mac)
	if n.v4 {
		s += fmt.Sprintf("pod ip addr add %s/24 dev %s; pod ip route add default via 10.10.%d.1 2>&- || :;", n.addr4, n.name, n.number)
	}
	if n.v6 {
		s += fmt.Sprintf("pod ip addr add %s/64 dev %s nodad; pod ip -6 route add default via fd%d::1 2>&- || :;", n.addr6, n.name, n.number)
	}
	return s
}

func (n *nic) prevResult(w *World, version string) map[string]any {
	ips, routes := []any{}, []any{}
	add := func(v, addr, gateway, dst string) {
		ip := map[string]any{"address": addr, "gateway": gateway, "interface": 0}
		if version < "1" {
			ip["version"] = v
		}
		ips = append(ips, ip)
		routes = append(routes, map[string]any{"dst": dst})
	}
	if n.v4 {
		add("4", n.addr4+"/24", fmt.Sprintf("10.10.%d.1", n.number), "0.0.0.0/0")
	}
	if n.v6 {
		add("6", n.addr6+"/64", fmt.Sprintf("fd%d::1", n.number), "::/0")
	}
	return map[string]any{
		"cniVersion": version, "ips": ips, "routes": routes,
		"interfaces": []any{map[string]any{"name": n.name, "mac": n.mac, "sandbox": w.Pod}},
	}
}

// An overlay makes eth0 of the pod, with its other end on the node.
type overlay struct {
	name string
	peer string
	make func(stack) string
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

var (
	ptp      = overlay{"ptp", "vethptp0", script("vethptp0", ptp4, ptp6)}
	calico   = overlay{"calico", "cali0", script("cali0", calico4, calico6)}
	overlays = []overlay{ptp, calico}
)

func script(peer, v4, v6 string) func(stack) string {
	return func(s stack) string {
		text := pair
		if s.v4 {
			text += v4
		}
		if s.v6 {
			text += v6
		}
		return strings.ReplaceAll(text, "PEER", peer) + "\n"
	}
}

// newWorld makes a node with three wires, enp20, enp30 and enp40, of which the first has the default route, and a pod
// with the overlay's eth0 and some interfaces on the wire.
func newWorld(t *testing.T, s stack, o overlay, script string, nics ...*nic) *World {
	t.Helper()
	setup := "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1;"
	for _, n := range []int{20, 30, 40} {
		setup += fmt.Sprintf("ip link add enp%d address 02:00:00:00:01:%[1]d type veth peer name wire%[1]d address 02:00:00:00:99:%[1]d; ip link set wire%[1]d up; ip link set enp%[1]d up;", n)
		if s.v4 {
			setup += fmt.Sprintf("ip addr add 10.10.%d.152/24 dev enp%[1]d;", n)
		}
		if s.v6 {
			setup += fmt.Sprintf("ip addr add fd%d::152/64 dev enp%[1]d nodad;", n)
		}
	}
	if s.v4 {
		setup += "ip route add default via 10.10.20.1;"
	}
	if s.v6 {
		setup += "ip -6 route add default via fd20::1;"
	}
	setup += o.make(s)
	for _, n := range nics {
		setup += n.make()
	}
	return New(t, setup+script)
}

// A request is the configuration as libcni writes it, by its keys.
type request map[string]any

const leaveOut = LeaveOut

// config is the smallest configuration for an interface; others, or others' values, follow as pairs.
func config(w *World, n *nic, pairs ...any) request {
	r := request{
		"cniVersion": "1.0.0", "name": n.network, "type": "router",
		"overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/48"}, "service_hijack_subnet": []any{"172.96.0.0/18", "2001:4860:fd00::/108"},
		"log_options": map[string]any{"log_file": "/dev/null"},
	}
	for p := range slices.Chunk(pairs, 2) {
		key, _ := p[0].(string)
		r[key] = p[1]
	}
	if _, given := r["prevResult"]; !given {
		version, _ := r["cniVersion"].(string)
		r["prevResult"] = n.prevResult(w, version)
	}
	maps.DeleteFunc(r, func(_ string, v any) bool { return v == leaveOut })
	return r
}

// verb runs the plugin for an interface; more variables may follow.
func verb(t *testing.T, w *World, what string, n *nic, stdin any, more ...string) Answer {
	t.Helper()
	env := append([]string{"CNI_COMMAND=" + what, "CNI_CONTAINERID=" + n.container, "CNI_IFNAME=" + n.name, "CNI_NETNS=" + w.Pod}, more...)
	return w.Run(t, exec.Command(filepath.Join(bin, "router")), stdin, env...)
}

// add must succeed, and returns the result.
func add(t *testing.T, w *World, n *nic, pairs ...any) string {
	t.Helper()
	a := verb(t, w, "ADD", n, config(w, n, pairs...))
	if a.Status != 0 || a.Stderr != "" {
		t.Fatalf("ADD of %s: %+v", n.name, a)
	}
	return a.Stdout
}

func check(t *testing.T, w *World, n *nic, pairs ...any) {
	t.Helper()
	verb(t, w, "CHECK", n, config(w, n, pairs...)).Silent(t, "CHECK of "+n.name)
}

func del(t *testing.T, w *World, n *nic, pairs ...any) {
	t.Helper()
	verb(t, w, "DEL", n, config(w, n, pairs...)).Silent(t, "DEL of "+n.name)
}

// golden compares with testdata/name, a text that a reader checks by eye.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".txt")
	if *update {
		Must(t, os.MkdirAll("testdata", 0o755))
		Must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	Must(t, err)
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s: go test -update writes it (-want +got)\n%s", file, d)
	}
}

// lasting leaves out what stays in a pod that lives on, and the node's shared rule: the firewall's tables, and sysctls.
func lasting(lines []string) (rest []string) {
	inTable := false
	for i, line := range lines {
		inTable = inTable || strings.HasPrefix(line, "table inet router")
		if !inTable && !strings.HasPrefix(line, "ipv4/conf/") && !strings.HasPrefix(line, "ipv6/conf/") && !strings.HasPrefix(line, "1000:") {
			rest = append(rest, line)
		}
		// A table ends with a brace behind that of its last chain.
		inTable = inTable && (line != "}" || i == 0 || lines[i-1] != "}")
	}
	return rest
}

// view is what an operator sees of the pod and the node.
func view(t *testing.T, w *World) string {
	t.Helper()
	const facts = `
		echo "NAME # ip route show table all"; ip -4 route show table all | grep -v "^local\|^broadcast" || :
		echo "NAME # ip rule show"; ip -4 rule show
		echo "NAME # ip -6 route show table all"; ip -6 route show table all | grep -v "^local\|^multicast\|^anycast\|^fe80" || :
		echo "NAME # ip -6 rule show"; ip -6 rule show
		echo "NAME # ip neigh show nud permanent"; ip neigh show nud permanent | sort
		echo "NAME # ip link show"; ip link show | grep -o "^[0-9]*: [a-z0-9]*\|altname.*" | sed "s/^[0-9]*: //"
		echo`
	text := w.Sh(t, `pod sh -ec '`+strings.ReplaceAll(facts, "NAME", "pod ")+`'`+strings.ReplaceAll(facts, "NAME", "node"))
	var lines []string
	for line := range strings.Lines(regexp.MustCompile(`\n\n+`).ReplaceAllString(text, "\n\n")) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n") + "\n"
}
