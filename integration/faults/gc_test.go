package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
)

// gc runs GC with a list of attachments; nil is null, and absent leaves the key out.
func gc(t *testing.T, s *Subject, n *lab.Node, list any, absent bool) ([]byte, error) {
	t.Helper()
	request := n.Conflist().Request(s.Type())
	request["cniVersion"] = "1.1.0"
	if !absent {
		request["cni.dev/valid-attachments"] = list
	}
	return n.Plugin(s.Type(), request, "CNI_COMMAND=GC")
}

func listed(pods ...*lab.Pod) []any {
	list := []any{}
	for _, p := range pods {
		list = append(list, map[string]any{"containerID": p.ContainerID(), "ifname": p.IfName})
	}
	return list
}

// TestGC: with a list, what it does not name goes, [] being a list that names nothing; without one, null or absent, only
// what is provably dead. Another network's attachments stay, and so does what the pods of a network share.
func TestGC(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		for name, c := range map[string]struct {
			list   func(a, b *lab.Pod) any
			absent bool
			keeps  []string
		}{
			"a list of both": {list: func(a, b *lab.Pod) any { return listed(a, b) }, keeps: []string{"a", "b"}},
			"a list of one":  {list: func(a, _ *lab.Pod) any { return listed(a) }, keeps: []string{"a"}},
			"another interface of it": {list: func(a, _ *lab.Pod) any {
				return []any{map[string]any{"containerID": a.ContainerID(), "ifname": "another"}}
			}},
			"an empty list": {list: func(_, _ *lab.Pod) any { return []any{} }},
			"null":          {list: func(_, _ *lab.Pod) any { return nil }, keeps: []string{"a", "b"}},
			"no key":        {list: func(_, _ *lab.Pod) any { return nil }, absent: true, keeps: []string{"a", "b"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				network := func(*lab.Conflist) {}
				two := s.With(func(c *lab.Conflist) { network(c) }) // networks
				n := alone(t, two).N1
				pods := map[string]*lab.Pod{"a": plugged(t, s, n, 0), "b": plugged(t, s, n, 1)}
				for _, p := range pods {
					add(t, two, p)
				}
				network = func(c *lab.Conflist) {
					c.Name = "cni1"
					s.Another(c.Plugin(s.Type()))
				}
				other := plugged(t, s, n, 2)
				add(t, two, other)
				otherEnd := sign(two, other)
				network = func(*lab.Conflist) {}
				// A pod that has died without a DEL.
				dead := plugged(t, s, n, 3)
				add(t, two, dead)
				deadEnd := sign(two, dead)
				run(t, two, dead, "ip link del HOST")
				// What is nobody's of ours, though it looks like it.
				run(t, two, dead, "ip link add vethstranger type veth peer name x; ip rule add pref 1024 iif somebody lookup 701")
				shared := sharedOf(two, dump(t, n.Namespace))

				for range 2 {
					if out, err := gc(t, two, n, c.list(pods["a"], pods["b"]), c.absent); err != nil || len(out) > 0 {
						t.Errorf("GC: %v, printed %q", err, out)
					}
				}
				after := dump(t, n.Namespace)
				for name, p := range pods {
					left := strings.Contains(after.String(), sign(two, p))
					if want := slices.Contains(c.keeps, name); left != want {
						t.Errorf("%s is there: %t", name, left)
					} else if want {
						check(t, two, p)
					}
				}
				for _, stranger := range []string{"link vethstranger", "iif somebody"} {
					if !strings.Contains(after.String(), stranger) {
						t.Errorf("%s is gone", stranger)
					}
				}
				if !strings.Contains(after.String(), otherEnd) || strings.Contains(after.String(), deadEnd) {
					t.Errorf("the other network's pod must stay, and the dead one go:\n%s", after)
				}
				same(t, "what pods share", shared, sharedOf(two, after))
			})
		}
	})
}

func sharedOf(s *Subject, d lab.Dump) lab.Dump {
	return slices.DeleteFunc(slices.Clone(d), func(line string) bool { return !s.Shared.MatchString(line) })
}

