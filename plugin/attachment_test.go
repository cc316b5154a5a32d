package plugin

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A pod of containerd, and what is called after it on the node. The names are for ever: a DEL of the next release must
// find what an ADD of this one has made.
func TestNamesAreForEver(t *testing.T) {
	const id = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3"
	for _, test := range []struct {
		a                        Attachment
		hostEnd, hostMAC, podMAC string
		group                    uint32
		alias                    string
	}{
		{Attachment{"cni0", id, "eth0"}, "veth72573c60", "8a:8d:91:7d:7b:31", "be:6d:06:3c:3a:0a", 0x96537af, "cni0/" + id + "/eth0"},
		{Attachment{"cni0", id, "net1"}, "vethfdb48926", "52:fc:45:b9:dc:b2", "c6:24:7f:12:30:f5", 0x96537af, "cni0/" + id + "/net1"},
		{Attachment{"cni1", id, "eth0"}, "vethb70e7452", "b6:ed:7e:8a:06:36", "de:89:6c:4c:c0:50", 0x49ec7f93, "cni1/" + id + "/eth0"},
		{Attachment{"cni0", "", "eth0"}, "veth3c89bc95", "ee:44:bd:76:eb:c4", "96:d1:fa:ca:71:a5", 0x96537af, "cni0//eth0"},
	} {
		t.Run(test.alias, func(t *testing.T) {
			host, pod := test.a.MACs()
			owner := test.a.Owner()
			got := fmt.Sprintf("{%q, %q, %q, %#x, %q}", test.a.HostEnd(), host, pod, owner.Group, owner.Alias)
			want := fmt.Sprintf("{%q, %q, %q, %#x, %q}", test.hostEnd, test.hostMAC, test.podMAC, test.group, test.alias)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestNamesDiffer: attachments that differ in anything differ in all their names, however much they look alike.
func TestNamesDiffer(t *testing.T) {
	const id = "5d0f2e6d7c7a4b6b9c1de8d5a0f1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3"
	alike := []Attachment{
		{"cni0", id, "eth0"},
		{"cni0", id, "eth1"}, // a second interface of the pod
		{"cni0", id, "net1"},
		{"cni0", id, "net2"},
		{"cni0", id, "net10"},
		{"cni1", id, "eth0"}, // another network of the node
		{"cni2", id, "eth0"},
		{"cni0", id[:11] + strings.Repeat("0", 53), "eth0"}, // the id that a runtime prints is the same
		{"cni0", id[:63] + "4", "eth0"},
		{"cni0", "1" + id[1:], "eth0"},
		{"cni0", id[:63], "3eth0"}, // the same letters, otherwise divided
		{"cni", "0" + id, "eth0"},
		{"cni0", "", id + "eth0"},
		{"", "cni0" + id, "eth0"},
	}
	for i := range 2000 {
		alike = append(alike, Attachment{"cni0", fmt.Sprintf("%s%04d", id[:60], i), "eth0"})
	}
	for _, name := range []struct {
		what string
		of   func(Attachment) string
	}{
		{"host end", Attachment.HostEnd},
		{"hardware address of the host end", func(a Attachment) string { mac, _ := a.MACs(); return mac.String() }},
		{"hardware address in the pod", func(a Attachment) string { _, mac := a.MACs(); return mac.String() }},
	} {
		seen := map[string]Attachment{}
		for _, a := range alike {
			if b, taken := seen[name.of(a)]; taken {
				t.Errorf("%s: %s and %s share %s", name.what, a.alias(), b.alias(), name.of(a))
			}
			seen[name.of(a)] = a
		}
	}
}

// TestGroupsDiffer: networks of a node are told apart by it.
func TestGroupsDiffer(t *testing.T) {
	seen := map[uint32]string{}
	names := []string{"", "cni", "macvlan-conf", "macvlan-conf-1", "macvlan-conf-2", "mynet", "a", "b", "ab", "ba"}
	for i := range 4096 {
		names = append(names, fmt.Sprintf("cni%d", i), fmt.Sprintf("vlan-%04x", i))
	}
	for _, name := range names {
		g := Group(name)
		if other, taken := seen[g]; taken {
			t.Errorf("%q and %q share group %d", name, other, g)
		}
		seen[g] = name
		if g == 0 || g > 0x7fffffff { // the kernel's default, and what ip(8) cannot read back
			t.Errorf("%q: group %d", name, g)
		}
	}
}

func TestNamesAreWellFormed(t *testing.T) {
	hostEnd := regexp.MustCompile(`^veth[0-9a-f]{8}$`) // 12 of the 15 bytes that the kernel takes
	for i := range 1000 {
		a := Attachment{fmt.Sprint("net", i%7), fmt.Sprint("id", i), fmt.Sprint("eth", i%3)}
		if !hostEnd.MatchString(a.HostEnd()) {
			t.Errorf("%s: host end %s", a.alias(), a.HostEnd())
		}
		host, pod := a.MACs()
		for _, mac := range []string{host.String(), pod.String()} {
			var first byte
			if _, err := fmt.Sscanf(mac, "%02x", &first); err != nil || len(mac) != 17 || first&0x01 != 0 || first&0x02 == 0 {
				t.Errorf("%s: %s is not locally administered and unicast", a.alias(), mac)
			}
		}
		if host.String() == pod.String() {
			t.Errorf("%s: both ends have %s", a.alias(), host)
		}
	}
}

func TestAliasIsCut(t *testing.T) {
	for _, length := range []int{1, 200, 245, 246, 247, 1000} {
		a := Attachment{"cni0", strings.Repeat("c", length), "eth0"}
		whole := "cni0/" + a.ContainerID + "/eth0"
		got := a.Owner().Alias
		if want := whole[:min(len(whole), 255)]; got != want {
			t.Errorf("container id of %d bytes: alias of %d bytes, want %d", length, len(got), len(want))
		}
	}
}
