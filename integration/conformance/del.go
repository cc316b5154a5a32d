package conformance

import (
	"fmt"
	"os"
	"slices"

	"underlay-cni/integration/lab"
)

func delRows() []Row {
	const idempotent = "Plugins MUST accept multiple DEL calls for the same (CNI_CONTAINERID, CNI_IFNAME) pair, and return success if the interface in question, or any modifications added, are missing."
	const bestEffort = "Plugins should always complete a DEL action without error to the fullest extent possible, even if some resources or state are missing, and clean up even if the container network namespace no longer exists."
	rows := []Row{
		{
			Name: "DEL/the container is as it was", Level: Should, run: delInContainer,
			Spec: "A CNI plugin, upon receiving a DEL command, should delete the interface defined by CNI_IFNAME, or undo any modifications applied in the plugin's ADD functionality.",
		},
		{Name: "DEL/again", Level: Must, Spec: idempotent, run: func(t *trial) error { return t.delWith(nil, nil, 3) }},
		{Name: "DEL/of what was never added", Level: Must, Spec: idempotent, run: delNeverAdded},
		{Name: "DEL/the interface is gone", Level: Must, Spec: idempotent, run: func(t *trial) error { return t.delWith(takeInterface, nil, 1) }},
		{Name: "DEL/its interfaces on the node are gone", Level: Must, Spec: idempotent, run: func(t *trial) error { return t.delWith(t.takeHostEnds, nil, 1) }},
		{
			Name: "DEL/without CNI_NETNS", Level: Must, Spec: "Optional environment parameters: CNI_NETNS. " + bestEffort,
			run: func(t *trial) error {
				return t.delWith(takeNamespace, func(r *request) { r.unset("CNI_NETNS") }, 2)
			},
		},
		{
			Name: "DEL/CNI_NETNS is empty", Level: Must, Spec: bestEffort,
			run: func(t *trial) error {
				return t.delWith(takeNamespace, func(r *request) { r.set("CNI_NETNS", "") }, 2)
			},
		},
		{
			Name: "DEL/CNI_NETNS does not exist any more", Level: Must, Spec: bestEffort,
			run: func(t *trial) error { return t.delWith(takeNamespace, nil, 2) },
		},
		{
			Name: "DEL/CNI_NETNS is a plain file", Level: Should, Spec: bestEffort + " (It is what is left in /run/netns of a namespace that was unmounted, or after a reboot.)",
			run: func(t *trial) error {
				file, err := os.CreateTemp("", "netns")
				if err != nil {
					return err
				}
				defer func() { _ = os.Remove(file.Name()) }()
				defer file.Close()
				return t.delWith(takeNamespace, func(r *request) { r.set("CNI_NETNS", file.Name()) }, 1)
			},
		},
		{
			Name: "DEL/without prevResult", Level: Must, Spec: "Plugins should still return without error if prevResult is empty for a DEL command. (No runtime has one after a failed ADD.)",
			run: func(t *trial) error { return t.delWith(nil, func(r *request) { r.without("prevResult") }, 1) },
		},
		{
			Name: "DEL/prevResult is null", Level: Should, Spec: "Plugins should still return without error if prevResult is empty for a DEL command.",
			run: func(t *trial) error {
				return t.delWith(nil, func(r *request) { r.with("prevResult", nil) }, 1)
			},
		},
		{
			Name: "DEL/without netns and prevResult", Level: Must, Spec: bestEffort,
			run: func(t *trial) error {
				return t.delWith(takeNamespace, func(r *request) { r.set("CNI_NETNS", "").without("prevResult") }, 1)
			},
		},
		{
			Name: "DEL/a later plugin's part of prevResult", Level: Must, Spec: "The previous result provided is always the final result of the add operation.",
			run: delFinalResult,
		},
	}
	for _, v := range Versions {
		rows = append(rows, Row{
			Name: "DEL/the node is as it was/" + v, Level: Must,
			Spec: "Undo any modifications applied in the plugin's ADD functionality. (Those of other containers stay, and so does what containers share.)",
			run: func(t *trial) error {
				if err := t.supports(v); err != nil {
					return err
				}
				return t.delWith(nil, nil, 1)
			},
		})
	}
	return rows
}

// delWith attaches a container beside another one, lets something happen to it, and wants each of a number of DELs to
// succeed and the node to be as it was before the ADD.
func (t *trial) delWith(happens func(*container) error, change func(*request), times int) error {
	if err := t.warm(); err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	c, err := t.before()
	if err != nil {
		return err
	}
	own, err := t.state()
	if err != nil {
		return err
	}
	if err := t.add(c); err != nil {
		return err
	}
	r := t.request("DEL", c)
	if change != nil {
		change(r)
	}
	if happens != nil {
		if err := happens(c); err != nil {
			return err
		}
	}
	for n := range times {
		if err := t.succeed(r); err != nil {
			return fmt.Errorf("DEL %d: %w", n+1, err)
		}
	}
	if happens == nil {
		return t.back(own)
	}
	// What happened concerns the plugins before as well: they must be done with it too.
	if err := t.undoBefore(c); err != nil {
		return err
	}
	return t.back(before)
}

// takeNamespace is a container that has ended.
func takeNamespace(c *container) error { return c.Close() }

func takeInterface(c *container) error { return c.IP("link del " + c.IfName) }

// takeHostEnds deletes the interfaces on the node that this container's plugin has made, and no other container has.
func (t *trial) takeHostEnds(c *container) error {
	r, err := parse(c.result, t.version)
	if err != nil {
		return err
	}
	shared := &result{}
	for _, other := range []map[string]any{c.prev, t.first.result} {
		if other == nil {
			continue
		}
		o, err := parse(other, t.version)
		if err != nil {
			return err
		}
		shared.interfaces = append(shared.interfaces, o.interfaces...)
	}
	var lines []string
	for _, i := range r.in("") {
		if !slices.ContainsFunc(shared.interfaces, i.is) {
			lines = append(lines, "link del "+i.name)
		}
	}
	if len(lines) == 0 {
		return inapplicable("the plugin makes no interface of a container on the node")
	}
	return t.node.IP(lines...)
}

func delInContainer(t *trial) error {
	c, err := t.before()
	if err != nil {
		return err
	}
	before, err := c.Dump()
	if err != nil {
		return err
	}
	if err := t.add(c); err != nil {
		return err
	}
	if err := t.succeed(t.request("DEL", c)); err != nil {
		return err
	}
	return podBack(c, before)
}

func podBack(c *container, was lab.Dump) error { return returns("the container", was, c.Dump) }

func delNeverAdded(t *trial) error {
	c, before, err := t.beside()
	if err != nil {
		return err
	}
	for range 2 {
		if err := t.succeed(t.request("DEL", c)); err != nil {
			return err
		}
	}
	return t.back(before)
}

// delFinalResult has the prevResult of a chain that goes on after the plugin.
func delFinalResult(t *trial) error {
	return t.delWith(nil, func(r *request) {
		prev, ok := r.config["prevResult"].(map[string]any)
		if !ok {
			return // in this version there is none
		}
		interfaces, _ := prev["interfaces"].([]any)
		prev["interfaces"] = append(interfaces, map[string]any{"name": "later0", "mac": "02:00:00:00:00:0a"})
		prev["dns"] = dns()
	}, 1)
}
