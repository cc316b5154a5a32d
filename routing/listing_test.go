package routing_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// TestRules: they come in the kernel's order, with all that they select by, and those of ours can be told.
func TestRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `ip rule add pref 512 fwmark 0x2000/0x2000 lookup main protocol kernel
		ip rule add pref 1025 nop protocol kernel; ip rule add pref 1023 fwmark 0/0x1000 goto 1025 protocol kernel
		ip rule add pref 1024 iif vetha0e043dd lookup 596 protocol kernel
		ip rule add pref 1024 from 192.0.2.0/24 to 198.51.100.1 oif lo lookup 7; ip rule add pref 1026 ipproto tcp dport 80 lookup 8
		ip rule add pref 1027 not from 192.0.2.1 lookup 9; ip rule add pref 1028 uidrange 0-10 blackhole
		ip -6 rule add pref 1100 to 2001:db8::/32 lookup main suppress_prefixlength 0 protocol kernel`)
	rules, err := w.node.Rules()
	must(t, err)
	var got []string
	for _, r := range rules {
		family := "4 "
		if r.V6 {
			family = "6 "
		}
		got = append(got, family+r.String())
	}
	want := []string{
		"4 0: from all lookup 255",
		"4 512: from all fwmark 0x2000/0x2000 lookup 254",
		"4 1023: from all fwmark 0x0/0x1000 goto 1025",
		"4 1024: from all iif vetha0e043dd lookup 596",
		"4 1024: from 192.0.2.0/24 to 198.51.100.1/32 oif lo lookup 7 proto 0",
		"4 1025: from all nop",
		"4 1026: from all … lookup 8 proto 0",
		"4 1027: from 192.0.2.1/32 … lookup 9 proto 0",
		"4 1028: from all … action 6 proto 0",
		"4 32766: from all lookup 254",
		"4 32767: from all lookup 253",
		"6 0: from all lookup 255",
		"6 1100: from all to 2001:db8::/32 lookup 254 suppress_prefixlength 0",
		"6 32766: from all lookup 254",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// As a change it deletes exactly the rule, and not one of others like it.
	w.sh(t, "ip rule add pref 1025 nop; ip rule add pref 512 fwmark 0x2000/0x2000 lookup main protocol boot")
	for _, r := range rules {
		if r.Kernel() && r.Pref >= 512 && r.Pref < 32766 {
			must(t, (&routing.NoRule{Rule: r.Rule(w.node)}).Apply())
		}
	}
	left := strings.Join(strings.Fields(w.sh(t, "ip rule show pref 512; ip rule show pref 1023; ip rule show pref 1025; ip -6 rule show pref 1100")), " ")
	if left != "512: from all fwmark 0x2000/0x2000 lookup main proto boot 1025: from all nop" {
		t.Errorf("left: %s", left)
	}
}

// TestRouteGet: the answer is that of `ip route get`, with the table that it is from.
func TestRouteGet(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pair+`
				`+f.ip+` route add `+f.pod.String()+` dev vetha0e043dd; `+f.ip+` route add default via `+f.gw.String()+` dev enp1s0
				`+f.ip+` route add default via `+f.pod.String()+` dev vetha0e043dd table 596; `+f.ip+` rule add pref 1024 fwmark 0x1000/0x1000 lookup 596
				`+f.ip+` route add blackhole `+f.away.String()+`; sysctl -qw net/ipv4/conf/vetha0e043dd/forwarding=1 net/ipv6/conf/all/forwarding=1
				`+f.ip+` rule add pref 1023 iif vetha0e043dd lookup 596`)
			away := f.service.Addr()
			for _, test := range []struct {
				query routing.Query
				want  string
			}{
				{routing.Query{To: f.pod}, "dev vetha0e043dd src " + f.node.String()},
				{routing.Query{To: f.node}, "local dev lo src " + f.node.String()},
				{routing.Query{To: away}, "via " + f.gw.String() + " dev enp1s0 src " + f.node.String()},
				{routing.Query{To: away, Mark: 0x1000}, "via " + f.pod.String() + " dev vetha0e043dd table 596 src " + f.node.String()},
				{routing.Query{To: away, From: f.pod, Iif: w.node.Link("vetha0e043dd")}, "via " + f.pod.String() + " dev vetha0e043dd table 596"},
			} {
				got, err := w.node.RouteGet(test.query)
				if err != nil || got.String() != test.want {
					t.Errorf("%s: got %s, %v; want %s", test.query.Line(w.node), got, err, test.want)
				}
			}
			if _, err := w.node.RouteGet(routing.Query{To: f.away.Addr().Next()}); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EINVAL) {
				t.Errorf("into a blackhole: %v", err)
			}
			if _, err := w.node.RouteGet(routing.Query{To: away, From: f.pod, Iif: w.node.Link("nobody")}); !errors.Is(err, routing.ErrNoLink) {
				t.Errorf("from nobody: %v", err)
			}
		})
	}
}

// TestReversePath: the kernel's answer for what a strict rp_filter drops.
func TestReversePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pair+"sysctl -qw net/ipv4/conf/all/rp_filter=1 net/ipv4/conf/vetha0e043dd/forwarding=1; ip route add default via 10.10.20.1 dev enp1s0")
	q := routing.Query{To: addr("192.0.2.1"), From: addr("10.10.20.53"), Iif: w.node.Link("vetha0e043dd")}
	if _, err := w.node.RouteGet(q); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
	w.sh(t, "sysctl -qw net/ipv4/conf/all/rp_filter=0")
	if _, err := w.node.RouteGet(q); err != nil {
		t.Errorf("without rp_filter: %v", err)
	}
}

// TestNSID: the number of a namespace is what the host end says of its peer's.
func TestNSID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pair)
	links, err := w.node.Links(func(l *routing.LinkAttrs) bool { return l.Kind == "veth" })
	must(t, err)
	id, err := w.node.NSID(w.pod.FD())
	must(t, err)
	got := map[string]bool{}
	for _, l := range links {
		got[l.Name] = l.NSID == id
	}
	if d := cmp.Diff(map[string]bool{"vetha0e043dd": true, "podwire": true, "enp1s0": false, "wire": false}, got); d != "" || id < 0 {
		t.Errorf("number %d (-want +got)\n%s", id, d)
	}
	other := newWorld(t, "")
	if id, err := w.node.NSID(other.pod.FD()); err != nil || id >= 0 {
		t.Errorf("a stranger has number %d, %v", id, err)
	}
}
