package conformance

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// flags are described in the package's documentation.
var flags = struct {
	plugin, conf, typ, before, path, node, first, second, report *string
	strict                                                       *bool
}{
	plugin: flag.String("plugin", "", "the `binary` under test; without one the suite tests the plugins of this project, those of the CNI project, and itself"),
	conf:   flag.String("conf", "", "a `file` with the conflist that the plugin is in, or with its configuration alone"),
	typ:    flag.String("type", "", "the `type` of the plugin in -conf, where that is not the name of the binary"),
	before: flag.String("before", "", "a `file` with what makes the prevResult and comes in front of -conf; \"bridge\" for DefaultBefore"),
	path:   flag.String("path", "", "`directories` of CNI_PATH, with colons between, behind the plugin's own, .tools and /opt/cni/bin"),
	node:   flag.String("node", "", "a `script` for sh that prepares each node"),
	first:  flag.String("first", "", "a `file` with the network of the containers' eth0, where the plugin makes net1"),
	second: flag.String("second", "", "a `file` with the other network of the callers' containers"),
	strict: flag.Bool("strict", false, "what a plugin should do, and does not, is a failure too"),
	report: flag.String("report", "", "a `file` for the verdicts, as a table in Markdown"),
}

func TestMain(m *testing.M) {
	if mode, ok := strings.CutPrefix(filepath.Base(os.Args[0]), brokenPrefix); ok {
		os.Exit(broken(mode))
	}
	flag.Parse()
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		os.Exit(1)
	}
	// Rows wait for the kernel most of the time.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		if err := parallel.Value.Set(fmt.Sprint(4 * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// module is the root of the module, to which the files of flags are relative.
const module = "../.."

func inModule(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(module, file)
}

// plugins and tools are where the lab has them.
func plugins() string { return cmp.Or(os.Getenv("LAB_PLUGINS"), "bin") }
func tools() string   { return cmp.Or(os.Getenv("LAB_TOOLS"), ".tools") }

// readConf reads a configuration; no file is none.
func readConf(t *testing.T, file string) *lab.Conflist {
	t.Helper()
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(inModule(file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConf(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// newSubject finds the plugin, and the others where this project and its users have them.
func newSubject(t *testing.T, binary, typ string, list, before *lab.Conflist) *Subject {
	t.Helper()
	s, err := NewSubject(inModule(binary), typ, list, before)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{tools(), "/opt/cni/bin"} {
		found, err := filepath.Abs(inModule(dir))
		if err != nil {
			t.Fatal(err)
		}
		s.Dirs = append(s.Dirs, found)
	}
	return s
}

// TestPlugin is the suite for the plugin that the flags name.
func TestPlugin(t *testing.T) {
	if *flags.plugin == "" {
		t.Skip("no -plugin: the other tests do without")
	}
	if *flags.conf == "" {
		t.Fatal("-conf is missing; accepted: a file with the conflist that the plugin is in, or with its configuration")
	}
	var before *lab.Conflist
	var err error
	if *flags.before == "bridge" {
		before, err = ParseConf([]byte(DefaultBefore))
	} else {
		before = readConf(t, *flags.before)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSubject(t, *flags.plugin, *flags.typ, readConf(t, *flags.conf), before)
	s.First, s.Second = readConf(t, *flags.first), readConf(t, *flags.second)
	if *flags.path != "" {
		for dir := range strings.SplitSeq(*flags.path, ":") {
			s.Dirs = append(s.Dirs, inModule(dir))
		}
	}
	if *flags.node != "" {
		script, err := os.ReadFile(inModule(*flags.node))
		if err != nil {
			t.Fatal(err)
		}
		s.Node = string(script)
	}
	suite, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	rows := Rows()
	verdicts := make([]Verdict, len(rows))
	t.Run("rows", func(t *testing.T) {
		for i, row := range rows {
			t.Run(row.Name, func(t *testing.T) {
				t.Parallel()
				v := suite.Run(row)
				verdicts[i] = v
				said := fmt.Sprintf("%s (%s), %s\n%s", v.Outcome, row.Level, v.Reason, row.Spec)
				switch {
				case v.Outcome == Failed, v.Outcome == Noted && *flags.strict:
					t.Error(said)
				case v.Outcome != Passed:
					t.Skip(said)
				}
			})
		}
	})
	if text := Report(rows, verdicts); *flags.report != "" {
		if err := os.WriteFile(inModule(*flags.report), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSubjects is the suite for the plugins of this project and of the CNI project. What is known of them is listed; a
// row whose verdict is another one fails, be it better or worse.
func TestSubjects(t *testing.T) {
	if *flags.plugin != "" {
		t.Skip("-plugin asks for another one")
	}
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			suite, err := New(s.subject(t))
			if err != nil {
				t.Fatal(err)
			}
			known := s.verdicts()
			unknown := maps.Clone(known)
			for _, row := range Rows() {
				delete(unknown, row.Name)
				if version := path.Base(row.Name); s.reference && slices.Contains(Versions, version) && !slices.Contains(ends, version) {
					continue
				}
				t.Run(row.Name, func(t *testing.T) {
					t.Parallel()
					v, known := suite.Run(row), known[row.Name]
					switch {
					case v.Outcome == Skipped && known.outcome == "":
						t.Log(v.Reason)
					case v.Outcome != cmp.Or(known.outcome, Passed):
						t.Errorf("%s, known is %q %s: %s\n%s", v.Outcome, known.outcome, known.why, v.Reason, row.Spec)
					case v.Outcome != Passed:
						t.Logf("%s: %s", v.Outcome, known.why)
					}
				})
			}
			for row := range unknown {
				t.Errorf("there is no row %s", row)
			}
		})
	}
}
