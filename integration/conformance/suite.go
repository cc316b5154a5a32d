package conformance

import (
	"errors"
	"fmt"
	"slices"

	"underlay-cni/integration/lab"
)

// A Level is how strongly the specification asks for a row.
type Level string

// The levels, in the words of RFC 2119.
const (
	Must   Level = "must"
	Should Level = "should"
	May    Level = "may" // whatever the plugin does conforms; the report says what it does
)

// A Row is one requirement of the specification, or one caller whose behaviour is replayed.
type Row struct {
	Name  string // operation/what, with the version where it is one row a version
	Level Level
	Spec  string // what the specification says, nearly in its words

	run  func(*trial) error
	bare bool // the node is not prepared
}

// A Verdict is what came of a row.
type Verdict struct {
	Outcome Outcome
	Reason  string // what is wrong, or why the row does not apply; empty if the row passed
}

// An Outcome is the short form of a verdict.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"         // a must is not met
	Noted   Outcome = "noted"          // a should, or something optional, is not met
	Skipped Outcome = "does not apply" // to this plugin, or in this version
)

// A Suite is a plugin with the answers that all rows need.
type Suite struct {
	*Subject
	versions []string // those in which the plugin and all before it can be asked for an ADD, oldest first
}

// Versions are the releases of the specification, oldest first.
var Versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// New asks the plugins of the subject for their versions. One that gives no good answer is taken at the word of the
// configuration, and fails the rows of VERSION.
func New(s *Subject) (*Suite, error) {
	suite := &Suite{Subject: s, versions: Versions}
	node, err := lab.NewNode(lab.Options{})
	if err != nil {
		return nil, err
	}
	defer node.Close()
	t := &trial{Suite: suite, node: node}
	for i := range s.Index + 1 {
		lists, err := t.listed(i)
		if i == s.Index && err != nil {
			lists = s.configured()
		} else if err != nil {
			return nil, fmt.Errorf("plugin %s, which comes before %s: %w", s.typeOf(i), s.typeOf(s.Index), err)
		}
		suite.versions = slices.DeleteFunc(slices.Clone(suite.versions), func(v string) bool { return !slices.Contains(lists, v) })
	}
	if len(suite.versions) == 0 {
		return nil, fmt.Errorf("the plugins up to %s have no version of the specification in common: there are %v", s.typeOf(s.Index), Versions)
	}
	return suite, nil
}

// newest is the version in which rows are run that are not about versions.
func (s *Suite) newest() string { return s.versions[len(s.versions)-1] }

// Run runs one row, on a node of its own.
func (s *Suite) Run(r Row) Verdict {
	t := &trial{Suite: s, row: r, version: s.newest()}
	err := t.prepare()
	if err == nil {
		err = r.run(t)
	} else {
		err = fmt.Errorf("prepare the node: %w", err)
	}
	if closeErr := t.close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", closeErr))
	}
	if skip := inapplicable(""); errors.As(err, &skip) {
		return Verdict{Skipped, string(skip)}
	}
	var notes error
	for _, note := range t.notes {
		notes = errors.Join(notes, note)
	}
	switch {
	case err != nil && r.Level == Must:
		return Verdict{Failed, errors.Join(err, notes).Error()}
	case err != nil || notes != nil:
		return Verdict{Noted, errors.Join(err, notes).Error()}
	default:
		return Verdict{Outcome: Passed}
	}
}

// inapplicable is the reason why a row is skipped.
type inapplicable string

func (i inapplicable) Error() string { return string(i) }

// Rows are all of them, in the order of a report.
func Rows() []Row {
	return slices.Concat(versionRows(), inputRows(), errorRows(), addRows(), resultRows(), checkRows(), delRows(), gcRows(), statusRows(), callerRows())
}
