package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// resultRows are about what ADD prints.
func resultRows() []Row {
	rows := []Row{
		{
			Name: "result/it has the interface of CNI_IFNAME", Level: Must, run: resultInterface,
			Spec: "interfaces: An array of all interfaces created by the attachment. For interfaces created inside the container, sandbox should be the value passed via CNI_NETNS.",
		},
		{
			Name: "result/its interfaces exist", Level: Must, run: resultInterfaces,
			Spec: "name: The name of the interface. mac: The hardware address of the interface (if applicable). mtu: The MTU of the interface (if applicable).",
		},
		{
			Name: "result/its addresses exist", Level: Must, run: resultAddresses,
			Spec: "ips: IPs assigned by this attachment; the index into the interfaces list indicates which interface this IP configuration should be applied to.",
		},
		{
			Name: "result/its routes exist", Level: Must, run: resultRoutes,
			Spec: "routes: Routes created by this attachment.",
		},
		{
			Name: "result/a prevResult that begins with interfaces of the host", Level: Must, run: resultHostFirst,
			Spec: "prevResult: the result of the previous plugins; interfaces: An array of all interfaces created by the attachment, including any host-level interfaces.",
		},
		{
			Name: "result/an interface plugin keeps prevResult", Level: Must, run: resultOfInterfacePlugin,
			Spec: "Plugins provided a prevResult key as part of their request configuration must output it as their result, with any possible modifications made by that plugin included.",
		},
	}
	for _, v := range Versions {
		rows = append(rows, Row{
			Name: "result/object/" + v, Level: Must,
			Spec: "Plugins must output a JSON object upon a successful ADD operation. cniVersion: The same version supplied on input.",
			run:  func(t *trial) error { return t.resultObject(v) },
		}, Row{
			Name: "result/prevResult is kept/" + v, Level: Must,
			Spec: "Plugins provided a prevResult key must output it as their result, with any possible modifications made by that plugin included.",
			run:  func(t *trial) error { return t.resultKeeps(v) },
		})
	}
	return rows
}

func (t *trial) resultObject(version string) error {
	if err := t.supports(version); err != nil {
		return err
	}
	c, err := t.attached()
	if err != nil {
		return err
	}
	_, err = parse(c.result, version)
	return err
}

// attachedResult is the result of a new attachment, in the newest version.
func (t *trial) attachedResult() (*container, *result, error) {
	if err := t.since("0.3.0"); err != nil {
		return nil, nil, err
	}
	c, err := t.attached()
	if err != nil {
		return nil, nil, err
	}
	r, err := parse(c.result, t.version)
	return c, r, err
}

func resultInterface(t *trial) error {
	c, r, err := t.attachedResult()
	if err != nil {
		return err
	}
	is, err := links(c)
	if err != nil {
		return err
	}
	if _, ok := is[c.IfName]; !ok {
		return fmt.Errorf("the container has no %s", c.IfName)
	}
	if !slices.ContainsFunc(r.in(c.netns), func(i iface) bool { return i.name == c.IfName }) {
		return fmt.Errorf("no %s with the sandbox %s: %+v", c.IfName, c.netns, r.interfaces)
	}
	return nil
}

func resultInterfaces(t *trial) error {
	c, r, err := t.attachedResult()
	if err != nil {
		return err
	}
	var errs []error
	for sandbox, machine := range map[string]runner{"": t.node, c.netns: c} {
		is, err := links(machine)
		if err != nil {
			return err
		}
		for _, i := range r.in(sandbox) {
			l, ok := is[i.name]
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("interface %s (sandbox %q) does not exist", i.name, sandbox))
			case i.mac != "" && i.mac != l.MAC:
				errs = append(errs, fmt.Errorf("interface %s (sandbox %q): mac is %s, the kernel has %s", i.name, sandbox, i.mac, l.MAC))
			case i.mtu != 0 && i.mtu != l.MTU:
				errs = append(errs, fmt.Errorf("interface %s (sandbox %q): mtu is %d, the kernel has %d", i.name, sandbox, i.mtu, l.MTU))
			}
		}
	}
	return errors.Join(errs...)
}

// resultAddresses looks at those that are in the container: plugins may include others.
func resultAddresses(t *trial) error {
	c, r, err := t.attachedResult()
	if err != nil {
		return err
	}
	is, err := links(c)
	if err != nil {
		return err
	}
	var errs []error
	for _, ip := range r.ips {
		if ip.of < 0 || r.interfaces[ip.of].sandbox != c.netns {
			continue
		}
		name := r.interfaces[ip.of].name
		if !is[name].has(ip) {
			errs = append(errs, fmt.Errorf("%s does not have %s: %+v", name, ip.address, is[name].Addresses))
		}
	}
	return errors.Join(errs...)
}

func (l link) has(want address) bool {
	for _, a := range l.Addresses {
		if a.Local == want.address.Addr() && a.Bits == want.address.Bits() {
			return true
		}
	}
	return false
}

func resultRoutes(t *trial) error {
	c, r, err := t.attachedResult()
	if err != nil {
		return err
	}
	is, err := routes(c)
	if err != nil {
		return err
	}
	var errs []error
	for _, want := range r.routes {
		if !slices.ContainsFunc(is, want.satisfied) {
			errs = append(errs, fmt.Errorf("the container has no route to %s by %s", want.dst, want.gw))
		}
	}
	return errors.Join(errs...)
}

