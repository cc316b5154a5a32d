package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A result is the part of a plugin's result that the rows read, whatever its version.
type result struct {
	interfaces []iface
	ips        []address
	routes     []route
	dns        map[string]any
}

type iface struct {
	name, mac, sandbox string
	mtu                int
}

type address struct {
	address netip.Prefix
	of      int // index of the interface; -1: none
}

type route struct {
	dst   netip.Prefix
	gw    netip.Addr // not valid: none
	table int        // 0: not said
}

// parse checks the types of everything in a result of a version, and says all that is wrong.
func parse(object map[string]any, version string) (*result, error) {
	p := &parser{version: version}
	if got := object["cniVersion"]; got != version {
		p.fail("cniVersion is %v, want that of the configuration, %s", got, version)
	}
	r := &result{dns: p.dns(object)}
	if p.old() {
		p.family(r, object, "ip4", true)
		p.family(r, object, "ip6", false)
	} else {
		for _, o := range p.objects(object, "interfaces") {
			r.interfaces = append(r.interfaces, p.iface(o))
		}
		for _, o := range p.objects(object, "ips") {
			r.ips = append(r.ips, p.ip(o, len(r.interfaces)))
		}
		r.routes = p.routes(object)
	}
	return r, errors.Join(p.errs...)
}

type parser struct {
	version string
	errs    []error
}

func (p *parser) fail(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("result of version "+p.version+": "+format, args...))
}

// old tells whether the result is of the versions before 0.3.0.
func (p *parser) old() bool {
	return slices.Index(Versions, p.version) < slices.Index(Versions, "0.3.0")
}

func (p *parser) objects(object map[string]any, key string) []map[string]any {
	list, ok := object[key].([]any)
	if !ok && object[key] != nil {
		p.fail("%s is no list: %v", key, object[key])
	}
	var objects []map[string]any
	for i, v := range list {
		o, ok := v.(map[string]any)
		if !ok {
			p.fail("%s[%d] is no object: %v", key, i, v)
		}
		objects = append(objects, o)
	}
	return objects
}

func (p *parser) text(object map[string]any, key string) string {
	text, ok := object[key].(string)
	if !ok && object[key] != nil {
		p.fail("%s is no text: %v", key, object[key])
	}
	return text
}

func (p *parser) number(object map[string]any, key string, absent int) int {
	number, ok := object[key].(float64)
	switch {
	case object[key] == nil:
		return absent
	case !ok || number < 0 || number != float64(int(number)):
		p.fail("%s is no unsigned number: %v", key, object[key])
		return absent
	}
	return int(number)
}

func (p *parser) prefix(object map[string]any, key string) netip.Prefix {
	text := p.text(object, key)
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		p.fail("%s is no address in CIDR notation: %q", key, text)
	}
	return prefix
}

func (p *parser) addr(object map[string]any, key string) netip.Addr {
	text := p.text(object, key)
	if text == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		p.fail("%s is no address: %q", key, text)
	}
	return addr
}

func (p *parser) iface(o map[string]any) iface {
	i := iface{name: p.text(o, "name"), mac: p.text(o, "mac"), sandbox: p.text(o, "sandbox"), mtu: p.number(o, "mtu", 0)}
	if i.name == "" {
		p.fail("an interface has no name: %v", o)
	}
	if i.mac != "" {
		if _, err := net.ParseMAC(i.mac); err != nil {
			p.fail("interface %s: mac is no hardware address: %q", i.name, i.mac)
		}
	}
	return i
}

func (p *parser) ip(o map[string]any, interfaces int) address {
	i := address{address: p.prefix(o, "address"), of: p.number(o, "interface", -1)}
	if i.of >= interfaces {
		p.fail("%s: interface %d, but there are %d", i.address, i.of, interfaces)
	}
	gateway := p.addr(o, "gateway")
	if gateway.IsValid() && gateway.Is4() != i.address.Addr().Is4() {
		p.fail("%s: the gateway %s is of the other family", i.address, gateway)
	}
	if family := p.text(o, "version"); slices.Index(Versions, p.version) < slices.Index(Versions, "1.0.0") {
		want := "6"
		if i.address.Addr().Is4() {
			want = "4"
		}
		if family != want {
			p.fail(`%s: version is %q, want %q`, i.address, family, want)
		}
	}
	return i
}

