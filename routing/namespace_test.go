package routing_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

func TestOpenRefuses(t *testing.T) {
	self, err := routing.Self()
	must(t, err)
	t.Cleanup(self.Close)
	empty := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(empty, nil, 0o600))
	for _, test := range []struct {
		name, path string
		is         error
	}{
		{"nothing there", "/run/netns/no-such-pod", fs.ErrNotExist},
		{"no path", "", fs.ErrNotExist},
		{"what is left of a path in /run/netns", empty, routing.ErrNoNamespace},
		{"a directory", "/etc", routing.ErrNoNamespace},
		{"a namespace of another kind", "/proc/self/ns/mnt", routing.ErrNoNamespace},
		{"another file of proc", "/proc/self/status", routing.ErrNoNamespace},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := self.Open(test.path)
			if !errors.Is(err, test.is) {
				t.Errorf("got %v, want %v", err, test.is)
			}
			if err != nil && !strings.Contains(err.Error(), test.path) {
				t.Errorf("the error does not name %q: %v", test.path, err)
			}
		})
	}
}

func TestSame(t *testing.T) {
	self, err := routing.Self()
	must(t, err)
	t.Cleanup(self.Close)
	w := newWorld(t, "")
	again, err := self.Open(w.pod.Path)
	must(t, err)
	t.Cleanup(again.Close)
	own, err := self.Open("/proc/self/ns/net")
	must(t, err)
	t.Cleanup(own.Close)
	if !again.Same(w.pod) || !own.Same(self) {
		t.Error("a namespace is not the same as itself by another path")
	}
	if w.pod.Same(w.node) || w.pod.Same(self) || own.Same(w.pod) {
		t.Error("different namespaces are the same")
	}
}

// TestDo: the thread is in the namespace while the function runs, and back afterwards, whatever that returns.
func TestDo(t *testing.T) {
	w := newWorld(t, "")
	inode := func() uint64 {
		var st unix.Stat_t
		must(t, unix.Stat("/proc/thread-self/ns/net", &st))
		return st.Ino
	}
	home, failed := inode(), errors.New("failed")
	for _, want := range []error{nil, failed} {
		var there uint64
		if err := w.pod.Do(func() error { there = inode(); return want }); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if there == home || inode() != home {
			t.Errorf("home is %d, in the pod %d, afterwards %d", home, there, inode())
		}
	}
}