// satisfied tells whether a route of the kernel is one of the result. Without a gateway, that of ips may be used.
func (r route) satisfied(is route) bool {
	return is.dst == r.dst.Masked() && (!r.gw.IsValid() || is.gw == r.gw)
}

// resultHostFirst gives the plugin what bridge and calico do: the container's interface is not the first one.
func resultHostFirst(t *trial) error {
	if !t.chained() {
		return inapplicable("an interface plugin gets no prevResult")
	}
	if err := t.since("0.3.0"); err != nil {
		return err
	}
	c, err := t.before()
	if err != nil {
		return err
	}
	host := []any{
		map[string]any{"name": "host0", "mac": "02:00:00:00:00:08"},
		map[string]any{"name": c.IfName, "mac": "02:00:00:00:00:09"}, // the host may have the same name
	}
	interfaces, _ := c.prev["interfaces"].([]any)
	c.prev["interfaces"] = append(host, interfaces...)
	ips, _ := c.prev["ips"].([]any)
	for _, v := range ips {
		if ip, ok := v.(map[string]any); ok {
			if index, ok := ip["interface"].(float64); ok {
				ip["interface"] = index + float64(len(host))
			}
		}
	}
	if err := t.add(c); err != nil {
		return err
	}
	return t.kept(c.prev, c.result)
}

// dns is what no plugin has anything against.
func dns() map[string]any {
	return map[string]any{
		"nameservers": []any{"192.0.2.53", "2001:db8::53"}, "domain": "example.com",
		"search": []any{"a.example.com", "example.com"}, "options": []any{"ndots:5"},
	}
}

func (t *trial) resultKeeps(version string) error {
	if !t.chained() {
		return inapplicable("an interface plugin gets no prevResult")
	}
	if err := t.supports(version); err != nil {
		return err
	}
	c, err := t.before()
	if err != nil {
		return err
	}
	c.prev["dns"] = dns()
	if !t.older("0.3.0") {
		interfaces, _ := c.prev["interfaces"].([]any)
		c.prev["interfaces"] = append(interfaces, map[string]any{"name": "host0", "mac": "02:00:00:00:00:08"})
	}
	if err := t.add(c); err != nil {
		return err
	}
	return t.kept(c.prev, c.result)
}

// resultOfInterfacePlugin adds to a container that another plugin has been at.
func resultOfInterfacePlugin(t *trial) error {
	if t.chained() {
		return inapplicable("a chained plugin is not the first one")
	}
	if err := t.since("0.3.0"); err != nil {
		return err
	}
	c, err := t.before()
	if err != nil {
		return err
	}
	if err := c.IP(append(stub("other0", "02:00:00:00:00:08"), "address add 198.51.100.7/24 dev other0")...); err != nil {
		return err
	}
	ip := map[string]any{"address": "198.51.100.7/24", "interface": 0}
	if t.older("1.0.0") {
		ip["version"] = "4"
	}
	c.prev = map[string]any{
		"cniVersion": t.version, "dns": dns(), "ips": []any{ip},
		"interfaces": []any{map[string]any{"name": "other0", "mac": "02:00:00:00:00:08", "sandbox": c.netns}},
	}
	if err := t.add(c); err != nil {
		return err
	}
	return t.kept(c.prev, c.result)
}

// kept compares a result with the prevResult: nothing may be missing, and indexes must mean what they meant. What a
// plugin may modify, hardware addresses and next hops, is not compared.
func (t *trial) kept(before, after map[string]any) error {
	// What was made in Go looks then as what was read.
	text, err := json.Marshal(before)
	if err != nil {
		return err
	}
	var plain map[string]any
	if err := json.Unmarshal(text, &plain); err != nil {
		return err
	}
	prev, err := parse(plain, t.version)
	if err != nil {
		return fmt.Errorf("prevResult: %w", err)
	}
	now, err := parse(after, t.version)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range prev.interfaces {
		if !slices.ContainsFunc(now.interfaces, i.is) {
			errs = append(errs, fmt.Errorf("interface %s (sandbox %q) of prevResult is missing", i.name, i.sandbox))
		}
	}
	for _, ip := range prev.ips {
		n := slices.IndexFunc(now.ips, func(n address) bool { return n.address == ip.address })
		switch {
		case n < 0:
			errs = append(errs, fmt.Errorf("address %s of prevResult is missing", ip.address))
		case ip.of >= 0 && (now.ips[n].of < 0 || !prev.interfaces[ip.of].is(now.interfaces[now.ips[n].of])):
			errs = append(errs, fmt.Errorf("address %s belonged to %s, and now to interface %d of %+v", ip.address, prev.interfaces[ip.of].name, now.ips[n].of, now.interfaces))
		}
	}
	for _, r := range prev.routes {
		if !slices.ContainsFunc(now.routes, func(n route) bool { return n.dst == r.dst }) {
			errs = append(errs, fmt.Errorf("the route to %s of prevResult is missing", r.dst))
		}
	}
	if len(prev.dns)+len(now.dns) > 0 && !reflect.DeepEqual(prev.dns, now.dns) {
		errs = append(errs, fmt.Errorf("dns of prevResult was %v, and is now %v", prev.dns, now.dns))
	}
	return errors.Join(errs...)
}

func (i iface) is(other iface) bool { return i.name == other.name && i.sandbox == other.sandbox }
