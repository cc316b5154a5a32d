package faults

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
)

// run runs a script of a shell on the node, in which HOST is the pod's host end and POD enters the pod.
func run(t *testing.T, s *Subject, p *lab.Pod, script string) string {
	t.Helper()
	script = strings.NewReplacer("HOST", hostEnd(s, p), "POD", "nsenter --net="+p.Path()).Replace(script)
	out, err := p.Node.Run("sh", "-ec", script)
	must(t, err)
	return out
}

func attachment(p *lab.Pod) plugin.Attachment {
	return plugin.Attachment{Network: p.Node.Conflist().Name, ContainerID: p.ContainerID(), IfName: p.IfName}
}

func hostEnd(s *Subject, p *lab.Pod) string { return s.HostEnd(attachment(p)) }

// sign is what is in the node's Dump as long as there is anything of the pod.
func sign(s *Subject, p *lab.Pod) string {
	if s.Sign != nil {
		return s.Sign(attachment(p))
	}
	return hostEnd(s, p)
}

// attached is a node with a pod, and what the node was before.
func attached(t *testing.T, s *Subject) (n *lab.Node, p *lab.Pod, before lab.Dump) {
	t.Helper()
	n = alone(t, s).N1
	before, _ = fresh(t, s)
	p = plugged(t, s, n, 0)
	add(t, s, p)
	return n, p, before
}

// TestTakenAway: somebody takes away what belongs to a pod. CHECK says so, the next ADD makes all of it again, and DEL
// without that leaves the node as it was.
func TestTakenAway(t *testing.T) {
	scripts := map[string]string{
		"the host end":                "ip link del HOST",
		"the pod's end":               "POD ip link del veth0",
		"the pod's rules on the node": "ip rule del pref 1024; ip -6 rule del pref 1024",
		"all rules, as a restart of systemd-networkd may": "for f in -4 -6; do ip $f rule flush; ip $f rule add pref 32766 lookup main; done; ip rule add pref 32767 lookup default",
		"the rules in the pod":                            "for f in -4 -6; do POD ip $f rule flush; POD ip $f rule add pref 32766 lookup main; done; POD ip rule add pref 32767 lookup default",
		"the routes of the host end":                      "ip route flush dev HOST table all; ip -6 route flush dev HOST table all",
		"the neighbours":                                  "ip neigh flush dev HOST nud permanent; for dev in veth0 eth0; do ! POD ip link show $dev || POD ip neigh flush dev $dev nud permanent; done",
		"the firewall":                                    "nft flush ruleset; POD nft flush ruleset",
		"the rules of the firewall":                       "nft list tables | sed 's/^/flush /' | nft -f -; POD nft list tables | sed 's/^/flush /' | POD nft -f -",
		"the pod's routes to the node":                    "POD ip route flush dev veth0 table all; POD ip -6 route flush dev veth0 table all",
	}
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		all := maps.Clone(scripts)
		maps.Copy(all, s.TakenAway)
		for name, script := range all {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.takesIn(t, "TestTakenAway/"+name)
				n, p, before := attached(t, s)
				node, pod := dump(t, n.Namespace), dump(t, p.Namespace)

				run(t, s, p, script)
				if out, err := s.Run("CHECK", p); err == nil || !strings.Contains(string(out), `"code": 120`) {
					t.Errorf("CHECK: %v", err)
				}
				add(t, s, p)
				check(t, s, p)
				same(t, "the node after another ADD", tableless(node), tableless(dump(t, n.Namespace)))
				same(t, "the pod after another ADD", tableless(pod), tableless(dump(t, p.Namespace)))

				run(t, s, p, script)
				del(t, s, p)
				same(t, "the node after DEL", before, Without(dump(t, n.Namespace), s.Shared))
			})
		}
	})
}

// tableless leaves out what differs between two pairs of the same name: the number of their table, and the index.
func tableless(d lab.Dump) lab.Dump {
	var out lab.Dump
	for _, line := range d {
		out = append(out, number.ReplaceAllString(line, "$1 N"))
	}
	return out
}

var number = regexp.MustCompile(`\b(lookup|table|addr) 2\d\d\b|^addr \d+`)