// TestGCGoesOn: something of ours cannot be deleted. GC deletes all the rest, and then says what it was.
func TestGCGoesOn(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		before, _ := fresh(t, s)
		var pods []*lab.Pod
		for i := range 3 {
			pods = append(pods, plugged(t, s, n, i))
		}
		// The kernel deletes every interface but this one.
		stubborn := plugin.Attachment{Network: "cni0", ContainerID: "stubborn", IfName: "eth0"}
		run(t, s, pods[0], fmt.Sprintf("ip link set lo down; ip link set lo name %s group %d alias cni0/stubborn/eth0; ip link set %[1]s up", s.HostEnd(stubborn), stubborn.Owner().Group))
		for _, p := range pods {
			add(t, s, p)
		}
		out, err := gc(t, s, n, []any{}, false)
		if err == nil || !strings.Contains(string(out), "ip link del "+s.HostEnd(stubborn)) || !strings.Contains(string(out), `"code": 101`) {
			t.Errorf("GC: %v", err)
		}
		run(t, s, pods[0], fmt.Sprintf("ip link set %s down; ip link set %[1]s name lo group 0 alias ''; ip link set lo up", s.HostEnd(stubborn)))
		same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// TestGCRefused: the kernel refuses one change of a GC after the other. All others are made, the error names the one, and
// the next GC finishes the job.
func TestGCRefused(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		s = s.With(func(c *lab.Conflist) {
			c.CNIVersion = "1.1.0"
			c.Plugin(s.Type())["cni.dev/valid-attachments"] = []any{}
		})
		two := func(t *testing.T) (n *lab.Node, a, b *lab.Pod) {
			t.Helper()
			n = alone(t, s).N1
			a, b = plugged(t, s, n, 0), plugged(t, s, n, 1)
			add(t, s, a)
			add(t, s, b)
			return n, a, b
		}
		_, a, _ := two(t)
		o, err := s.Trace("GC", a, None, 0)
		must(t, err)
		for at := range o.Changes {
			t.Run(fmt.Sprint("change ", at+1), func(t *testing.T) {
				t.Parallel()
				before, _ := fresh(t, s)
				n, a, b := two(t)
				refused, err := s.Trace("GC", a, Refuse, at+1)
				must(t, err)
				f, err := ParseFailure(refused.Stdout)
				must(t, err)
				if !strings.HasPrefix(f.Msg, "ip ") || !strings.Contains(f.Msg, "cannot allocate memory") {
					t.Errorf("GC says %+v", *f)
				}
				left := 0
				for _, p := range []*lab.Pod{a, b} {
					if strings.Contains(dump(t, n.Namespace).String(), sign(s, p)) {
						left++
					}
				}
				if left > 1 {
					t.Error("both attachments have something left")
				}
				_, err = s.Run("GC", a)
				must(t, err)
				same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
			})
		}
		if len(o.Changes) < 2 {
			t.Errorf("%d changes of two attachments", len(o.Changes))
		}
	})
}

// TestStatus: what keeps an ADD from working is told with code 50 and a reason; what does not, is not. It changes nothing.
func TestStatus(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		for name, c := range map[string]struct{ script, says string }{
			"ready":                            {"", ""},
			"one family":                       {"ip addr del 10.10.20.152/24 dev enp1s0", ""},
			"no hostInterface":                 {"ip link del enp1s0", "hostInterface: enp1s0: the node has no such interface"},
			"hostInterface is down":            {"ip link set enp1s0 down", "hostInterface: enp1s0: the interface is down"},
			"hostInterface without an address": {"ip addr flush dev enp1s0", "hostInterface: enp1s0: the interface has no address"},
			"a table of somebody else":         {"nft add table inet somebody", ""},
			"our table is empty":               {"nft add table inet veth-host-cni0", ""},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				n := alone(t, s).N1
				if c.script != "" {
					_, err := n.Run("sh", "-ec", c.script)
					must(t, err)
				}
				before := dump(t, n.Namespace)
				out, err := status(s, n)
				switch {
				case c.says == "" && (err != nil || len(out) > 0):
					t.Errorf("STATUS: %v, printed %q", err, out)
				case c.says != "" && (err == nil || !strings.Contains(string(out), `"code": 50`) || !strings.Contains(string(out), c.says)):
					t.Errorf("STATUS: %v, want 50, %s", err, c.says)
				}
				same(t, "the node", before, dump(t, n.Namespace))
			})
		}
	})
}

