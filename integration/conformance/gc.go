package conformance

import (
	"errors"
	"fmt"

	"underlay-cni/integration/lab"
)

func gcRows() []Row {
	const stale = "A plugin SHOULD remove as many stale resources as possible. (A plugin that keeps nothing outside of the container's namespace has nothing to do.)"
	return []Row{
		{
			Name: "GC/what is valid stays", Level: Must, run: gcKeeps,
			Spec: "cni.dev/valid-attachments: The list of still valid attachments to this network.",
		},
		{Name: "GC/what is not in the list goes", Level: Should, Spec: stale, run: gcRemoves},
		{Name: "GC/an empty list", Level: Should, Spec: stale, run: gcEmpty},
		{
			Name: "GC/null for a list", Level: Must, run: func(t *trial) error { return t.gcWithout(func(r *request) { r.with(validAttachments, nil) }) },
			Spec: "Plugins should generally complete a GC action without error. (CRI-O says null when it has no pods.)",
		},
		{
			Name: "GC/no list", Level: Must, run: func(t *trial) error { return t.gcWithout(func(r *request) { r.without(validAttachments) }) },
			Spec: "Plugins should generally complete a GC action without error. (cnitool gives no list: that is not one that is empty.)",
		},
		{
			Name: "GC/another network", Level: Must, run: gcOtherNetwork,
			Spec: "The plugin may remove any resources related to attachments to the network that do not exist in the set.",
		},
		{
			Name: "GC/on a fresh node", Level: Must, run: gcFresh, bare: true,
			Spec: "Plugins should generally complete a GC action without error.",
		},
		{
			Name: "GC/DEL after it", Level: Must, run: gcThenDel,
			Spec: "Plugins MUST accept DEL and return success if any modifications added are missing.",
		},
		{
			Name: "GC/it does not exist before 1.1.0", Level: Should, run: func(t *trial) error { return t.tooOld("GC", "1.0.0") },
			Spec: "Introduced in 1.1.0. 1: Incompatible CNI version.",
		},
	}
}

func statusRows() []Row {
	return []Row{
		{
			Name: "STATUS/ready", Level: Must, run: statusReady,
			Spec: "A plugin must exit with a zero (success) return code if the plugin is ready to service ADD requests. Optional environment parameters: CNI_PATH.",
		},
		{
			Name: "STATUS/it changes nothing", Level: Must, run: statusChangesNothing,
			Spec: "Status is purely informational.",
		},
		{
			Name: "STATUS/not ready", Level: Should, run: statusNotReady, bare: true,
			Spec: "If the plugin knows that it is not able to service ADD requests, it must exit with a non-zero return code and output an error. 50, 51: The plugin is not available.",
		},
		{
			Name: "STATUS/it does not exist before 1.1.0", Level: Should, run: func(t *trial) error { return t.tooOld("STATUS", "1.0.0") },
			Spec: "Introduced in 1.1.0. 1: Incompatible CNI version.",
		},
	}
}

const validAttachments = "cni.dev/valid-attachments"

// gc is the request that keeps the containers.
func (t *trial) gc(valid ...*container) *request {
	list := []any{}
	for _, c := range valid {
		list = append(list, map[string]any{"containerID": c.id, "ifname": c.IfName})
	}
	return t.request("GC", nil).with(validAttachments, list)
}

// collectable warms the node up for a GC and returns its state.
func (t *trial) collectable() (lab.Dump, error) {
	if err := t.since("1.1.0"); err != nil {
		return nil, err
	}
	if err := t.warm(); err != nil {
		return nil, err
	}
	return t.state()
}

// stale is a container whose namespace has gone without a DEL. The plugins before have had theirs.
func (t *trial) stale() (*container, error) {
	c, err := t.attached()
	if err != nil {
		return nil, err
	}
	return c, errors.Join(takeNamespace(c), t.undoBefore(c))
}

// gcKeeps has one stale and two valid attachments. Nothing that is of the valid ones may go.
func gcKeeps(t *trial) error {
	if _, err := t.collectable(); err != nil {
		return err
	}
	second, err := t.attached()
	if err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	pod, err := second.Dump()
	if err != nil {
		return err
	}
	if _, err := t.stale(); err != nil {
		return err
	}
	if err := t.succeed(t.gc(t.first, second)); err != nil {
		return err
	}
	after, err := t.state()
	if err != nil {
		return err
	}
	if lost := before.Since(after); len(lost) > 0 {
		return fmt.Errorf("the node has lost:\n%s", lost)
	}
	return errors.Join(podBack(second, pod), t.succeed(t.request("CHECK", second)))
}

// gcRemoves has one stale attachment whose container is gone, and one whose container lives, as that of an interface does
// that was taken out of a running container.
func gcRemoves(t *trial) error {
	if _, err := t.collectable(); err != nil {
		return err
	}
	lives, err := t.before()
	if err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	if err := t.add(lives); err != nil {
		return err
	}
	if _, err := t.stale(); err != nil {
		return err
	}
	if err := t.succeed(t.gc(t.first)); err != nil {
		return err
	}
	return t.back(before)
}

// gcEmpty: nothing is valid. What containers share is there before.
func gcEmpty(t *trial) error {
	if _, err := t.collectable(); err != nil {
		return err
	}
	err := errors.Join(t.succeed(t.request("DEL", t.first)), t.undoBefore(t.first))
	if err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	for range 2 {
		if _, err := t.stale(); err != nil {
			return err
		}
	}
	if err := t.succeed(t.gc()); err != nil {
		return err
	}
	return t.back(before)
}

func (t *trial) gcWithout(change func(*request)) error {
	before, err := t.collectable()
	if err != nil {
		return err
	}
	r := t.gc(t.first)
	change(r)
	if err := t.succeed(r); err != nil {
		return err
	}
	if err := t.back(before); err != nil {
		t.note(fmt.Errorf("an attachment whose container lives: %w", err))
	}
	return nil
}

func gcOtherNetwork(t *trial) error {
	before, err := t.collectable()
	if err != nil {
		return err
	}
	if err := t.succeed(t.gc().with("name", t.List.Name+"-other")); err != nil {
		return err
	}
	return t.back(before)
}

func gcFresh(t *trial) error {
	if err := t.since("1.1.0"); err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	return errors.Join(t.succeed(t.gc()), t.back(before))
}

func gcThenDel(t *trial) error {
	before, err := t.collectable()
	if err != nil {
		return err
	}
	c, err := t.stale()
	if err != nil {
		return err
	}
	return errors.Join(t.succeed(t.gc(t.first)), t.succeed(t.request("DEL", c)), t.back(before))
}

func statusReady(t *trial) error {
	if err := t.since("1.1.0"); err != nil {
		return err
	}
	if err := t.succeed(t.request("STATUS", nil)); err != nil {
		return err
	}
	// It was true.
	_, err := t.attached()
	return err
}

func statusChangesNothing(t *trial) error {
	before, err := t.collectable()
	if err != nil {
		return err
	}
	return errors.Join(t.succeed(t.request("STATUS", nil)), t.back(before))
}

// statusNotReady is a node that has not what the configuration needs, if it needs anything.
func statusNotReady(t *trial) error {
	if err := t.since("1.1.0"); err != nil {
		return err
	}
	status := t.request("STATUS", nil)
	a, err := t.call(status)
	if err != nil {
		return err
	}
	if _, err := t.attached(); err == nil {
		return inapplicable("ADD works on a node that nobody has prepared")
	}
	if a.status == 0 {
		return errors.New("STATUS succeeds on a node where ADD fails: one that nobody has prepared")
	}
	_, err = t.refuse(status, 50, 51)
	return err
}
