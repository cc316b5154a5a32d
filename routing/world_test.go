package routing_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/nettest"
	"underlay-cni/routing"
)

var must, same = nettest.Must, nettest.Same[[]string]

// A world is a node and one pod, out of two network namespaces without a name. Two worlds that were made the same
// way do not differ in anything that an operator can see.
type world struct{ node, pod *routing.Namespace }

// newWorld makes the namespaces and runs the script in the node's (see sh).
func newWorld(t *testing.T, script string) *world {
	t.Helper()
	self, err := routing.Self()
	must(t, err)
	t.Cleanup(self.Close)
	open := func() *routing.Namespace {
		n, err := self.Open(newNamespace(t))
		must(t, err)
		t.Cleanup(n.Close)
		return n
	}
	w := &world{node: open(), pod: open()}
	w.node.Path = "" // a plugin runs on the node: lines for it have no nsenter in front
	w.sh(t, prepare+"; pod sh -ec '"+prepare+"'; "+script)
	return w
}

// prepare: no interface gets a link-local address, which the kernel would add at a time of its own; and no sysctl
// is as the machine that runs the test has it.
const prepare = `cd /proc/sys/net/ipv6/conf/default; echo 1 >addr_gen_mode; echo 0 >accept_dad
	for c in all default; do
		for key in rp_filter src_valid_mark forwarding; do
			echo 0 >/proc/sys/net/ipv4/conf/$c/$key
		done; done
	cd /; ip link set lo up`

// pair is what most changes need: the veth pair of the running example, up; enp1s0 with the node's addresses; and
// eth0 with the pod's. Nothing leaves by wire and podwire.
const pair = `
	ip -batch - <<-END
		link add vetha0e043dd address 02:00:00:00:00:01 type veth peer name veth0 netns $POD address 02:00:00:00:00:02
		link add enp1s0 address 02:00:00:00:00:03 type veth peer name wire address 02:00:00:00:00:04
		link add podwire address 02:00:00:00:00:05 type veth peer name eth0 netns $POD address 02:00:00:00:00:06
		link set vetha0e043dd up
		link set enp1s0 up
		link set wire up
		link set podwire up
		addr add 10.10.20.152/24 dev enp1s0
		addr add fd20::152/64 dev enp1s0 nodad
	END
	pod ip -batch - <<-END
		link set veth0 up
		link set eth0 up
		addr add 10.10.20.53/24 dev eth0
		addr add fd20::53/64 dev eth0 nodad
	END
`

// newNamespace makes a network namespace that lives as long as the test holds it open, and returns its path.
func newNamespace(t *testing.T) string {
	t.Helper()
	path, _ := nettest.Namespace(t)
	return path
}

// sh runs a script on the node, as an operator would: the function "pod" runs a command in the pod, and $POD is the
// path of its namespace. A mount namespace of its own has the node's /sys.
func (w *world) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := w.try(script)
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	return out
}

func (w *world) try(script string) (string, error) {
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t sysfs none /sys; pod() { nsenter --net=$POD "$@"; }; `+script)
	cmd.Env = append(os.Environ(), "POD="+w.pod.Path)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.node.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), err
}

// show is what an operator sees in both namespaces, one fact a line; the sysctls only if asked for.
func (w *world) show(t *testing.T, sysctls bool) []string {
	t.Helper()
	var lines []string
	type part struct{ kind, input, command string }
	parts := []part{
		{"ip", "link\naddr\nneigh\nroute show table all\nrule", "ip -o -d -batch -"},
		{"ip -6", "route show table all\nrule", "ip -6 -o -d -batch -"},
	}
	if sysctls {
		parts = append(parts, part{"sysctl", "", "grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf --include=forwarding " +
			"--include=rp_filter --include=src_valid_mark --include=send_redirects --include=accept_redirects --include=disable_ipv6"})
	}
	for _, part := range parts {
		for _, ns := range []*routing.Namespace{w.node, w.pod} {
			machine := map[bool]string{true: "node", false: "pod"}[ns == w.node]
			words := strings.Fields(part.command)
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Stdin = strings.NewReader(part.input)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			must(t, ns.Do(cmd.Start))
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%s: %v: %s", part.command, err, stderr.Bytes())
			}
			for line := range strings.Lines(stdout.String()) {
				if !irrelevant.MatchString(line) {
					line = strings.TrimPrefix(line, "/proc/sys/net/")
					line = number.ReplaceAllString(changing.ReplaceAllString(isUp.ReplaceAllString(line, " up "), " "), "$1 ")
					lines = append(lines, strings.Join(strings.Fields(machine+" "+part.kind+" "+line), " "))
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

var (
	isUp = regexp.MustCompile(`<(?:[\w-]+,)*UP\b[^>]*>`)
	// What the kernel does with a link at a time of its own, what differs between kernels, and the numbers of links.
	changing = regexp.MustCompile(`<[^>]*>| state \w+| qlen \d+| qdisc \w+| mode DEFAULT| linkdown| dead| minmtu.*maxmtu \d+|[gt]s[oq]_\S+ \d+|gro_\S+ \d+|link-netns(id)? \S+|\\| promiscuity 0| allmulti 0`)
	number   = regexp.MustCompile(`^\d+: ([^:@\s]+)(@\S+)?:?\s`)

	irrelevant = regexp.MustCompile(`ff00::/8|local fd20::\S+ dev \S+ table local proto kernel`)
)

// changes are the lines that are new in after, with a plus, and those that have gone, with a minus.
func changes(before, after []string) []string {
	var diff []string
	for _, line := range before {
		if !slices.Contains(after, line) {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			diff = append(diff, "+ "+line)
		}
	}
	return diff
}
