package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"underlay-cni/routing"
)

// AppendInterfaces appends to the result's interfaces, after the addresses without an interface have been
// given the pod's: some readers give them to the last one. Nothing else may change: runtimes publish
// every entry of ips as an address of the pod, and indexes count from the front.
func (r *Request) AppendInterfaces(added ...*types100.Interface) {
	pod := r.podInterface()
	for _, ip := range r.Result.IPs {
		if ip.Interface == nil {
			ip.Interface = new(pod)
		}
	}
	r.Result.Interfaces = append(r.Result.Interfaces, added...)
}

// SetDefault makes the default route of the main table, in the family of the address, go by it: the CHECK of the
// plugins before compares the routes with the kernel's. A gateway without a default route gets one.
func (r *Request) SetDefault(via netip.Addr) {
	defaults := r.defaults(via.Is6())
	for _, route := range defaults {
		route.GW = via.AsSlice()
		route.MTU, route.AdvMSS, route.Priority, route.Scope = 0, 0, 0, nil
	}
	if len(defaults) == 0 && r.Gateway(via.Is6()).IsValid() {
		zero := make(net.IP, len(via.AsSlice()))
		dst := net.IPNet{IP: zero, Mask: net.CIDRMask(0, via.BitLen())}
		r.Result.Routes = append(r.Result.Routes, &types.Route{Dst: dst, GW: via.AsSlice()})
	}
}

// SetMAC gives the pod's interface another hardware address: the CHECK of the plugins before compares it.
func (r *Request) SetMAC(mac net.HardwareAddr) {
	r.Result.Interfaces[r.podInterface()].Mac = mac.String()
}

// DropDefault takes the default route of one family, which has left the main table, out of the result: the CHECK of
// the plugins before looks for it there.
func (r *Request) DropDefault(v6 bool) {
	defaults := map[*types.Route]bool{}
	for _, route := range r.defaults(v6) {
		defaults[route] = true
	}
	r.Result.Routes = slices.DeleteFunc(r.Result.Routes, func(route *types.Route) bool { return defaults[route] })
}

// Default is the next hop of the default route that the result gives to the pod in one family: the route's own, else the
// gateway of the IPAM plugin. It is not valid if there is no such route, whatever gateway the IPAM plugin names: host-local
// always names one.
func (r *Request) Default(v6 bool) netip.Addr {
	defaults := r.defaults(v6)
	if len(defaults) == 0 {
		return netip.Addr{}
	}
	if gw, ok := netip.AddrFromSlice(defaults[0].GW); ok && gw.Unmap().Is6() == v6 {
		return gw.Unmap()
	}
	return r.Gateway(v6)
}

// defaults are the default routes of the main table in one family.
func (r *Request) defaults(v6 bool) (routes []*types.Route) {
	for _, route := range r.Result.Routes {
		ones, _ := route.Dst.Mask.Size()
		dst, ok := netip.AddrFromSlice(route.Dst.IP)
		inMain := route.Table == nil || *route.Table == routing.MainTable
		if ok && ones == 0 && dst.Unmap().Is6() == v6 && inMain {
			routes = append(routes, route)
		}
	}
	return routes
}

