package plugin

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
)

// added is what a plugin does to a result: it appends two interfaces and takes the default routes.
func added(r *Request) {
	r.AppendInterfaces(&types100.Interface{Name: "vetha0e043dd", Mac: "02:00:00:00:00:01", Mtu: 1500},
		&types100.Interface{Name: "veth0", Mac: "02:00:00:00:00:02", Mtu: 1500, Sandbox: "/run/netns/pod"})
	r.SetDefault(netip.MustParseAddr("10.10.20.152"))
	r.SetDefault(netip.MustParseAddr("fd20::152"))
}

func parse(t *testing.T, version, prev string) (*Request, error) {
	t.Helper()
	r := &Request{
		Attachment: Attachment{Network: "cni0", ContainerID: "abc", IfName: "eth0"}, Netns: "/run/netns/pod",
		Version: version, raw: json.RawMessage(prev),
	}
	return r, r.parseResult()
}

// TestResult: prevResult goes in, the result comes out; nothing else changes, in any version.
func TestResult(t *testing.T) {
	const (
		eth0  = `{"name": "eth0", "mac": "02:00:00:00:00:53", "sandbox": "/run/netns/pod"}`
		ends0 = `{"name": "vetha0e043dd", "mac": "02:00:00:00:00:01"},
			{"name": "veth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod"}`
		ends = `{"name": "vetha0e043dd", "mac": "02:00:00:00:00:01", "mtu": 1500},
			{"name": "veth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/pod"}`
		four = `{"version": "4", "interface": 0, "address": "10.10.20.53/24", "gateway": "10.10.20.1"}`
		one  = `{"interface": 0, "address": "10.10.20.53/24", "gateway": "10.10.20.1"}`
	)
	for _, test := range []struct{ name, version, prev, want string }{
		{
			"0.1.0", "0.1.0",
			`{"ip4": {"ip": "10.10.20.53/24", "gateway": "10.10.20.1", "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {"nameservers": ["10.10.20.2"]}}`,
			`{"cniVersion": "0.1.0", "ip4": {"ip": "10.10.20.53/24", "gateway": "10.10.20.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}]}, "dns": {"nameservers": ["10.10.20.2"]}}`,
		},
		{
			"0.2.0, dual stack", "0.2.0",
			`{"cniVersion": "0.2.0", "ip4": {"ip": "10.10.20.53/24"}, "ip6": {"ip": "fd20::53/64", "gateway": "fd20::1", "routes": [{"dst": "::/0", "gw": "fd20::1"}]}, "dns": {}}`,
			`{"cniVersion": "0.2.0", "ip4": {"ip": "10.10.20.53/24"}, "ip6": {"ip": "fd20::53/64", "gateway": "fd20::1", "routes": [{"dst": "::/0", "gw": "fd20::152"}]}, "dns": {}}`,
		},
		{
			"0.3.0", "0.3.0",
			`{"cniVersion": "0.3.0", "interfaces": [` + eth0 + `], "ips": [` + four + `], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}`,
			`{"cniVersion": "0.3.0", "interfaces": [` + eth0 + `, ` + ends0 + `], "ips": [` + four + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}], "dns": {}}`,
		},
		{
			"0.3.1", "0.3.1",
			`{"cniVersion": "0.3.1", "interfaces": [` + eth0 + `], "ips": [` + four + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.1"}], "dns": {"domain": "x"}}`,
			`{"cniVersion": "0.3.1", "interfaces": [` + eth0 + `, ` + ends0 + `], "ips": [` + four + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}], "dns": {"domain": "x"}}`,
		},
		{
			"0.4.0", "0.4.0",
			`{"cniVersion": "0.4.0", "interfaces": [` + eth0 + `], "ips": [` + four + `], "dns": {}}`,
			`{"cniVersion": "0.4.0", "interfaces": [` + eth0 + `, ` + ends0 + `], "ips": [` + four + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}], "dns": {}}`,
		},
		{
			"1.0.0", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `], "ips": [` + one + `], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.0.0.0/8", "gw": "10.10.20.1"}]}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `], "ips": [` + one + `],
				"routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}, {"dst": "::/0", "gw": "fd20::152"}, {"dst": "10.0.0.0/8", "gw": "10.10.20.1"}]}`,
		},
		{
			"1.1.0", "1.1.0",
			`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:53", "sandbox": "/run/netns/pod", "mtu": 9000, "socketPath": "/x", "pciID": "0000:00:1f.6"}],
				"ips": [` + one + `], "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 254, "scope": 0}, {"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 5, "scope": 0}]}`,
			`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:53", "sandbox": "/run/netns/pod", "mtu": 9000, "socketPath": "/x", "pciID": "0000:00:1f.6"}, ` + ends + `],
				"ips": [` + one + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152", "table": 254}, {"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 5, "scope": 0}]}`,
		},
		{
			"the mtu of an interface in a version that has none", "0.4.0",
			`{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "mtu": 9000, "sandbox": "/run/netns/pod"}], "ips": [{"version": "4", "address": "10.10.20.53/24"}], "routes": [{"dst": "10.0.0.0/8", "mtu": 1400}], "dns": {}, "x": {"scope": 1}}`,
			`{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "mtu": 9000, "sandbox": "/run/netns/pod"}, ` + ends0 + `], "ips": [{"version": "4", "address": "10.10.20.53/24", "interface": 0}], "routes": [{"dst": "10.0.0.0/8", "mtu": 1400}], "dns": {}, "x": {"scope": 1}}`,
		},
		{
			"many addresses, in their order", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `], "ips": [{"address": "fd20::53/64", "interface": 0}, {"address": "10.10.20.53/24", "interface": 0}, {"address": "10.10.20.9/32", "interface": 0}]}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `], "ips": [{"address": "fd20::53/64", "interface": 0}, {"address": "10.10.20.53/24", "interface": 0}, {"address": "10.10.20.9/32", "interface": 0}]}`,
		},
		{
			"no addresses", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `]}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `]}`,
		},
		{
			"addresses without an interface get the pod's", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:99"}, {"name": "veth1234"}, ` + eth0 + `], "ips": [{"address": "10.10.20.53/24"}, {"address": "fd20::53/64", "interface": 2}, {"address": "192.0.2.1/24", "interface": 0}]}`,
			`{"cniVersion": "1.0.0", "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:99"}, {"name": "veth1234"}, ` + eth0 + `, ` + ends + `], "ips": [{"address": "10.10.20.53/24", "interface": 2}, {"address": "fd20::53/64", "interface": 2}, {"address": "192.0.2.1/24", "interface": 0}]}`,
		},
		{
			"the node has an interface of the same name", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}, ` + eth0 + `], "ips": [{"address": "10.10.20.53/24"}]}`,
			`{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}, ` + eth0 + `, ` + ends + `], "ips": [{"address": "10.10.20.53/24", "interface": 1}]}`,
		},
		{
			"dns", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `], "dns": {"nameservers": ["10.0.0.10", "fd00::10"], "domain": "d", "search": ["a", "b"], "options": ["ndots:5"]}}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `], "dns": {"nameservers": ["10.0.0.10", "fd00::10"], "domain": "d", "search": ["a", "b"], "options": ["ndots:5"]}}`,
		},
		{
			"fields that nobody knows, at every depth", "1.0.0",
			`{"cniVersion": "1.0.0", "x": {"y": [1, 2.50, "<&>"]}, "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod", "x": null, "mtu": 9000}],
				"ips": [{"address": "10.10.20.53/24", "x": 1, "interface": 0}], "routes": [{"dst": "0.0.0.0/0", "x": {"gw": "y"}}], "dns": {"x": true}}`,
			`{"cniVersion": "1.0.0", "x": {"y": [1, 2.50, "<&>"]}, "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod", "x": null, "mtu": 9000}, ` + ends + `],
				"ips": [{"address": "10.10.20.53/24", "x": 1, "interface": 0}], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152", "x": {"gw": "y"}}], "dns": {"x": true}}`,
		},
		{
			"a number that is too large for a float", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `], "x": 9007199254740993}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `], "x": 9007199254740993}`,
		},
		{
			"routes that are no default routes", "1.0.0",
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.1"}, {"dst": "0.0.0.0/1"}, {"dst": "::/1"}]}`,
			`{"cniVersion": "1.0.0", "interfaces": [` + eth0 + `, ` + ends + `], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.20.152"}, {"dst": "0.0.0.0/1"}, {"dst": "::/1"}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := parse(t, test.version, test.prev)
			if err != nil {
				t.Fatal(err)
			}
			added(r)
			out, err := r.marshalResult()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(pretty(t, test.want), pretty(t, string(out))); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// pretty is JSON in one order, with numbers as they stand in the text.
func pretty(t *testing.T, text string) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}

func TestResultRefused(t *testing.T) {
	const want = `; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod`
	for _, test := range []struct{ name, version, prev, says string }{
		{"missing", "1.0.0", ``, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"null", "1.0.0", `null`, "prevResult: missing; the plugin must come after the one that makes the pod's interface"},
		{"not an object", "1.0.0", `[]`, "prevResult: "},
		{"a bad address", "1.0.0", `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.10.20.53"}]}`, "prevResult: "},
		{"of an unknown version", "7.0.0", `{"cniVersion": "7.0.0"}`, "prevResult: "},
		{"without a version", "1.0.0", `{"interfaces": [{"name": "eth0", "sandbox": "/x"}]}`, "prevResult: "},
		{"without interfaces", "1.0.0", `{"cniVersion": "1.0.0", "ips": [{"address": "10.10.20.53/24"}]}`, `prevResult.interfaces: "eth0" with a sandbox is missing` + want},
		{"without interfaces in 0.3.1", "0.3.1", `{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.10.20.53/24"}]}`, `prevResult.interfaces: "eth0" with a sandbox is missing` + want},
		{"with another interface", "1.0.0", `{"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "/x"}]}`, `prevResult.interfaces: "eth0" with a sandbox is missing` + want},
		{"with the interface on the node", "1.0.0", `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]}`, `prevResult.interfaces: "eth0" with a sandbox is missing` + want},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(t, test.version, test.prev)
			if err == nil {
				t.Fatal("accepted")
			}
			if e := cniError(t, err); e.Code != CodeConfig || !strings.HasPrefix(e.Msg, test.says) {
				t.Errorf("got  %d %s\nwant %d %s", e.Code, e.Msg, CodeConfig, test.says)
			}
		})
	}
}

