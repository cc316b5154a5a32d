package firewall

import "fmt"

// A Repairer is a rule set that can do more than Apply: an ADD asks whether its rules are there, and does not ask what
// has become of what is around them, which takes longer. Every Change of a Firewall is one.
type Repairer interface {
	Change
	// Repair makes Verify succeed. It changes nothing where it does already.
	Repair() error
}

// Choose makes the choice of the backend auto, which Verify and Apply make too, and by which String and Backend go. A rule set of
// any other backend has none to make.
func Choose(c Change) {
	if e, ok := c.(*either); ok && e.auto.chosen == nil {
		_ = e.Verify()
	}
}

// Repair repairs the rule set of the backend that the kernel can do.
func (e *either) Repair() error {
	if e.Verify() == nil { // which chooses
		return nil
	}
	if r, ok := e.change().(Repairer); ok {
		return r.Repair()
	}
	return e.Apply()
}

// Repair writes the rules again if they differ, sweeps what other backends have left, and lets the packets of pods pass
// a policy of DROP that has come since.
func (s *swept) Repair() error {
	if s.Change.Verify() != nil {
		r, ok := s.Change.(interface{ rewrite() error })
		if !ok {
			return s.Apply()
		}
		if err := r.rewrite(); err != nil {
			return err
		}
	}
	return s.left.settle(true)
}

// rewrite puts a new table in the place of the one that is there, in one transaction.
func (t *table) rewrite() error {
	c, err := connect(t.ns)
	if err != nil {
		return err
	}
	defer c.close()
	var tx transaction
	tx.addTable(t.netlink(), 0) // so that there is one to delete
	tx.deleteTable(t.netlink())
	t.queue(&tx)
	return tx.commit(c)
}

// rewrite turns what is there into what should be, in one transaction for each table of a family.
func (s *ruleset) rewrite() error {
	if s.refuse != nil {
		return s.refuse
	}
	return s.each(func(h *half) error {
		var err error
		for range attempts {
			found, observeErr := h.observe()
			if observeErr != nil {
				return observeErr
			}
			if !h.differs(found) && !found.empty() {
				return nil
			}
			if err = h.tool.restore(h.ns, h.transaction(found)); err == nil || !refused(err) {
				return err
			}
		}
		return fmt.Errorf("%s: chains %s-*: %w: %w", h.tool, podChains, ErrChanging, err)
	})
}
