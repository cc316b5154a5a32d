package conformance

import (
	"errors"
	"fmt"
	"slices"
)

func checkRows() []Row {
	rows := []Row{
		{
			Name: "CHECK/it changes nothing", Level: Must, run: checkChangesNothing,
			Spec: "CHECK is a way for a runtime to probe the status of an existing container.",
		},
		{
			Name: "CHECK/without prevResult", Level: Must, run: checkWithoutPrevResult,
			Spec: "The plugin must consult the prevResult to determine the expected interfaces and addresses.",
		},
		{
			Name: "CHECK/a later plugin has changed things", Level: Must, run: checkLaterPlugin,
			Spec: "The plugin must allow for a later chained plugin to have modified networking resources, e.g. routes, on ADD.",
		},
		{
			Name: "CHECK/an interface is missing", Level: Should, run: func(t *trial) error { return t.checkMissing(missingInterfaces) },
			Spec: "The plugin should return an error if a resource included in the CNI Result type (interface, address or route) was created by the plugin, and is listed in prevResult, but is missing.",
		},
		{
			Name: "CHECK/an address is missing", Level: Should, run: func(t *trial) error { return t.checkMissing(missingAddresses) },
			Spec: "The plugin should return an error if an address was created by the plugin, and is listed in prevResult, but is missing.",
		},
		{
			Name: "CHECK/a route is missing", Level: Should, run: func(t *trial) error { return t.checkMissing(missingRoutes) },
			Spec: "The plugin should return an error if a route was created by the plugin, and is listed in prevResult, but is missing.",
		},
		{
			Name: "CHECK/the container is unreachable", Level: Should, run: checkUnreachable,
			Spec: "The plugin should return an error if it is aware of a condition where the container is generally unreachable.",
		},
		{
			Name: "CHECK/it does not exist before 0.4.0", Level: Should, run: func(t *trial) error { return t.tooOld("CHECK", "0.3.1") },
			Spec: "Introduced in 0.4.0. 1: Incompatible CNI version.",
		},
	}
	for _, v := range Versions[slices.Index(Versions, "0.4.0"):] {
		rows = append(rows, Row{
			Name: "CHECK/immediately after ADD/" + v, Level: Must,
			Spec: "The plugin must handle CHECK being called immediately after an ADD.",
			run:  func(t *trial) error { return t.checkAfterAdd(v) },
		})
	}
	return rows
}

// checkable is a new attachment in a version that has CHECK.
func (t *trial) checkable() (*container, error) {
	if err := t.since("0.4.0"); err != nil {
		return nil, err
	}
	return t.attached()
}

func (t *trial) checkAfterAdd(version string) error {
	if err := t.supports(version); err != nil {
		return err
	}
	c, err := t.checkable()
	if err != nil {
		return err
	}
	return t.succeed(t.request("CHECK", c))
}

func checkChangesNothing(t *trial) error {
	c, err := t.checkable()
	if err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	pod, err := c.Dump()
	if err != nil {
		return err
	}
	if err := t.succeed(t.request("CHECK", c)); err != nil {
		return err
	}
	return errors.Join(t.back(before), podBack(c, pod))
}

func checkWithoutPrevResult(t *trial) error {
	c, err := t.checkable()
	if err != nil {
		return err
	}
	_, err = t.refuse(t.request("CHECK", c).without("prevResult"))
	return err
}

// checkLaterPlugin does what a later plugin may do, in the kernel and in the result.
func checkLaterPlugin(t *trial) error {
	c, err := t.checkable()
	if err != nil {
		return err
	}
	err = c.IP(append(stub("later0", "02:00:00:00:00:0a"), "address add 198.51.100.7/32 dev later0",
		"route add 203.0.113.0/24 dev later0", "rule add pref 4711 from 198.51.100.7 lookup 4711")...)
	if err != nil {
		return err
	}
	interfaces, _ := c.result["interfaces"].([]any)
	c.result["interfaces"] = append(interfaces, map[string]any{"name": "later0", "mac": "02:00:00:00:00:0a", "sandbox": c.netns})
	routes, _ := c.result["routes"].([]any)
	c.result["routes"] = append(routes, map[string]any{"dst": "203.0.113.0/24"})
	return t.succeed(t.request("CHECK", c))
}

// A theft takes one thing away that CHECK should miss.
type theft struct {
	what string
	from *container // nil: from the node
	args []string   // of ip(8)
}

// checkMissing takes each away in an attachment of its own.
func (t *trial) checkMissing(thefts func(*container, *result, *result) []theft) error {
	count := 1
	var errs []error
	for n := 0; n < count; n++ {
		c, err := t.checkable()
		if err != nil {
			return err
		}
		r, err := parse(c.result, t.version)
		if err != nil {
			return err
		}
		prev := &result{}
		if c.prev != nil {
			if prev, err = parse(c.prev, t.version); err != nil {
				return err
			}
		}
		list := thefts(c, prev, r)
		if count = len(list); count == 0 {
			return inapplicable("the plugin adds nothing of the kind to the result")
		}
		machine := t.node.Namespace
		if list[n].from != nil {
			machine = list[n].from.Namespace
		}
		if _, err := machine.Run("ip", list[n].args...); err != nil {
			return err
		}
		if _, err := t.refuse(t.request("CHECK", c)); err != nil {
			errs = append(errs, fmt.Errorf("without %s: %w", list[n].what, err))
		}
	}
	return errors.Join(errs...)
}

func missingInterfaces(c *container, prev, r *result) []theft {
	var list []theft
	for _, i := range r.interfaces {
		switch {
		case slices.ContainsFunc(prev.interfaces, i.is):
		case i.sandbox == c.netns:
			list = append(list, theft{"interface " + i.name + " of the container", c, []string{"link", "del", i.name}})
		case i.sandbox == "":
			list = append(list, theft{"interface " + i.name + " of the node", nil, []string{"link", "del", i.name}})
		}
	}
	return list
}

func missingAddresses(c *container, prev, r *result) []theft {
	var list []theft
	for _, a := range r.ips {
		known := slices.ContainsFunc(prev.ips, func(p address) bool { return p.address == a.address })
		if !known && a.of >= 0 && r.interfaces[a.of].sandbox == c.netns {
			list = append(list, theft{fmt.Sprint("address ", a.address), c, []string{"address", "del", a.address.String(), "dev", r.interfaces[a.of].name}})
		}
	}
	return list
}

func missingRoutes(c *container, prev, r *result) []theft {
	var list []theft
	for _, route := range r.routes {
		if slices.Contains(prev.routes, route) {
			continue
		}
		family := "-6"
		if route.dst.Addr().Is4() {
			family = "-4"
		}
		list = append(list, theft{fmt.Sprintf("the route to %s by %s", route.dst, route.gw), c, []string{family, "route", "flush", "exact", route.dst.String()}})
	}
	return list
}

func checkUnreachable(t *trial) error {
	c, err := t.checkable()
	if err != nil {
		return err
	}
	r := t.request("CHECK", c)
	if err := c.IP("link del " + c.IfName); err != nil {
		return err
	}
	if _, err := t.refuse(r); err != nil {
		return fmt.Errorf("without %s in the container: %w", c.IfName, err)
	}
	return nil
}

// tooOld wants a verb to be refused in the version before the one that brought it.
func (t *trial) tooOld(verb, version string) error {
	if err := t.supports(version); err != nil {
		return err
	}
	c, err := t.attached()
	if err != nil {
		return err
	}
	_, err = t.refuse(t.request(verb, c), 1)
	return err
}
