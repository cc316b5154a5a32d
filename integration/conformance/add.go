package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

func addRows() []Row {
	return []Row{
		{
			Name: "ADD/an interface of the name exists", Level: Must, run: addExisting,
			Spec: "If an interface of the requested name already exists in the container, the CNI plugin MUST return with an error.",
		},
		{
			Name: "ADD/another interface name", Level: Must, run: addNames,
			Spec: "CNI_IFNAME: if the plugin is unable to use this interface name it must return an error.",
		},
		{
			Name: "ADD/a second attachment of the container", Level: Should, run: addSecond,
			Spec: "A given container ID may be added to a specific network more than once only if each addition is done with a different interface name.",
		},
		{
			Name: "ADD/many containers at once", Level: Must, run: addMany,
			Spec: "Plugins must handle being executed concurrently across different containers.",
		},
		{
			Name: "ADD/an impossible one is refused", Level: Should, run: addImpossible,
			Spec: "A plugin creates, or adjusts, the interface defined by CNI_IFNAME inside the container at CNI_NETNS; chained plugins get a prevResult.",
		},
		{
			Name: "ADD/a failed one leaves nothing after DEL", Level: Must, run: func(t *trial) error { return t.addFails(true) },
			Spec: "A delete must still be executed even if the add fails. Plugins should always complete a DEL action even if some resources or state are missing.",
		},
		{
			Name: "ADD/a failed one leaves nothing", Level: Should, run: func(t *trial) error { return t.addFails(false) },
			Spec: `If, on ADD, a delegated plugin fails, the "upper" plugin should execute again with DEL before returning failure.`,
		},
	}
}

func addExisting(t *trial) error {
	if t.chained() {
		return inapplicable("a chained plugin adjusts the interface that exists")
	}
	c, before, err := t.beside()
	if err != nil {
		return err
	}
	if err := c.IP(stub(c.IfName, "02:00:00:00:00:07")...); err != nil {
		return err
	}
	_, err = t.refuse(t.request("ADD", c))
	is, linksErr := links(c)
	switch l, ok := is[c.IfName]; {
	case linksErr != nil:
		return linksErr
	case !ok:
		err = errors.Join(err, errors.New("the interface that was there is gone"))
	case l.MAC != "02:00:00:00:00:07":
		err = errors.Join(err, fmt.Errorf("the interface that was there is another one: %+v", l))
	}
	if err == nil {
		t.note(t.back(before))
	}
	return err
}

// addNames accepts a refusal, but no other interface than the one that was asked for.
func addNames(t *trial) error {
	var errs []error
	for _, name := range []string{"net1", "fifteen-letters", "eth0.100"} {
		c, err := t.container()
		if err != nil {
			return err
		}
		c.IfName = name
		if err := t.runBefore(c); err != nil {
			return err
		}
		a, err := t.call(t.request("ADD", c))
		if err != nil {
			return err
		}
		is, err := links(c)
		if err != nil {
			return err
		}
		if _, ok := is[name]; a.status == 0 && !ok {
			errs = append(errs, fmt.Errorf("%s: ADD succeeds, and the container has no such interface", name))
		}
		if a.status != 0 {
			f, err := a.fault()
			if err == nil {
				t.note(fmt.Errorf("%s: refused with code %d: %s", name, f.code, f.text))
			}
			errs = append(errs, err)
		}
		if err := t.succeed(t.request("DEL", c)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// addSecond takes a refusal for a limit, which is noted; what it leaves is not.
func addSecond(t *trial) error {
	first, err := t.attached()
	if err != nil {
		return err
	}
	second := first.another("net2")
	if err := t.runBefore(second); err != nil {
		return inapplicable(err.Error())
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	if err := t.add(second); err != nil {
		_, refused := t.refuse(t.request("ADD", second))
		return errors.Join(err, refused, t.back(before), t.succeed(t.request("DEL", second)))
	}
	is, err := links(first)
	if err != nil {
		return err
	}
	for _, name := range []string{first.IfName, second.IfName} {
		if _, ok := is[name]; !ok {
			return fmt.Errorf("both were added, and the container has no %s", name)
		}
	}
	if err := t.succeed(t.request("DEL", second)); err != nil {
		return err
	}
	return t.back(before)
}

// addMany is as many pods as start on a node together, and as many that stop.
func addMany(t *trial) error {
	const many = 8
	if err := t.warm(); err != nil {
		return err
	}
	var containers []*container
	for range many {
		c, err := t.before()
		if err != nil {
			return err
		}
		containers = append(containers, c)
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	if err := atOnce(containers, t.add); err != nil {
		return err
	}
	seen := map[netip.Addr]bool{}
	for _, c := range containers {
		r, err := parse(c.result, t.version)
		if err != nil {
			return err
		}
		for _, ip := range r.ips {
			if addr := ip.address.Addr(); seen[addr] {
				return fmt.Errorf("two containers have the address %s", addr)
			}
			seen[ip.address.Addr()] = true
		}
	}
	if err := atOnce(containers, func(c *container) error { return t.succeed(t.request("DEL", c)) }); err != nil {
		return err
	}
	return t.back(before)
}

// atOnce runs f for all of them together.
func atOnce(containers []*container, f func(*container) error) error {
	errs := make([]error, len(containers))
	var running sync.WaitGroup
	for i, c := range containers {
		running.Go(func() { errs[i] = f(c) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func addImpossible(t *trial) error {
	var errs []error
	for _, f := range t.failures() {
		c, err := t.before()
		if err != nil {
			return err
		}
		if _, err := t.refuse(f.request(c)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.why, err))
		}
	}
	return errors.Join(errs...)
}

// addFails compares the node before an ADD that fails with the node after it, and, if wanted, after the DEL that
// follows.
func (t *trial) addFails(del bool) error {
	if err := t.warm(); err != nil {
		return err
	}
	return t.eachFailure(func(f failure, c *container, add func() (*answer, error)) error {
		if del && f.why == runtimesOwn {
			return nil // no DEL can tell what is the container's there
		}
		before, err := t.state()
		if err != nil {
			return err
		}
		if _, err := add(); err != nil {
			return err
		}
		if del { // what made ADD fail may be gone by now, as it is for a container that is started again
			err = t.succeed(t.request("DEL", c))
		}
		return errors.Join(err, t.back(before))
	})
}
