package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"
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

// SetDefault makes the default routes of the result that belong to the address's family go by it: the
// CHECK of the plugins before compares the routes with the kernel's.
func (r *Request) SetDefault(via netip.Addr) {
	for _, route := range r.Result.Routes {
		ones, _ := route.Dst.Mask.Size()
		if dst, ok := netip.AddrFromSlice(route.Dst.IP); ok && ones == 0 && dst.Unmap().Is4() == via.Is4() {
			route.GW = via.AsSlice()
		}
	}
}

// Gateway is the gateway that the IPAM plugin named for the family of an address, or not valid.
func (r *Request) Gateway(v6 bool) netip.Addr {
	for _, ip := range r.Result.IPs {
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
	var ours, theirs any
	if err := json.Unmarshal(out.Bytes(), &ours); err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	if err := json.Unmarshal(r.raw, &theirs); err != nil {
		return nil, fmt.Errorf("prevResult: %w", err)
	}
	b, err := json.MarshalIndent(complete(ours, theirs), "", "    ")
	if err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	return append(b, '\n'), nil
}

// complete adds to ours the members that only theirs has, at every depth; elements of arrays correspond
// by their index, since we only ever append.
func complete(ours, theirs any) any {
	switch o := ours.(type) {
	case map[string]any:
		t, ok := theirs.(map[string]any)
		if !ok {
			return o
		}
		for k, v := range t {
			if mine, ok := o[k]; ok {
				o[k] = complete(mine, v)
			} else {
				o[k] = v
			}
		}
	case []any:
		t, ok := theirs.([]any)
		if !ok {
			return o
		}
		for i := range min(len(o), len(t)) {
			o[i] = complete(o[i], t[i])
		}
	}
	return ours
}
