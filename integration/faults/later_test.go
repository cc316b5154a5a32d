package faults

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/integration/lab"
)

// laterOf is the name of a pod's second interface that each plugin attaches, for those that attach a second one.
var laterOf = map[string]string{"veth": "net1", "router": "net2"}

// later is a pod whose first interface the plugin has attached, and which has got another one since; with what the node
// and the pod look like then.
func later(t *testing.T, s *Subject) (p *lab.Pod, node, pod lab.Dump) {
	t.Helper()
	n := alone(t, s).N1
	p = plugged(t, s, n, 0)
	add(t, s, p)
	p.IfName = laterOf[s.Type()]
	run(t, s, p, strings.ReplaceAll(`ip link add link enp1s0 name NET address 02:00:00:00:02:77 netns `+p.Path()+` type macvlan mode bridge
		POD ip link set NET up; POD ip addr add 10.10.30.77/24 dev NET; POD ip addr add fd30::77/64 dev NET nodad`, "NET", p.IfName))
	p.Result = &types100.Result{CNIVersion: "1.0.0", Interfaces: []*types100.Interface{{Name: p.IfName, Mac: "02:00:00:00:02:77", Sandbox: p.Path()}}}
	for _, ip := range [][2]string{{"10.10.30.77/24", "10.10.30.1"}, {"fd30::77/64", "fd30::1"}} {
		addr, subnet, err := net.ParseCIDR(ip[0])
		must(t, err)
		p.Result.Routes = append(p.Result.Routes, &types.Route{Dst: net.IPNet{IP: make(net.IP, len(subnet.IP)), Mask: make(net.IPMask, len(subnet.IP))}})
		p.Result.IPs = append(p.Result.IPs, &types100.IPConfig{Interface: new(0), Address: net.IPNet{IP: addr, Mask: subnet.Mask}, Gateway: net.ParseIP(ip[1])})
	}
	eventually(t, func() string { // the kernel adds the last route of an IPv6 address at a time of its own
		if routes := run(t, s, p, "POD ip -6 route show table local"); !regexp.MustCompile(`local fd30::77 dev `).MatchString(routes) {
			return routes
		}
		return ""
	})
	return p, dump(t, n.Namespace), dump(t, p.Namespace)
}

// keptLater are the lines of a pod that may differ after the DEL of the later interface: settings, and the copies of its own
// routes, which nobody looks up any more and which go with it.
var keptLater = regexp.MustCompile(`^sysctl net/ipv[46]/conf/(all|net1|net2)/|^route6? .* dev net1 table 200\b`)

// TestLaterKilled: a later interface's ADD and DEL are killed after each change. The next DEL leaves the node and the pod
// as they were with the first interface alone, and the next ADD makes everything.
func TestLaterKilled(t *testing.T) {
	eachLaterChange(t, "ADD", func(t *testing.T, s *Subject, at int) {
		t.Helper()
		p, node, pod := later(t, s)
		kill(t, s, "ADD", p, at)
		del(t, s, p)
		same(t, "the node after DEL", node, dump(t, p.Node.Namespace))
		same(t, "the pod after DEL", Without(pod, keptLater), Without(dump(t, p.Namespace), keptLater))
		kill(t, s, "ADD", p, at)
		add(t, s, p)
		check(t, s, p)
		del(t, s, p)
		same(t, "the node after another ADD and DEL", node, dump(t, p.Node.Namespace))
		first(t, s, p)
	})
	eachLaterChange(t, "DEL", func(t *testing.T, s *Subject, at int) {
		t.Helper()
		p, node, pod := later(t, s)
		add(t, s, p)
		kill(t, s, "DEL", p, at)
		del(t, s, p)
		same(t, "the node after DEL", node, dump(t, p.Node.Namespace))
		same(t, "the pod after DEL", Without(pod, keptLater), Without(dump(t, p.Namespace), keptLater))
		first(t, s, p)
	})
}

// TestLaterRefused: what a failed ADD of a later interface has done is undone, and the first interface has lost nothing.
func TestLaterRefused(t *testing.T) {
	for fault, reason := range map[Fault]string{Refuse: "cannot allocate memory", Lose: "no buffer space available"} {
		eachLaterChange(t, "ADD", func(t *testing.T, s *Subject, at int) {
			t.Helper()
			p, node, pod := later(t, s)
			o, err := s.Trace("ADD", p, fault, at)
			must(t, err)
			routed(t, s, p, "once ADD has failed")
			switch failed := nth(t, o, at); {
			case o.Status.ExitStatus() == 0 && failed.What == "announcement":
			case o.Status.ExitStatus() == 0 && fault == Lose && !failed.Answered():
			default:
				named(t, o, failed, reason)
				same(t, "the node", node, dump(t, p.Node.Namespace))
				same(t, "the pod", pod, dump(t, p.Namespace))
			}
			add(t, s, p)
			check(t, s, p)
			first(t, s, p)
		})
	}
}

// eachLaterChange runs a test for every change of a verb for a later interface, of each plugin that attaches one.
func eachLaterChange(t *testing.T, verb string, test func(t *testing.T, s *Subject, at int)) {
	t.Helper()
	for _, s := range Subjects {
		if laterOf[s.Type()] == "" || s.ByProgram {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p, _, _ := later(t, &s)
			if verb != "ADD" {
				add(t, &s, p)
			}
			o, err := s.Trace(verb, p, None, 0)
			must(t, err)
			if o.Status.ExitStatus() != 0 || len(o.Changes) < 10 {
				t.Fatalf("%s: status %d, %d changes: %s", verb, o.Status, len(o.Changes), o.Stdout)
			}
			for i, c := range o.Changes {
				t.Run(fmt.Sprintf("%s, change %02d of %d, %s", verb, i+1, len(o.Changes), c), func(t *testing.T) {
					t.Parallel()
					test(t, &s, i+1)
				})
			}
		})
	}
}

// first checks the pod's first interface.
func first(t *testing.T, s *Subject, p *lab.Pod) {
	t.Helper()
	one := *p
	one.IfName = cmp.Or(s.IfName, "eth0")
	one.Result = &types100.Result{CNIVersion: "1.0.0", Interfaces: []*types100.Interface{{Name: one.IfName, Sandbox: p.Path()}}}
	check(t, s, &one)
}
