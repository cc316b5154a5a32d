package conflist

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The bytes that dev_valid_name of the kernel refuses.
func TestValidInterfaceName(t *testing.T) {
	for _, name := range []string{"eth0", "eth0.100", "br-1a2b3c4d5e6f", "a", "...", "enp1s0@x", "é", "0"} {
		if err := ValidInterfaceName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "all", "default", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "a\nb", "a\x00b", "a\x7f", "a\xa0", "à", "eth%d",
		"eth*", "eth+", "e+h", "*", `e"0`, "e'0", "e`0", `e\0`, "e$0", "-eth0", "!eth0",
	} {
		if err := ValidInterfaceName(name); err == nil {
			t.Errorf("%q: accepted", name)
		}
	}
}

// Values print as ip(8) and nft(8) write them.
func TestString(t *testing.T) {
	got := []string{
		Mark(0x2000).String(),
		PortRanges{{80, 80}, {30000, 32767}}.String(),
		prefixes("172.20.252.0/22", "fd00::/108").String(),
		prefixes("172.20.252.0/22", "fd00::/108").V4().String(),
		prefixes("172.20.252.0/22", "fd00::/108").V6().String(),
		Prefixes(nil).V4().String(),
		(&KeyError{Key: "mtu", Value: "9", Accepted: "more"}).Error(),
	}
	want := []string{"0x2000", "80,30000-32767", "172.20.252.0/22,fd00::/108", "172.20.252.0/22", "fd00::/108", "", "mtu: 9: accepted: more"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