// PodAddresses are those that the result gives to the pod's interface.
func (r *Request) PodAddresses() (addrs []netip.Prefix) {
	for _, ip := range r.podIPs() {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ones, _ := ip.Address.Mask.Size()
			addrs = append(addrs, netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	return addrs
}

// Given are those of some addresses of the pod's interface that the result gives to it, in the same order. What the pod has given
// itself, or a router advertisement has brought, is the pod's own affair: the node believes the result alone.
func (r *Request) Given(has []routing.Address) []routing.Address {
	given := r.PodAddresses()
	return slices.DeleteFunc(slices.Clone(has), func(a routing.Address) bool {
		return !slices.ContainsFunc(given, func(g netip.Prefix) bool { return g.Addr() == a.Prefix.Addr() })
	})
}

// ByResult tells whether what the pod has given itself since the ADD is to be passed over: in a CHECK, which compares what an ADD has
// made. A result without addresses says nothing about them.
func (r *Request) ByResult() bool { return r.Verb == "CHECK" && len(r.PodAddresses()) > 0 }

// Expected are those of some routes of the pod's interface that the request goes by: all of them or, ByResult, without the connected
// ones of addresses that the pod has given itself.
func (r *Request) Expected(routes []*routing.Route) []*routing.Route {
	if !r.ByResult() {
		return routes
	}
	given := append(r.OnLink(false), r.OnLink(true)...)
	return slices.DeleteFunc(slices.Clone(routes), func(route *routing.Route) bool {
		return route.Connected() && !slices.Contains(given, route.Dst)
	})
}

// OnLink are the destinations that the result has on the link of the pod's interface in one family: the prefixes of its
// addresses, and routes without a gateway where the IPAM plugin names none.
func (r *Request) OnLink(v6 bool) (dsts []netip.Prefix) {
	add := func(p netip.Prefix) {
		if p.IsValid() && p.Addr().Is6() == v6 && p.Bits() > 0 && !slices.Contains(dsts, p.Masked()) {
			dsts = append(dsts, p.Masked())
		}
	}
	for _, addr := range r.PodAddresses() {
		add(addr)
	}
	for _, route := range r.Result.Routes {
		if dst, ok := netip.AddrFromSlice(route.Dst.IP); ok && len(route.GW) == 0 && !r.Gateway(v6).IsValid() {
			ones, _ := route.Dst.Mask.Size()
			add(netip.PrefixFrom(dst.Unmap(), ones))
		}
	}
	return dsts
}

// podIPs are the addresses that the result gives to the pod's interface, or to no interface by name.
func (r *Request) podIPs() []*types100.IPConfig {
	pod := r.podInterface()
	return slices.DeleteFunc(slices.Clone(r.Result.IPs), func(ip *types100.IPConfig) bool {
		return ip.Interface != nil && *ip.Interface != pod
	})
}

// Gateway is the gateway that the IPAM plugin named for the pod's interface in one family, or not valid.
func (r *Request) Gateway(v6 bool) netip.Addr {
	for _, ip := range r.podIPs() {
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok && gw.Unmap().Is6() == v6 {
			return gw.Unmap()
		}
	}
	return netip.Addr{}
}

// marshalResult is the result as standard output wants it: in the version of the configuration, with
// the fields of prevResult that this program does not know.
func (r *Request) marshalResult() ([]byte, error) {
	versioned, err := r.Result.GetAsVersion(r.Version)
	if err != nil {
		return nil, fmt.Errorf("convert the result to version %s: %w", r.Version, err)
	}
	var out bytes.Buffer
	if err := versioned.PrintTo(&out); err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	ours, err := decode(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	theirs, err := decode(r.raw)
	if err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	b, err := json.Marshal(complete("", ours, theirs)) // indentation is quadratic in the depth
	if err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	return append(b, '\n'), nil
}

// decode keeps numbers as they stand in the text.
func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// complete adds to ours the members that only theirs has, at every depth, but for those of routes that
// SetDefault has taken away; elements of arrays correspond by their index, since we only ever append, and routes by
// their destination, since DropDefault may have taken one away. The key is that of the value, or of the array around it.
func complete(key string, ours, theirs any) any {
	switch o := ours.(type) {
	case map[string]any:
		t, ok := theirs.(map[string]any)
		if !ok {
			return o
		}
		for k, v := range t {
			mine, known := o[k]
			switch {
			case known:
				o[k] = complete(k, mine, v)
			case k == "routes": // all of them have been taken away
			case key != "routes" || !slices.Contains([]string{"mtu", "advmss", "priority", "scope"}, k):
				o[k] = v
			}
		}
	case []any:
		t, ok := theirs.([]any)
		if !ok {
			return o
		}
		if key == "routes" {
			t = sameRoutes(o, t)
		}
		for i := range min(len(o), len(t)) {
			o[i] = complete(key, o[i], t[i])
		}
	}
	return ours
}

// sameRoutes are, for each of our routes, the one of theirs with the same destination, in order; nil where there is none.
func sameRoutes(ours, theirs []any) []any {
	dst := func(route any) string {
		members, _ := route.(map[string]any)
		text, _ := members["dst"].(string)
		return text
	}
	left := map[string][]any{}
	for _, route := range theirs {
		left[dst(route)] = append(left[dst(route)], route)
	}
	same := make([]any, len(ours))
	for i, route := range ours {
		if of := left[dst(route)]; len(of) > 0 {
			same[i], left[dst(route)] = of[0], of[1:]
		}
	}
	return same
}
