package routing_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/nettest"
	"underlay-cni/routing"
)

// absences are all absences that the package has, each of something on a namespace's interface x that thing makes.
func absences(n *routing.Namespace, f family) map[string]struct {
	thing  string
	absent change
} {
	dev := n.Link("x")
	dev.Index() //nolint:errcheck // known before the kernel is deaf; Verify asks again where it has to
	type one = struct {
		thing  string
		absent change
	}
	rule := &routing.Rule{NS: n, V6: f.v6, Pref: 700, Iif: "x", Table: n.Table(77)}
	return map[string]one{
		"NoLink":    {"true", &routing.NoLink{Link: n.Link("x"), Owner: routing.Owner{Group: 0}}},
		"NoAltName": {"ip link property add dev x altname other", &routing.NoAltName{AltName: &routing.AltName{Link: dev, Name: "other"}}},
		"NoNeigh": {
			"ip neigh add " + f.gw.String() + " lladdr 02:00:00:00:00:09 dev x",
			&routing.NoNeigh{Neigh: &routing.Neigh{Addr: f.gw, Dev: dev}},
		},
		"NoRoute": {f.ip + " route add " + f.away.String() + " dev x table 77", &routing.NoRoute{Route: &routing.Route{Table: n.Table(77), Dst: f.away, Dev: dev}}},
		"NoRule":  {f.ip + " rule add pref 700 iif x lookup 77 protocol kernel", &routing.NoRule{Rule: rule}},
		"NoIif":   {f.ip + " rule add pref 700 iif x lookup 77", &routing.NoIif{NS: n, Pref: 700, Iif: "x"}},
	}
}

// TestTrust14Absences: what is to be gone is gone when the kernel has been asked and has said so: it is not gone because
// the kernel does not answer, neither when it is looked for nor when it is deleted; and it is there as long as it is there.
func TestTrust14Absences(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		for _, name := range absenceTypes(t) {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "ip link add x type veth peer name y; ip link set x up; ip link set y up")
				a, known := absences(w.node, f)[name]
				if !known {
					t.Fatalf("%s: an absence that this test does not know", name)
				}
				if err := a.absent.Verify(); (err == nil) != (name != "NoLink") {
					t.Errorf("Verify before there was anything: %v", err)
				}
				w.sh(t, a.thing)
				if a.absent.Verify() == nil {
					t.Error("Verify says that it is gone, and it is there")
				}
				var err error
				powerless(t, func() { err = a.absent.Apply() })
				if !errors.Is(err, unix.EPERM) {
					t.Errorf("Apply without CAP_NET_ADMIN: %v", err)
				}

				w.node.Deafen()
				if err := a.absent.Verify(); !errors.Is(err, unix.EBADF) {
					t.Errorf("Verify where the kernel does not answer: %v", err)
				}
				if err := a.absent.Apply(); !errors.Is(err, unix.EBADF) {
					t.Errorf("Apply where the kernel does not answer: %v", err)
				}
			})
		}
	}
}

// TestTrust14Gone: what has gone, by itself or with its interface, is gone.
func TestTrust14Gone(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		for _, name := range absenceTypes(t) {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "ip link add x type veth peer name y; ip link set x up; ip link set y up")
				a := absences(w.node, f)[name]
				w.sh(t, a.thing)
				must(t, a.absent.Apply())
				must(t, a.absent.Verify())
				must(t, a.absent.Apply())
				w.sh(t, "ip link del x 2>/dev/null || true")
				must(t, absences(w.node, f)[name].absent.Verify())
				must(t, absences(w.node, f)[name].absent.Apply())
			})
		}
	}
}

// absenceTypes are the names of the package's types that say of something that it is not there.
func absenceTypes(t *testing.T) []string {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), ".", func(i fs.FileInfo) bool { return !strings.HasSuffix(i.Name(), "_test.go") }, 0) //nolint:staticcheck // one package, no build tags
	must(t, err)
	names := map[string]bool{}
	for _, file := range packages["routing"].Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && len(spec.Name.Name) > 2 && strings.HasPrefix(spec.Name.Name, "No") && ast.IsExported(spec.Name.Name[2:]) {
				names[spec.Name.Name] = true
			}
			return true
		})
	}
	if len(names) < 6 {
		t.Fatalf("only %d absences have been found: %v", len(names), names)
	}
	return slices.Sorted(maps.Keys(names))
}

// powerless runs f on a thread without capabilities, which dies with it.
func powerless(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		var none [2]unix.CapUserData
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	must(t, <-done)
}

// TestTrust14Rest: the package's other questions to the kernel answer neither "no" nor "nothing" where it does not answer.
func TestTrust14Rest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ip link add x type veth peer name y; ip link set x up")
	n, dev := w.node, w.node.Link("x")
	_, err := dev.Index()
	must(t, err)
	n.Deafen()
	for name, ask := range map[string]func() error{
		"Addresses":   func() error { _, err := n.Addresses(dev); return err },
		"IsLocal":     func() error { _, err := n.IsLocal(netip.MustParseAddr("10.0.0.1")); return err },
		"IsLocal6":    func() error { _, err := n.IsLocal(netip.MustParseAddr("fd20::1")); return err },
		"LinkNamed":   func() error { _, err := n.LinkNamed("z"); return err },
		"LinkAt":      func() error { _, err := n.LinkAt(1); return err },
		"Links":       func() error { _, err := n.Links(nil); return err },
		"Routes":      func() error { _, err := n.Routes(dev); return err },
		"RoutesIn":    func() error { _, err := n.RoutesIn(77); return err },
		"HasDefault":  func() error { _, err := n.HasDefault(false); return err },
		"Used":        func() error { _, err := n.Used(77); return err },
		"Rules":       func() error { _, err := n.Rules(); return err },
		"Iifs":        func() error { _, err := n.Iifs(1); return err },
		"Froms":       func() error { _, err := n.Froms(1); return err },
		"Prefs":       func() error { _, err := n.Prefs(1); return err },
		"HasIif":      func() error { _, err := n.HasIif(false, 1, "x"); return err },
		"SourceTo":    func() error { _, err := n.SourceTo(netip.MustParseAddr("10.0.0.1")); return err },
		"Found":       func() error { _, err := (&routing.Neigh{Addr: families[0].gw, Dev: dev}).Found(); return err },
		"Find":        func() error { return n.DeviceTable(1000, dev).Find(1) },
		"SpareRoute":  (&routing.SpareRoute{Route: &routing.Route{Table: n.Table(77), Dst: families[0].away, Dev: dev}}).Apply,
		"There route": (&routing.Route{Table: n.Table(77), Dst: families[0].away, Dev: dev, There: true}).Apply,
		"There neigh": (&routing.Neigh{Addr: families[0].gw, Dev: dev, MAC: hostMAC, There: true}).Apply,
	} {
		if err := ask(); !errors.Is(err, unix.EBADF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.HasSysctl("net/ipv4/conf/x/none"); err != nil {
		t.Errorf("HasSysctl of a key that is not there: %v", err)
	}
	// A namespace that is there is one, whatever its path says, and nothing else is.
	if _, err := n.Open("/proc/self/ns/uts"); !errors.Is(err, routing.ErrNoNamespace) {
		t.Errorf("Open of a namespace of another kind: %v", err)
	}
	path, _ := nettest.Namespace(t)
	again, err := n.Open(path)
	must(t, err)
	again.Close()
}
