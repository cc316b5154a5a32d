package conflist

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestUnderlayValues: what is accepted, and what it means.
func TestUnderlayValues(t *testing.T) {
	for _, test := range []struct {
		name, key, value string
		get              func(*Underlay) any
		want             string
	}{
		{"host bits", "overlay_hijack_subnet", `["10.244.1.7/12", "fd00::7/64"]`, func(c *Underlay) any { return c.Overlay }, "10.240.0.0/12,fd00::/64"},
		{"an empty list", "overlay_hijack_subnet", `[]`, func(c *Underlay) any { return c.Overlay }, ""},
		{"duplicates and overlaps", "service_hijack_subnet", `["10.1.0.0/16", "10.1.0.0/16", "10.1.2.0/24"]`, func(c *Underlay) any { return c.Service }, "10.1.0.0/16"},
		{"an address", "additional_hijack_subnet", `["169.254.25.10", "fd00::a", "169.254.0.0/16"]`, func(c *Underlay) any { return Prefixes(c.Additional) }, "169.254.0.0/16,fd00::a/128"},
		{"overlaps of several keys", "additional_hijack_subnet", `["172.96.1.0/24", "10.240.0.0/12"]`, func(c *Underlay) any { return c.Hijack() }, "10.240.0.0/12,172.96.0.0/18"},
		{"migrate_route", "migrate_route", `1`, func(c *Underlay) any { return c.MigrateRoute }, "1"},
		{"rp_filter empty", "rp_filter", `{}`, func(c *Underlay) any { return c.RPFilter }, "{false 2}"},
		{"rp_filter", "rp_filter", `{"set_host": true, "value": 0}`, func(c *Underlay) any { return c.RPFilter }, "{true 0}"},
		{"ip_conflict empty", "ip_conflict", `{}`, func(c *Underlay) any { return c.IPConflict }, "{false 1s 3}"},
		{"ip_conflict off", "ip_conflict", `{"enabled": false}`, func(c *Underlay) any { return c.IPConflict.Enabled }, "false"},
		{"ip_conflict", "ip_conflict", `{"enabled": true, "interval": "10s", "retries": 5}`, func(c *Underlay) any { return c.IPConflict }, fmt.Sprint(IPConflict{true, 10 * time.Second, 5})},
		{"mac_prefix with a dash", "mac_prefix", `"0a-1b"`, func(c *Underlay) any { return c.MACPrefix }, "0a:1b"},
		{"mac_prefix empty", "mac_prefix", `""`, func(c *Underlay) any { return c.MACPrefix }, ""},
		{"tables", "route_table_start", `252`, func(c *Underlay) any { return c.RouteTableStart }, "252"},
		{"log_options in part", "log_options", `{"log_level": "INFO"}`, func(c *Underlay) any { return *c.LogOptions }, "{INFO /var/log/meta-plugins/veth.log 100 5 5}"},
		{"a runtime's mac", "runtimeConfig", `{"mac": "02:00:00:00:00:01", "ips": []}`, func(c *Underlay) any { return c.MAC }, "02:00:00:00:00:01"},
		{"a runtime without", "runtimeConfig", `{}`, func(c *Underlay) any { return c.MAC }, ""},
		{"veth_link_address", "veth_link_address", `"169.254.100.1,fe80::1"`, func(c *Underlay) any { return c.VethLinkAddress }, "[169.254.100.1 fe80::1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := DecodeVeth([]byte(underlayConfig(test.key, test.value)))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(test.get(c)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestEverything: several keys that each leave something to the wire, and none together.
func TestEverything(t *testing.T) {
	_, err := DecodeVeth([]byte(underlayConfig("overlay_hijack_subnet", `["0.0.0.0/1"]`, "service_hijack_subnet", `["128.0.0.0/1"]`)))
	if err == nil || !strings.HasPrefix(err.Error(), "service_hijack_subnet: 128.0.0.0/1: together with the other subnets it is every address") {
		t.Error(err)
	}
}

// TestComments: a configuration with comments is refused by the line of the first one.
func TestComments(t *testing.T) {
	for comment, line := range map[string]string{"// the overlay": "// the overlay", "# the overlay": "# the overlay", "/* the overlay */": "/* the overlay */"} {
		text := strings.Replace(underlayConfig(), `"overlay`, "\n\n  "+comment+"\n\"overlay", 1)
		_, err := DecodeRouter([]byte(text))
		want := "line 3: " + line + ": a comment, and JSON has none; accepted: valid JSON without comments"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestSkipsCall(t *testing.T) {
	for text, want := range map[string]bool{
		`{"skip_call": true, "rp_filter": 7}`: true, `{"skip_call": false}`: false, `{"skip_call": "true"}`: false, `{}`: false, `{`: false, `[]`: false,
	} {
		if got := SkipsCall([]byte(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