func TestGateway(t *testing.T) {
	for _, test := range []struct{ name, ips, v4, v6 string }{
		{"none", `{"address": "10.10.20.53/24"}`, "invalid IP", "invalid IP"},
		{"IPv4", `{"address": "10.10.20.53/24", "gateway": "10.10.20.1"}`, "10.10.20.1", "invalid IP"},
		{"IPv6", `{"address": "fd20::53/64", "gateway": "fd20::1"}`, "invalid IP", "fd20::1"},
		{"dual stack, the first ones", `{"address": "fd20::53/64"}, {"address": "10.10.20.53/24", "gateway": "10.10.20.1"}, {"address": "10.10.20.54/24", "gateway": "10.10.20.2"}, {"address": "fd20::54/64", "gateway": "fd20::1"}`, "10.10.20.1", "fd20::1"},
		{"another interface's first", `{"address": "10.244.1.5/32", "gateway": "169.254.1.1", "interface": 1}, {"address": "10.10.20.53/24", "gateway": "10.10.20.1", "interface": 0}`, "10.10.20.1", "invalid IP"},
		{"another interface's only", `{"address": "10.244.1.5/32", "gateway": "169.254.1.1", "interface": 1}, {"address": "10.10.20.53/24", "interface": 0}`, "invalid IP", "invalid IP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := parse(t, "1.0.0", `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [`+test.ips+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			if v4, v6 := r.Gateway(false).String(), r.Gateway(true).String(); v4 != test.v4 || v6 != test.v6 {
				t.Errorf("got %s and %s", v4, v6)
			}
		})
	}
}