// TestNetnsGone: the runtime has lost the pod's namespace. The host end goes with it, the rules stay, "[detached]", until
// DEL, which gets a path that leads nowhere; a GC without a list does the same.
func TestNetnsGone(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		for _, verb := range []string{"DEL", "GC"} {
			t.Run(verb, func(t *testing.T) {
				t.Parallel()
				n, p, before := attached(t, s)
				host, variables := hostEnd(s, p), p.Variables(verb)
				must(t, p.Close())
				eventually(t, func() string {
					if links := run(t, s, p, "ip -br link"); strings.Contains(links, host) {
						return "the host end is still there: " + links
					}
					return ""
				})
				request := n.Conflist().Request(s.Type())
				request["cniVersion"] = "1.1.0"
				_, err := n.Plugin(s.Type(), request, variables...)
				must(t, err)
				same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
			})
		}
	})
}

// TestStalePod: an earlier pod with the same address has never been deleted. The new one takes over its route, and its
// DEL, however late, takes nothing from the new one.
func TestStalePod(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		before, _ := fresh(t, s)
		old := plugged(t, s, n, 0)
		add(t, s, old)
		// The wire knows the address twice for a moment; the pods do not, since duplicate detection is off.
		p := plugged(t, s, n, 0)
		add(t, s, p)
		check(t, s, p)
		for _, addr := range []netip.Addr{p.Addr.V4, p.Addr.V6} {
			if got := run(t, s, p, fmt.Sprintf("ip route get %s", addr)); !strings.Contains(got, " dev "+hostEnd(s, p)+" ") {
				t.Errorf("the node sends to %s by %s", addr, got)
			}
		}
		mine := func() (d lab.Dump) {
			for _, line := range dump(t, n.Namespace) {
				if strings.Contains(line, hostEnd(s, p)) {
					d = append(d, line)
				}
			}
			return d
		}
		now, pod := mine(), dump(t, p.Namespace)
		del(t, s, old)
		del(t, s, old, "CNI_NETNS=")
		same(t, "the new pod on the node", now, mine())
		same(t, "the new pod", pod, dump(t, p.Namespace))
		check(t, s, p)
		del(t, s, p)
		same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// TestStaleRoute: an interface of somebody else has a route, and a neighbour, for the pod's address.
func TestStaleRoute(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		p := plugged(t, s, n, 0)
		table := cmp.Or(s.Table, "main")
		run(t, s, p, `ip link add stale type veth peer name stale1; ip link set stale1 up; ip link set stale up
			for table in main `+table+`; do ip route replace 10.10.20.50 dev stale table $table; ip -6 route replace fd20::50 dev stale table $table; done
			ip neigh add 10.10.20.50 lladdr 02:00:00:00:00:66 dev stale nud permanent; ip neigh add fd20::50 lladdr 02:00:00:00:00:66 dev stale nud permanent
			ip neigh add 10.10.20.50 lladdr 02:00:00:00:00:66 dev enp1s0 nud permanent`)
		add(t, s, p)
		check(t, s, p)
		routes := run(t, s, p, fmt.Sprintf("ip route show 10.10.20.50 table %s; ip -6 route show fd20::50 table %[1]s", table))
		if strings.Contains(routes, "stale") || strings.Count(routes, "dev "+hostEnd(s, p)) != 2 {
			t.Errorf("routes to the pod:\n%s", routes)
		}
	})
}

// TestForeignInterface: the pod has a veth0 of somebody else. The error names it, and nothing has changed; DEL leaves it.
func TestForeignInterface(t *testing.T) {
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		p := plugged(t, s, n, 0)
		run(t, s, p, "POD ip link add veth0 address 02:00:00:00:00:77 type veth peer name x")
		node, pod := dump(t, n.Namespace), dump(t, p.Namespace)
		out, err := s.Run("ADD", p)
		if err == nil || !strings.Contains(string(out), "veth0: the pod has an interface of that name") || !strings.Contains(string(out), `"code": 101`) {
			t.Errorf("ADD: %v", err)
		}
		same(t, "the node after ADD", node, dump(t, n.Namespace))
		same(t, "the pod after ADD", pod, dump(t, p.Namespace))
		del(t, s, p)
		same(t, "the node after DEL", node, dump(t, n.Namespace))
		same(t, "the pod after DEL", pod, dump(t, p.Namespace))
	})
}

