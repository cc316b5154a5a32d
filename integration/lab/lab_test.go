package lab_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"underlay-cni/integration/lab"
)

// newWorld builds a world whose pods have the macvlan plugin alone: what the lab can do by itself.
func newWorld(t *testing.T, o lab.Options) *lab.World {
	t.Helper()
	o.Edit = func(c *lab.Conflist) {
		c.Plugins = slices.DeleteFunc(c.Plugins, func(p map[string]any) bool { return p["type"] == "veth-host" })
	}
	w, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newPod(t *testing.T, n *lab.Node, name string) *lab.Pod {
	t.Helper()
	p, err := n.NewPod(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Add(p); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Serve(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWire(t *testing.T) {
	t.Parallel()
	for _, stack := range []lab.Stack{lab.OnlyIPv4, lab.OnlyIPv6, lab.DualStack} {
		w := newWorld(t, lab.Options{Stack: stack, HostInterface: "eth0.100", MTU: 9000, NarrowMTU: 1400})
		a, c := newPod(t, w.N1, "a"), newPod(t, w.N2, "c")
		for _, f := range stack {
			trace, err := a.Trace()
			if err != nil {
				t.Fatal(err)
			}
			for _, from := range []*lab.Namespace{a.Namespace, w.N1.Namespace, w.Client, w.Outside} {
				to := netip.AddrPortFrom(c.Addr.Of(f), lab.Port)
				for _, p := range []lab.Proto{lab.TCP, lab.UDP} {
					answer, err := from.Ask(p, to)
					if err != nil {
						t.Error(err)
					} else if got, want := answer.Source.Addr(), from.Addr.Of(f); answer.Server != "c" || got != want {
						t.Errorf("%s over %s and %s: answered by %s, which saw %s, want %s", from.Name, p, f, answer.Server, got, want)
					}
				}
				if err := from.Ping(c.Addr.Of(f)); err != nil {
					t.Error(err)
				}
				if _, err := from.Transfer(to, 1<<20); err != nil {
					t.Error(err)
				}
				if _, err := from.AskBig(to, 5000); err != nil {
					t.Error(err)
				}
			}
			got, err := trace.Await(func(p lab.Packet) bool { return p.Out && p.Proto == lab.TCP })
			trace.Close()
			if err != nil || got.Interface != "eth0" || got.Dst != c.Addr.Of(f) {
				t.Errorf("the first packet of a was %v (%v), not to %s by eth0", got, err, c.Addr.Of(f))
			}
		}
	}
}

func TestKubeProxy(t *testing.T) {
	t.Parallel()
	for _, flavour := range lab.Flavours {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			if err := flavour.Supported(); err != nil {
				t.Skip(err)
			}
			w := newWorld(t, lab.Options{})
			c := newPod(t, w.N2, "c")
			cluster := lab.Pair{V4: netip.MustParseAddr("172.20.252.1"), V6: netip.MustParseAddr("fd00:10:96::1")}
			err := w.N1.KubeProxy(flavour, []lab.Service{
				{Name: "c", Cluster: cluster, Balancer: lab.LoadBalancer, NodePort: 30080, HostPort: 9000, Endpoint: c.Addr, Port: lab.Port},
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range lab.DualStack {
				for _, p := range []lab.Proto{lab.TCP, lab.UDP} {
					for _, path := range []struct {
						from *lab.Namespace
						to   netip.Addr
						port uint16
						want lab.Pair // the source
					}{
						{w.N1.Namespace, cluster.Of(f), lab.ServicePort, w.N1.Addr},
						{w.Outside, w.N1.Addr.Of(f), 30080, w.N1.Addr},
						{w.Outside, lab.LoadBalancer.Of(f), lab.ServicePort, w.N1.Addr},
					} {
						answer, err := path.from.Ask(p, netip.AddrPortFrom(path.to, path.port))
						if err != nil {
							t.Error(err)
						} else if got, want := answer.Source.Addr(), path.want.Of(f); answer.Server != "c" || got != want {
							t.Errorf("%s asks %s: answered by %s, which saw %s, want %s", path.from.Name, path.to, answer.Server, got, want)
						}
					}
				}
			}
		})
	}
}

func TestDump(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{VIP: true, RPFilter: 1})
	dump := func() lab.Dump {
		t.Helper()
		d, err := w.N1.Dump()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := dump()
	p := newPod(t, w.N1, "a")
	if err := w.N1.Check(p); err != nil {
		t.Error(err)
	}
	if err := w.N1.Del(p); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, dump()); diff != "" {
		t.Errorf("after DEL of a macvlan pod (-before +after):\n%s", diff)
	}
	if err := w.N1.IP("route add 198.51.100.0/24 via 10.10.20.1 table 7", "rule add pref 7 lookup 7", "neigh add 10.10.20.9 lladdr 02:00:00:00:00:09 dev enp1s0"); err != nil {
		t.Fatal(err)
	}
	if err := w.N1.Sysctl(map[string]string{"net/ipv4/conf/enp1s0/rp_filter": "2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.N1.Run("nft", "add", "table", "inet", "x"); err != nil {
		t.Fatal(err)
	}
	want := lab.Dump{
		"route 198.51.100.0/24 via 10.10.20.1 dev enp1s0 table 7",
		"rule 7: from all lookup 7",
		"neigh 10.10.20.9 dev enp1s0 lladdr 02:00:00:00:00:09 PERMANENT",
		"nft inet x: table inet x {",
		"nft inet x: }",
		"sysctl net/ipv4/conf/enp1s0/rp_filter 2",
	}
	if diff := cmp.Diff(want, dump().Since(before)); diff != "" {
		t.Errorf("what was added (-want +got):\n%s", diff)
	}
}
