package conflist

import (
	"errors"
	"net/netip"
	"path"
	"strings"
	"testing"
	"unicode"
)

// Whatever is decoded without an error keeps the promises of the doc comments; every error is made of KeyErrors
// that an operator can read.
func FuzzDecodeVethHost(f *testing.F) {
	f.Add([]byte(config()))
	f.Add([]byte(config("nodePorts", `"30000:32767,80"`, "serviceCidr", `["10.96.0.0/12","fd00::/108"]`)))
	f.Add([]byte(config("nodePortMark", `"0x10"`, "serviceMark", `32`, "routeTableStart", `1000`, "mtu", `1400`)))
	f.Add([]byte(config("log_options", `{"log_level": "info", "log_file": "/a", "log_max_age": 1}`)))
	f.Add([]byte(config("host_interface", `null`, "cni.dev/valid-attachments", `[{"ifname": "eth0"}]`)))
	f.Add([]byte("{\n\"a\": 1, // b\n}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		Lint(data) // does not panic
		c, err := DecodeVethHost(data)
		if err != nil {
			checkErrors(t, err)
			return
		}
		checkPromises(t, c)
	})
}

func checkErrors(t *testing.T, err error) {
	t.Helper()
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			checkErrors(t, one)
		}
		return
	}
	e, ok := errors.AsType[*KeyError](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Problem == "" || e.Key == "" && e.Line == 0 && e.Value == "" || len(e.Value) > 64 {
		t.Errorf("%#v", e)
	}
	if strings.HasPrefix(e.Problem, "json: ") {
		t.Errorf("the problem of a Go programmer: %s", e.Problem)
	}
	if message := e.Error(); len(message) > 600 || strings.ContainsFunc(message, unicode.IsControl) {
		t.Errorf("a message of %d bytes: %q", len(message), message)
	}
}

func checkPromises(t *testing.T, c *VethHost) {
	t.Helper()
	for _, name := range []string{c.HostInterface, c.ContainerInterface} {
		if err := ValidInterfaceName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if c.Name == "" {
		t.Error("no name")
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		t.Errorf("mtu %d", c.MTU)
	}
	if c.RouteTableStart < 256 || c.RouteTableStart > 1<<30 {
		t.Errorf("routeTableStart %d", c.RouteTableStart)
	}
	if c.NodePortMark == 0 || c.ServiceMark == 0 || c.NodePortMark&c.ServiceMark != 0 {
		t.Errorf("marks %v and %v", c.NodePortMark, c.ServiceMark)
	}
	checkPorts(t, c.NodePorts)
	checkPrefixes(t, c.ServiceCIDR)
	if c.Firewall != Auto && c.Firewall != NFTables && c.Firewall != IPTables {
		t.Errorf("firewall %q", c.Firewall)
	}
	if o := c.LogOptions; o != nil && (!path.IsAbs(o.File) || o.MaxSize < 1 || o.MaxAge < 1 || o.MaxCount < 1) {
		t.Errorf("log_options %+v", o)
	}
}

func checkPorts(t *testing.T, ports PortRanges) {
	t.Helper()
	if len(ports) == 0 {
		t.Error("no ports")
	}
	end := -1 // of the range before
	for _, r := range ports {
		if r.First == 0 || r.First > r.Last || int(r.First) <= end+1 {
			t.Errorf("ports %v", ports)
		}
		end = int(r.Last)
	}
}

func checkPrefixes(t *testing.T, prefixes Prefixes) {
	t.Helper()
	for i, p := range prefixes {
		if !p.IsValid() || p != p.Masked() || p.Bits() == 0 || p.Addr().Is4In6() {
			t.Errorf("prefix %v", p)
		}
		if i > 0 && (netip.Prefix.Compare(prefixes[i-1], p) >= 0 || prefixes[i-1].Overlaps(p)) {
			t.Errorf("prefixes %v", prefixes)
		}
	}
	if len(prefixes.V4())+len(prefixes.V6()) != len(prefixes) {
		t.Errorf("V4 %v and V6 %v of %v", prefixes.V4(), prefixes.V6(), prefixes)
	}
}
