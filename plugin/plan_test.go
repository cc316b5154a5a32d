package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/routing"
)

var noLog = slog.New(slog.DiscardHandler)

// A step is a change of nothing, that writes down what is done with it.
type step struct {
	name                  string
	done                  *[]string
	apply, verify, revert error
}

func (s *step) String() string { return "ip do " + s.name + "\nand more" }

// Backend makes it one of package firewall, so that it has a code.
func (s *step) Backend() string { return "none" }

func (s *step) note(verb string, err error) error {
	*s.done = append(*s.done, verb+" "+s.name)
	return err
}

func (s *step) Apply() error  { return s.note("apply", s.apply) }
func (s *step) Verify() error { return s.note("verify", s.verify) }
func (s *step) Revert() error { return s.note("revert", s.revert) }

// steps makes a plan of them, and the list of what will be done.
func steps(all ...*step) (*Plan, *[]string) {
	p, done := new(Plan), new([]string)
	for _, s := range all {
		s.done = done
		p.Add(s)
	}
	return p, done
}

func cniError(t *testing.T, err error) *types.Error {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) {
		t.Fatalf("no CNI error: %v", err)
	}
	return e
}

func TestPlanApply(t *testing.T) {
	const undone = "undone: all that this request had done; what the network's pods share stays"
	boom, stuck := errors.New("boom"), errors.New("stuck")
	for _, test := range []struct {
		name         string
		steps        []*step
		done         string
		msg, details string
	}{
		{"nothing", nil, "", "", ""},
		{"all", []*step{{name: "a"}, {name: "b"}, {name: "c"}}, "apply a, apply b, apply c, then", "", ""},
		{"the first fails", []*step{{name: "a", apply: boom}, {name: "b"}}, "apply a, revert a", "ip do a: boom", undone},
		{
			"the last fails",
			[]*step{{name: "a"}, {name: "b"}, {name: "c", apply: boom}},
			"apply a, apply b, apply c, revert c, revert b, revert a", "ip do c: boom", undone,
		},
		{
			"one in the middle fails, and one cannot be undone",
			[]*step{{name: "a"}, {name: "b", revert: stuck}, {name: "c", apply: boom}, {name: "d"}},
			"apply a, apply b, apply c, revert c, revert b, revert a", "ip do c: boom", "could not be undone: ip do b: stuck",
		},
		{
			"none can be undone",
			[]*step{{name: "a", revert: stuck}, {name: "b", apply: boom, revert: stuck}},
			"apply a, apply b, revert b, revert a", "ip do b: boom", "could not be undone: ip do b: stuck\nip do a: stuck",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, done := steps(test.steps...)
			if test.steps != nil {
				p.Then(func() error { *done = append(*done, "then"); return boom }) // which fails nothing
			}
			err := p.apply(noLog)
			if got := strings.Join(*done, ", "); got != test.done {
				t.Errorf("done: %s\nwant: %s", got, test.done)
			}
			if test.msg == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if d := cmp.Diff(&types.Error{Code: CodeFirewall, Msg: test.msg, Details: test.details}, cniError(t, err)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			*done = nil
			if err := p.revert(noLog); err != nil || len(*done) > 0 {
				t.Errorf("Revert after it: %v, %v", err, *done)
			}
		})
	}
}

