package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"underlay-cni/plugin"
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

// A nic is an interface of a pod, on a wire of its own of the node.
type nic struct {
	stack
	name         string
	number       int // of the wire: 10.10.<number>.0/24 and fd<number>::/64
	container    string
	network      string
	addr4, addr6 string
	mac          string
	noIPs        bool // prevResult leaves them out
}

const id = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3"

func eth0(s stack) *nic { return newNIC("eth0", 20, s) }
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
	r := map[string]any{
		"cniVersion": version,
		"interfaces": []any{map[string]any{"name": n.name, "mac": n.mac, "sandbox": w.Pod}},
	}
	if !n.noIPs {
		r["ips"], r["routes"] = ips, routes
	}
	return r
}

// newWorld makes a node with three wires, enp20, enp30 and enp40, of which the first has the default route, and a pod
// with some interfaces.
func newWorld(t *testing.T, s stack, script string, nics ...*nic) *World {
	t.Helper()
	setup := ""
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
		"cniVersion": "1.0.0", "name": n.network, "type": "veth",
		"overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/96"}, "service_hijack_subnet": []any{"172.96.0.0/18", "2001:4860:fd00::/108"},
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
	return w.Run(t, exec.Command(filepath.Join(bin, "veth")), stdin, env...)
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

// hostEnd is the name of the host end of the pod's pair.
func hostEnd(container string) string {
	return plugin.Attachment{Network: "veth", ContainerID: container}.HostEnd()
}

// group is how a network is named in an altname.
func group(network string) string {
	return fmt.Sprintf("%08x", plugin.Group("veth\x00"+network))
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