// TestUsableAddresses: those that others can reach, the best source and next hop first.
func TestUsableAddresses(t *testing.T) {
	const slowDAD = "sysctl -qw net/ipv6/conf/eth0/accept_dad=1 net/ipv6/conf/eth0/dad_transmits=100; "
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"none", "", nil},
		{"IPv4", "add 10.10.20.53/24", []string{"10.10.20.53/24"}},
		{"IPv6", "add fd20::53/64 nodad", []string{"fd20::53/64"}},
		{
			"secondary ones, the oldest first", "add 10.10.20.53/24; add 10.10.20.9/24; add fd20::53/64 nodad; add fd20::9/64 nodad",
			[]string{"10.10.20.53/24", "10.10.20.9/24", "fd20::53/64", "fd20::9/64"},
		},
		{
			"deprecated ones last", "add 10.10.20.9/24 preferred_lft 0; add 10.10.20.53/24; add fd20::9/64 preferred_lft 0 nodad; add fd20::53/64 nodad",
			[]string{"10.10.20.53/24", "fd20::53/64", "10.10.20.9/24", "fd20::9/64"},
		},
		{
			"VIPs behind those of a subnet", "add 10.10.20.9/32; add 10.10.20.53/24; add fd20::53/64 nodad; add fd20::9/128 nodad",
			[]string{"10.10.20.53/24", "fd20::53/64", "10.10.20.9/32", "fd20::9/128"},
		},
		{
			"dynamic ones behind those that stay", "add 10.10.20.9/24 valid_lft 1000 preferred_lft 1000; add 10.10.20.53/24; add fd20::9/64 valid_lft 1000 preferred_lft 1000 nodad; add fd20::53/64 nodad",
			[]string{"10.10.20.53/24", "fd20::53/64", "10.10.20.9/24", "fd20::9/64"},
		},
		{"not those that nobody can reach", "add 127.0.0.2/8; add 169.254.1.1/16; add 10.9.9.9/24 scope link; add 10.9.9.8/32 scope host; add fe80::53/64 nodad", nil},
		{"the address, not the peer's", "add 10.10.20.53 peer 10.10.20.152/32; add fd20::53 peer fd20::152/128 nodad", []string{"10.10.20.53/32", "fd20::53/128"}},
		{"tentative ones too", slowDAD + "add fd20::53/64", []string{"fd20::53/64"}},
		{"not another interface's", "ip addr add 10.10.20.53/24 dev peer", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, `add() { ip addr add "$@" dev eth0; }
				ip link add eth0 type veth peer name peer; ip link set eth0 up; ip link set peer up; `+test.script)
			usable, err := w.node.UsableAddresses(w.node.Link("eth0"))
			must(t, err)
			var got []string
			for _, a := range usable {
				got = append(got, a.Prefix.String())
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// TestAddressFlags are those that a test cannot get the kernel to set in a moment.
func TestAddressFlags(t *testing.T) {
	const permanent = unix.IFA_F_PERMANENT
	for _, test := range []struct {
		name                                  string
		flags                                 int
		usable, tentative, duplicate, dynamic bool
	}{
		{"permanent", permanent, true, false, false, false},
		{"for a time", 0, true, false, false, true},
		{"temporary", unix.IFA_F_TEMPORARY, true, false, false, true},
		{"tentative", permanent | unix.IFA_F_TENTATIVE, true, true, false, false},
		{"optimistic", permanent | unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC, true, false, false, false},
		{"found elsewhere", permanent | unix.IFA_F_DADFAILED | unix.IFA_F_TENTATIVE, false, true, true, false},
		{"deprecated", permanent | unix.IFA_F_DEPRECATED, true, false, false, false},
	} {
		a := routing.Address{Prefix: prefix("fd20::53/64"), Flags: test.flags}
		got, want := []bool{a.Usable(), a.Tentative(), a.Duplicate(), a.Dynamic()}, []bool{test.usable, test.tentative, test.duplicate, test.dynamic}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: usable, tentative, duplicate, dynamic (-want +got)\n%s", test.name, d)
		}
	}
}

// TestIsLocal: whether an address is one of the namespace's own, on whatever interface.
func TestIsLocal(t *testing.T) {
	// The kernel makes the route of an IPv6 address later: a tentative one has none, and fd20::53 is the pod's.
	w := newWorld(t, pair+`ip addr add 10.10.20.9/32 dev lo; ip addr add fd20::9/128 dev lo nodad
		for dev in enp1s0 podwire; do sysctl -qw net/ipv6/conf/$dev/accept_dad=1 net/ipv6/conf/$dev/router_solicitation_delay=0; done
		sysctl -qw net/ipv6/conf/enp1s0/dad_transmits=100; ip addr add fd20::10/64 dev enp1s0
		ip addr add fd20::53/64 dev podwire; for i in $(seq 100); do ip -6 addr show dev podwire dadfailed | grep -q fd20::53 && break; sleep 0.1; done`)
	for address, want := range map[string]bool{
		"10.10.20.152": true, "10.10.20.9": true, "127.0.0.1": true, "fd20::152": true, "fd20::9": true, "::1": true, "fd20::10": true,
		"10.10.20.53": false, "192.0.2.1": false, "fd20::53": false, "2001:db8::1": false,
	} {
		if got, err := w.node.IsLocal(addr(address)); got != want || err != nil {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
}

func TestAddressesOfAll(t *testing.T) {
	w := newWorld(t, pair)
	all, err := w.pod.Addresses(nil)
	must(t, err)
	got := map[string]int{}
	for _, a := range all {
		got[a.Prefix.String()] = a.Link
	}
	eth0, err := w.pod.Link("eth0").Index()
	must(t, err)
	want := map[string]int{"127.0.0.1/8": 1, "::1/128": 1, "10.10.20.53/24": eth0, "fd20::53/64": eth0}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestInGroup(t *testing.T) {
	w := newWorld(t, `for i in 1 2 3; do ip link add v$i type veth peer name p$i; done
		ip link set v1 group 7; ip link set v3 group 7 alias cni0/abc/eth0; ip link set v2 group 8`)
	links, err := w.node.InGroup(7)
	must(t, err)
	got := map[string]string{}
	for _, l := range links {
		got[l.Name] = l.Alias
	}
	if d := cmp.Diff(map[string]string{"v1": "", "v3": "cni0/abc/eth0"}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