func TestPlanRevert(t *testing.T) {
	stuck := errors.New("stuck")
	p, done := steps(&step{name: "a"}, &step{name: "b", revert: stuck}, &step{name: "c"})
	if err := p.revert(noLog); err != nil || len(*done) > 0 {
		t.Errorf("before Apply: %v, %v", err, *done)
	}
	if err := p.apply(noLog); err != nil {
		t.Fatal(err)
	}
	*done = nil
	if err := p.revert(noLog); !errors.Is(err, stuck) || err.Error() != "ip do b: stuck" {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(*done, ", "); got != "revert c, revert b, revert a" {
		t.Errorf("done: %s", got)
	}
}

// TestPlanApplyAll: removals go on whatever fails.
func TestPlanApplyAll(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	p, done := steps(&step{name: "a"}, &step{name: "b", apply: errors.New("boom")}, &step{name: "c"}, &step{name: "d", apply: errors.New("bang")}, &step{name: "e"})
	err := p.applyAll(log)
	if got := strings.Join(*done, ", "); got != "apply a, apply b, apply c, apply d, apply e" {
		t.Errorf("done: %s", got)
	}
	if d := cmp.Diff(&types.Error{Code: CodeFirewall, Msg: "ip do b: boom\nip do d: bang"}, cniError(t, err)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	p, _ = steps(&step{name: "a"})
	for name, p := range map[string]*Plan{"all well": p, "empty": new(Plan), "none": nil} {
		if err := p.applyAll(log); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPlanAddAfter: what others are found by stays where one of them could not be taken away, and so does what that is found
// by; all else goes.
func TestPlanAddAfter(t *testing.T) {
	p, done := steps(&step{name: "a"}, &step{name: "b", apply: errors.New("boom")}, &step{name: "c"})
	changes := p.Changes()
	ofA, ofB := &step{name: "name of a", done: done}, &step{name: "name of b", done: done}
	p.AddAfter(ofA, changes[0])
	p.AddAfter(ofB, changes[1], changes[2])
	p.AddAfter(&step{name: "name of all", done: done}, ofA, ofB)
	if err := p.applyAll(slog.New(slog.DiscardHandler)); err == nil || err.Error() != "ip do b: boom" {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(*done, ", "); got != "apply a, apply b, apply c, apply name of a" {
		t.Errorf("done: %s", got)
	}
}

func TestPlanVerify(t *testing.T) {
	p, done := steps(&step{name: "a"}, &step{name: "b", verify: errors.New("b is not so")}, &step{name: "c"}, &step{name: "d", verify: errors.New("nor is d")})
	err := p.Verify()
	if d := cmp.Diff(&types.Error{Code: CodeCheck, Msg: "the kernel differs in 2 of 4: b is not so; nor is d"}, cniError(t, err)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := strings.Join(*done, ", "); got != "verify a, verify b, verify c, verify d" {
		t.Errorf("done: %s", got)
	}
	p, _ = steps(&step{name: "a"})
	if err := p.Verify(); err != nil {
		t.Error(err)
	}
}

func TestPlanString(t *testing.T) {
	p, _ := steps(&step{name: "a"}, &step{name: "b"})
	if got := p.String(); got != "ip do a\nand more\nip do b\nand more\n" {
		t.Errorf("got %q", got)
	}
}

// TestPlanLog: a line a change, at debug only.
func TestPlanLog(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelInfo:  "",
		slog.LevelDebug: "level=DEBUG msg=change line=\"ip do a\"\nlevel=DEBUG msg=change line=\"ip do b\" error=boom\nlevel=DEBUG msg=undo line=\"ip do b\"\nlevel=DEBUG msg=undo line=\"ip do a\"\n",
	} {
		var log bytes.Buffer
		p, _ := steps(&step{name: "a"}, &step{name: "b", apply: errors.New("boom")}, &step{name: "c"})
		noTime := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		if err := p.apply(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level, ReplaceAttr: noTime}))); err == nil {
			t.Error("no error")
		}
		if d := cmp.Diff(want, log.String()); d != "" {
			t.Errorf("level %s (-want +got)\n%s", level, d)
		}
	}
}

// TestCodes: each kind of change has a code of its own.
func TestCodes(t *testing.T) {
	for code, changes := range map[uint][]Change{
		CodeLink:     {&routing.LinkMAC{}},
		CodeVeth:     {&routing.Veth{}, &routing.LinkUp{}, &routing.NoLink{}},
		CodeRoute:    {&routing.Route{}, &routing.NoRoute{}, &routing.SpareRoute{}, &routing.Source{}},
		CodeRule:     {&routing.Rule{}, &routing.NoRule{}, &routing.NoIif{}},
		CodeNeigh:    {&routing.Neigh{}},
		CodeSysctl:   {&routing.Sysctls{}, &routing.InetConf{}},
		CodeFirewall: {&step{}},
		CodePanic:    {funcChange(nil)}, // nobody has given it a code
	} {
		for _, c := range changes {
			if got := codeOf(c, errors.New("boom")); got != code {
				t.Errorf("%T: %d, want %d", c, got, code)
			}
			if got := codeOf(c, fmt.Errorf("act: %w", firewall.ErrChanging)); got != CodeTryAgain {
				t.Errorf("%T, for a moment: %d", c, got)
			}
		}
	}
}

func TestToCNI(t *testing.T) {
	key := &conflist.KeyError{Key: "mtu", Value: "1", Problem: "out of range"}
	coded := types.NewError(CodeNetns, "no netns", "details")
	for _, test := range []struct {
		name string
		err  error
		want types.Error
	}{
		{"a CNI error", coded, *coded},
		{"a CNI error, joined with nothing", errors.Join(nil, coded), *coded},
		{"a CNI error in another", fmt.Errorf("act: %w", coded), types.Error{Code: CodeNetns, Msg: "act: no netns; details"}},
		{"of a key", key, types.Error{Code: CodeConfig, Msg: "mtu: 1: out of range"}},
		{"of several keys", errors.Join(key, key), types.Error{Code: CodeConfig, Msg: "mtu: 1: out of range\nmtu: 1: out of range"}},
		{"of a moment", fmt.Errorf("list: %w", routing.ErrInterrupted), types.Error{Code: CodeTryAgain, Msg: "list: dump interrupted"}},
		{"of a timeout", fmt.Errorf("wait: %w", unix.EAGAIN), types.Error{Code: CodeTryAgain, Msg: "wait: resource temporarily unavailable"}},
		{"any other", errors.New("boom"), types.Error{Code: types.ErrIOFailure, Msg: "boom"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := cmp.Diff(&test.want, toCNI(test.err)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// TestQuiet: containerd takes an error of a DEL that holds the words for success, and the address leaks.
func TestQuiet(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"other words", errors.New("boom"), "boom"},
		{"the words", errors.New("Link not found"), "Link missing"},
		{"the words in details", types.NewError(CodeVeth, "boom", "route not found, rule not found"), "boom; route missing, rule missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if err := quiet(test.err); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"short", "boom"},
		{"just so", strings.Repeat("x", 500)},
		{"one too many", strings.Repeat("x", 501)},
		{"long", strings.Repeat("begin ", 100) + strings.Repeat(" end", 100)},
		{"long, of more than ASCII", strings.Repeat("ä…", 1000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := shorten(test.text, 500)
			switch {
			case len(got) > 500:
				t.Errorf("%d bytes", len(got))
			case len(test.text) <= 500 && got != test.text:
				t.Errorf("got %q", got)
			case strings.ToValidUTF8(got, "") != got:
				t.Errorf("not UTF-8: %q", got)
			}
			if begin, end, cut := strings.Cut(got, " … "); cut && (!strings.HasPrefix(test.text, begin) || !strings.HasSuffix(test.text, end)) {
				t.Errorf("got %q", got)
			}
		})
	}
}
