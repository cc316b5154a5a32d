package plugin

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"underlay-cni/firewall"
)

// A Change is one line of ip(8), sysctl(8), nft(8) or iptables(8).
type Change interface {
	// String is that line: "ip rule add pref 1024 iif vetha0e043dd lookup 596".
	String() string
	// Apply makes it so. It succeeds, and changes nothing, if it is so already.
	Apply() error
	// Verify tells whether it is so: nil, or what is different.
	Verify() error
	// Revert takes back what Apply did. It succeeds if that is already gone, and if Apply did nothing.
	Revert() error
}

// A Plan is what a request does to the kernel, in the order in which the kernel gets it.
type Plan struct {
	changes []Change
	applied int
	needs   map[int][]Change // of AddAfter, by the place in changes
	then    []func() error
}

// Add appends changes.
func (p *Plan) Add(changes ...Change) { p.changes = append(p.changes, changes...) }

// AddAfter appends a change that ApplyAll leaves out if it could not make all of some others: it takes away that by which
// the next request finds what they have left.
func (p *Plan) AddAfter(c Change, others ...Change) {
	if p.needs == nil {
		p.needs = make(map[int][]Change)
	}
	p.needs[len(p.changes)] = others
	p.Add(c)
}

// Changes are the changes in that order, for who wants to look at each. They belong to the plan.
func (p *Plan) Changes() []Change { return p.changes }

// Then has f run after everything has been applied, for what leaves no state behind and therefore is no
// change. It cannot fail the request.
func (p *Plan) Then(f func() error) { p.then = append(p.then, f) }

// String is a script that does the same by hand.
func (p *Plan) String() string {
	var s strings.Builder
	for _, c := range p.changes {
		s.WriteString(c.String())
		s.WriteByte('\n')
	}
	return s.String()
}

// apply makes every change, in order. When one fails, it takes back that one and those before it, in
// reverse; the error says what failed, how much was undone and what could not be.
func (p *Plan) apply(log *slog.Logger) error {
	for i, c := range p.changes {
		p.applied = i + 1
		err := c.Apply()
		logChange(log, "change", c, err)
		if err != nil {
			details := "undone: all that this request had done; what the network's pods share stays"
			if undo := p.revert(log); undo != nil {
				details = "could not be undone: " + undo.Error()
			}
			return types.NewError(codeOf(c, err), fmt.Sprintf("%s: %v", firstLine(c), err), details)
		}
	}
	for _, f := range p.then {
		if err := f(); err != nil {
			log.Warn("afterwards", "error", err.Error())
		}
	}
	return nil
}

// revert takes back what apply did, in reverse order, to the end whatever fails.
func (p *Plan) revert(log *slog.Logger) error {
	var errs []error
	for ; p.applied > 0; p.applied-- {
		c := p.changes[p.applied-1]
		err := c.Revert()
		logChange(log, "undo", c, err)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", firstLine(c), err))
		}
	}
	return errors.Join(errs...)
}

// ApplyAll makes every change, to the end whatever fails: the way to remove things. The error has all that failed. A
// nil plan is empty.
func (p *Plan) ApplyAll() error { return p.applyAll(slog.New(slog.DiscardHandler)) }

// applyAll is ApplyAll with a log.
func (p *Plan) applyAll(log *slog.Logger) error {
	if p == nil {
		return nil
	}
	var first Change
	var errs []error
	var failed []Change
	for i, c := range p.changes {
		if slices.ContainsFunc(p.needs[i], func(other Change) bool { return slices.Contains(failed, other) }) {
			failed = append(failed, c)
			continue
		}
		err := c.Apply()
		logChange(log, "change", c, err)
		if err != nil {
			failed = append(failed, c)
			if first == nil {
				first = c
			}
			errs = append(errs, fmt.Errorf("%s: %w", firstLine(c), err))
		}
	}
	if first == nil {
		return nil
	}
	return types.NewError(codeOf(first, errs[0]), errors.Join(errs...).Error(), "")
}

// Verify compares every change with the kernel and reports all differences in one error.
func (p *Plan) Verify() error {
	var diffs []string
	var code uint = CodeCheck
	for _, c := range p.changes {
		if err := c.Verify(); err != nil {
			diffs = append(diffs, err.Error())
			if errors.Is(err, firewall.ErrBusy) { // nobody knows, then
				code = CodeTryAgain
			}
		}
	}
	if len(diffs) == 0 {
		return nil
	}
	return types.NewError(code, fmt.Sprintf("the kernel differs in %d of %d: %s", len(diffs), len(p.changes), strings.Join(diffs, "; ")), "")
}

// firstLine names a change in an error.
func firstLine(c Change) string {
	line, _, _ := strings.Cut(c.String(), "\n")
	return line
}