func (p *parser) routes(object map[string]any) []route {
	var routes []route
	for _, o := range p.objects(object, "routes") {
		routes = append(routes, route{p.prefix(o, "dst"), p.addr(o, "gw"), p.number(o, "table", 0)})
	}
	return routes
}

// family reads ip4 and ip6, as there were before 0.3.0.
func (p *parser) family(r *result, object map[string]any, key string, v4 bool) {
	if object[key] == nil {
		return
	}
	o, ok := object[key].(map[string]any)
	if !ok {
		p.fail("%s is no object: %v", key, object[key])
		return
	}
	prefix := p.prefix(o, "ip")
	if prefix.IsValid() && prefix.Addr().Is4() != v4 {
		p.fail("%s has an address of the other family: %s", key, prefix)
	}
	p.addr(o, "gateway")
	r.ips = append(r.ips, address{prefix, -1})
	r.routes = append(r.routes, p.routes(o)...)
}

func (p *parser) dns(object map[string]any) map[string]any {
	o, ok := object["dns"].(map[string]any)
	if !ok && object["dns"] != nil {
		p.fail("dns is no object: %v", object["dns"])
	}
	p.text(o, "domain")
	for _, key := range []string{"nameservers", "search", "options"} {
		list, ok := o[key].([]any)
		if !ok && o[key] != nil {
			p.fail("dns.%s is no list: %v", key, o[key])
		}
		for _, v := range list {
			text, ok := v.(string)
			if _, err := netip.ParseAddr(text); !ok || key == "nameservers" && err != nil {
				p.fail("dns.%s has %v", key, v)
			}
		}
	}
	return o
}

// in are the interfaces in a sandbox, or on the node if that is empty.
func (r *result) in(sandbox string) []iface {
	return slices.DeleteFunc(slices.Clone(r.interfaces), func(i iface) bool { return i.sandbox != sandbox })
}

// A link is an interface as the kernel has it.
type link struct {
	Name      string `json:"ifname"`
	MAC       string `json:"address"`
	MTU       int    `json:"mtu"`
	Addresses []struct {
		Local netip.Addr `json:"local"`
		Bits  int        `json:"prefixlen"`
	} `json:"addr_info"`
}

type runner interface {
	Run(name string, args ...string) (string, error)
}

// links are the interfaces of a machine by their names.
func links(m runner) (map[string]link, error) {
	var list []link
	if err := ipJSON(m, &list, "address", "show"); err != nil {
		return nil, err
	}
	links := map[string]link{}
	for _, l := range list {
		links[l.Name] = l
	}
	return links, nil
}

// routes are those of all tables of a machine.
func routes(m runner) ([]route, error) {
	var all []route
	for family, zero := range map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"} {
		var list []struct {
			Dst     string `json:"dst"`
			Gateway string `json:"gateway"`
		}
		if err := ipJSON(m, &list, family, "route", "show", "table", "all"); err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.Dst == "default" {
				r.Dst = zero
			}
			if !strings.Contains(r.Dst, "/") {
				addr, err := netip.ParseAddr(r.Dst)
				if err != nil {
					continue // a kind of route that no result has
				}
				r.Dst = netip.PrefixFrom(addr, addr.BitLen()).String()
			}
			dst, err := netip.ParsePrefix(r.Dst)
			if err != nil {
				continue
			}
			gw, _ := netip.ParseAddr(r.Gateway)
			all = append(all, route{dst: dst, gw: gw})
		}
	}
	return all, nil
}

func ipJSON(m runner, to any, args ...string) error {
	text, err := m.Run("ip", append([]string{"-json"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("ip %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
