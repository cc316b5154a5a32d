package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"underlay-cni/integration/lab"
)

// beside is a container that only the plugins before have been at, on a node that has another one already, and the
// state of that node.
func (t *trial) beside() (*container, lab.Dump, error) {
	if err := t.warm(); err != nil {
		return nil, nil, err
	}
	c, err := t.before()
	if err != nil {
		return nil, nil, err
	}
	before, err := t.state()
	return c, before, err
}

// state is what the node's kernel knows, and the names of the files that plugins keep.
func (t *trial) state() (lab.Dump, error) {
	dump, err := t.node.Dump()
	if err != nil {
		return nil, err
	}
	files, err := t.node.Run("sh", "-c", "find /run /var/lib/cni -type f 2>/dev/null || :")
	if err != nil {
		return nil, fmt.Errorf("list the files of plugins: %w", err)
	}
	for i, line := range dump {
		dump[i] = passing.Replace(line)
	}
	for _, name := range slices.Sorted(strings.Lines(files)) {
		dump = append(dump, "file "+strings.TrimSpace(name))
	}
	return dump, nil
}

// passing are the words for what comes and goes by itself: the carrier of a bridge, duplicate address detection.
var passing = strings.NewReplacer(" linkdown", "", " tentative", "", " dadfailed", "")

// back waits until the node is as it was.
func (t *trial) back(was lab.Dump) error { return returns("the node", was, t.state) }

// returns waits until a machine is as it was: the kernel takes its time with what was in a namespace that is gone.
func returns(machine string, was lab.Dump, dump func() (lab.Dump, error)) error {
	var left, lost lab.Dump
	for pause, spent := 20*time.Millisecond, time.Duration(0); ; pause, spent = 2*pause, spent+pause {
		is, err := dump()
		if err != nil {
			return err
		}
		left, lost = is.Since(was), was.Since(is)
		if len(left)+len(lost) == 0 {
			return nil
		}
		if spent > lab.Patience {
			break
		}
		<-time.After(pause)
	}
	var errs []error
	if len(left) > 0 {
		errs = append(errs, fmt.Errorf("%s has what it had not before:\n%s", machine, left))
	}
	if len(lost) > 0 {
		errs = append(errs, fmt.Errorf("%s has lost:\n%s", machine, lost))
	}
	return errors.Join(errs...)
}