func status(s *Subject, n *lab.Node) ([]byte, error) {
	request := n.Conflist().Request(s.Type())
	request["cniVersion"] = "1.1.0"
	return n.Plugin(s.Type(), request, "CNI_COMMAND=STATUS")
}

// TestStatusWithoutFirewall: no backend works.
func TestStatusWithoutFirewall(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		without := *s
		without.Options.NoNFTables = true
		n := alone(t, &without).N1
		out, err := status(&without, n)
		if err == nil || !strings.Contains(string(out), `"code": 50`) || !strings.Contains(string(out), "firewall: ") {
			t.Errorf("STATUS: %v", err)
		}
	})
}

// BenchmarkStatus is the whole process, on a node with pods and on one without, where it has to find out what the
// kernel can do. The bar is 5 ms.
func BenchmarkStatus(b *testing.B) {
	for _, pods := range []int{0, 1} {
		b.Run(fmt.Sprint(pods, " pods"), func(b *testing.B) {
			s := &Subjects[0]
			w, err := lab.Alone(s.Options)
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			for range pods {
				p, err := w.N1.NewPod("a")
				if err == nil {
					err = w.N1.Plug(p, 0)
				}
				if err == nil {
					_, err = s.Run("ADD", p)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := status(s, w.N1); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "ms/p95")
		})
	}
}

// TestAfterOtherPlugins: CHECK does not mind what the plugins behind ours have changed.
func TestAfterOtherPlugins(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		const port = `{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`
		for name, c := range map[string]struct {
			config map[string]any
			script string // in place of a plugin that is not there
		}{
			"tuning": {config: map[string]any{"type": "tuning", "mtu": 1400, "promisc": true, "sysctl": map[string]any{
				"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1",
			}}},
			"tuning of rp_filter":        {config: map[string]any{"type": "tuning", "sysctl": map[string]any{"net.ipv4.conf.eth0.rp_filter": "0"}}},
			"tuning of the address":      {config: map[string]any{"type": "tuning", "mac": "02:00:00:00:03:01"}},
			"portmap":                    {config: map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}}},
			"portmap by iptables":        {config: map[string]any{"type": "portmap", "backend": "iptables", "capabilities": map[string]any{"portMappings": true}}},
			"firewall":                   {config: map[string]any{"type": "firewall", "backend": "iptables"}},
			"sbr":                        {config: map[string]any{"type": "sbr"}},
			"bandwidth, by its own work": {script: "tc qdisc add dev HOST root tbf rate 10mbit burst 32k latency 25ms && tc qdisc add dev HOST ingress"},
			"a service mesh":             {script: "POD iptables -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001; POD ip rule add pref 99 fwmark 0x539 lookup 133; POD ip route add local default dev lo table 133"},
			"Multus' default-route":      {script: "POD ip route add 198.51.100.0/24 via 10.10.20.1 dev IFNAME"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.takesIn(t, "TestAfterOtherPlugins/"+name)
				w := alone(t, s)
				p := plugged(t, s, w.N1, 0)
				out, err := s.Run("ADD", p)
				must(t, err)
				if c.config != nil {
					request := map[string]any{"cniVersion": "1.0.0", "name": "cni0", "prevResult": jsonOf(t, out), "runtimeConfig": jsonOf(t, []byte(port))}
					maps.Copy(request, c.config)
					typ, _ := c.config["type"].(string)
					_, err := w.N1.Plugin(typ, request, p.Variables("ADD")...)
					must(t, err)
				} else if out, err := w.N1.Run("sh", "-ec", strings.NewReplacer("HOST", hostEnd(s, p), "POD", "nsenter --net="+p.Path(), "IFNAME", p.IfName).Replace(c.script)); err != nil {
					t.Skip("SKIPPED, NOT TESTED: ", err, out)
				}
				// CHECK gets the result of the whole chain.
				p.Result.Interfaces = append(p.Result.Interfaces[:1:1], endsOf(t, out)...)
				check(t, s, p)
			})
		}
	})
}