// TestValidAttachments: an empty list is another thing than none.
func TestValidAttachments(t *testing.T) {
	for _, test := range []struct {
		name, config string
		want         []Attachment
		listed       bool
		err          string
	}{
		{"absent", `{"name": "cni0"}`, nil, false, ""},
		{"null", `{"name": "cni0", "cni.dev/valid-attachments": null}`, nil, false, ""},
		{"empty", `{"name": "cni0", "cni.dev/valid-attachments": []}`, nil, true, ""},
		{"two", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]}`, []Attachment{{"cni0", "a", "eth0"}, {"cni0", "b", "net1"}}, true, ""},
		{"wrong type", `{"name": "cni0", "cni.dev/valid-attachments": "a"}`, nil, false, "cni.dev/valid-attachments: "},
		{"null for an element", `{"name": "cni0", "cni.dev/valid-attachments": [null]}`, nil, false, "cni.dev/valid-attachments: "},
		{"an empty element", `{"name": "cni0", "cni.dev/valid-attachments": [{}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"no ifname", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"an empty ifname", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": ""}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"null for an id", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": null, "ifname": "eth0"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"another spelling", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerid": "a", "ifname": "eth0"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"an id twice", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a", "containerID": "b", "ifname": "eth0"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"white space in an id", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a ", "ifname": "eth0"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"one good, one bad", `{"name": "cni0", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b"}]}`, nil, false, "cni.dev/valid-attachments: "},
		{"wrong type of an element", `{"name": "cni0", "cni.dev/valid-attachments": ["a"]}`, nil, false, "cni.dev/valid-attachments: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &Request{Attachment: Attachment{Network: "cni0"}, Config: []byte(test.config)}
			got, listed, err := r.ValidAttachments()
			if test.err != "" {
				if e := cniError(t, err); e.Code != CodeConfig || !strings.HasPrefix(e.Msg, test.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if d := cmp.Diff(test.want, got); d != "" || listed != test.listed || err != nil {
				t.Errorf("listed %v, error %v (-want +got)\n%s", listed, err, d)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	for _, test := range []struct{ name, routes, v4, v6 string }{
		{"none, whatever the gateways", `{"dst": "192.0.2.0/24"}`, "invalid IP", "invalid IP"},
		{"by the gateways", `{"dst": "0.0.0.0/0"}, {"dst": "::/0"}`, "10.10.20.1", "fd20::1"},
		{"by next hops of their own", `{"dst": "::/0", "gw": "fd20::9"}, {"dst": "0.0.0.0/0", "gw": "10.10.20.9"}`, "10.10.20.9", "fd20::9"},
		{"IPv6 only", `{"dst": "::/0"}`, "invalid IP", "fd20::1"},
		{"in another table", `{"dst": "0.0.0.0/0", "table": 77}`, "invalid IP", "invalid IP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := parse(t, "1.1.0", `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [
				{"address": "10.10.20.53/24", "gateway": "10.10.20.1"}, {"address": "fd20::53/64", "gateway": "fd20::1"}], "routes": [`+test.routes+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			if v4, v6 := r.Default(false).String(), r.Default(true).String(); v4 != test.v4 || v6 != test.v6 {
				t.Errorf("got %s and %s", v4, v6)
			}
		})
	}
}