// TestTableTaken: the table that would be the pod's holds routes of others. They stay there, and the pod gets the next.
func TestTableTaken(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		n := alone(t, s).N1
		p := plugged(t, s, n, 0)
		// The host end gets the next index of the namespace, or one of the next.
		run(t, s, p, "for table in $(seq 257 290); do test $table = 275 || ip route add 198.51.100.0/24 dev enp1s0 table $table; done")
		before := dump(t, n.Namespace)
		add(t, s, p)
		check(t, s, p)
		if rules := run(t, s, p, "ip rule; ip -6 rule"); strings.Count(rules, "iif "+hostEnd(s, p)+" lookup 275") != 2 {
			t.Errorf("rules:\n%s", rules)
		}
		add(t, s, p)
		check(t, s, p)
		del(t, s, p)
		same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
	})
}

// TestManyAtOnce: 64 ADDs, the first of the node among them, and 64 DELs at once; in between, half of each.
func TestManyAtOnce(t *testing.T) {
	const pods = 64
	for _, s := range Subjects {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			n := alone(t, &s).N1
			before, _ := fresh(t, &s)
			var all []*lab.Pod
			for i := range pods {
				all = append(all, plugged(t, &s, n, i))
			}
			each := func(verb func(i int) string) {
				var running sync.WaitGroup
				for i, p := range all {
					running.Go(func() {
						out, err := s.Run(verb(i), p)
						if s.ByProgram && strings.Contains(string(out), `"code": 11`) { // it has waited for the xtables lock, long enough
							_, err = s.Run(verb(i), p)
						}
						if err != nil {
							t.Error(err)
						}
					})
				}
				running.Wait()
			}
			each(func(int) string { return "ADD" })
			if s.ByProgram { // CHECKs cost most there
				check(t, &s, all[0])
			} else {
				each(func(int) string { return "CHECK" })
			}
			each(func(i int) string { return []string{"ADD", "DEL"}[i%2] })
			is := dump(t, n.Namespace).String()
			for i, p := range all {
				if there := strings.Contains(is, sign(&s, p)); there != (i%2 == 0) {
					t.Errorf("pod %d is there: %t", i, there)
				}
			}
			each(func(int) string { return "DEL" })
			same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
		})
	}
}

// TestRaceInOneNetns: two ADDs in one pod. Of the same attachment both succeed, or one may be told to try again; of two
// attachments one wins, and the other leaves nothing and says whose the pod is.
func TestRaceInOneNetns(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		for name, ids := range map[string][2]string{"the same attachment": {"one", "one"}, "two attachments": {"one", "two"}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.takesIn(t, "TestRaceInOneNetns/"+name)
				n := alone(t, s).N1
				before, _ := fresh(t, s)
				for round := range 10 {
					p := plugged(t, s, n, round)
					var outs [2][]byte
					var errs [2]error
					var running sync.WaitGroup
					for i, id := range ids {
						running.Go(func() { outs[i], errs[i] = s.Run("ADD", p, "CNI_CONTAINERID="+id) })
					}
					running.Wait()
					won := 0
					for i, err := range errs {
						switch out := string(outs[i]); {
						case err == nil:
							won++
							if _, err := s.Run("CHECK", p, "CNI_CONTAINERID="+ids[i]); err != nil {
								t.Error(err)
							}
						case ids[0] == ids[1] || !regexp.MustCompile(`"code": 101,[^}]*veth0`).MatchString(out):
							t.Errorf("ADD of %s: %v", ids[i], err)
						}
					}
					if want := 1 + map[bool]int{true: 1}[ids[0] == ids[1]]; won != want {
						t.Errorf("%d ADDs succeeded, want %d", won, want)
					}
					for i, id := range ids {
						if errs[i] != nil { // the runtime deletes what it could not add, and the other stays
							if _, err := s.Run("DEL", p, "CNI_CONTAINERID="+id); err != nil {
								t.Error(err)
							}
							if _, err := s.Run("CHECK", p, "CNI_CONTAINERID="+ids[1-i]); err != nil {
								t.Error(err)
							}
						}
					}
					for _, id := range ids {
						if _, err := s.Run("DEL", p, "CNI_CONTAINERID="+id, "CNI_NETNS="); err != nil {
							t.Error(err)
						}
					}
					same(t, "the node", before, Without(dump(t, n.Namespace), s.Shared))
				}
			})
		}
	})
}
