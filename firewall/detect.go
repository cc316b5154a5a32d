package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// An auto firewall is nftables where the kernel can do what its rules need, and iptables elsewhere. It asks nothing
// beforehand: rules that are there are proof, and where there are none, writing them tells. What the kernel can do does
// not change while it runs, so every process on a node chooses the same.
type auto struct {
	nft, ipt Firewall
	chosen   Firewall // nil: not yet
}

func (a *auto) Node(ns Namespace, n Node) Change {
	return &either{auto: a, nft: a.nft.Node(ns, n), ipt: a.ipt.Node(ns, n)}
}

func (a *auto) Pod(ns Namespace, p Pod) Change {
	return &either{auto: a, nft: a.nft.Pod(ns, p), ipt: a.ipt.Pod(ns, p)}
}

// Probe tells whether any backend works. The error says what was tried.
func (a *auto) Probe(ns Namespace) error {
	err := a.nft.Probe(ns)
	if err == nil {
		return nil
	}
	return tried(err, a.ipt.Probe(ns))
}

// tried is the error of both backends, nil if the second works.
func tried(nft, ipt error) error {
	if ipt == nil {
		return nil
	}
	return fmt.Errorf("%w: tried nftables: %w; tried iptables: %w", ErrUnavailable, nft, ipt)
}

// An either is a rule set of whichever backend the kernel can do.
type either struct {
	auto     *auto
	nft, ipt Change
}

func (e *either) change() Change {
	if e.auto.chosen == e.auto.ipt {
		return e.ipt
	}
	return e.nft
}

func (e *either) String() string { return e.change().String() }

// Backend is that of the choice; before it is made, nftables.
func (e *either) Backend() string { return e.change().Backend() }

// Apply makes the choice, unless an earlier rule set has.
func (e *either) Apply() error {
	if e.auto.chosen != nil {
		return e.change().Apply()
	}
	err := e.nft.Apply()
	if !unsupported(err) {
		e.auto.chosen = e.auto.nft
		return err
	}
	e.auto.chosen = e.auto.ipt
	return tried(err, e.ipt.Apply())
}

// Verify makes the choice too: rules of nftables that are there are proof that it works, and where they are not, the
// kernel is asked.
func (e *either) Verify() error {
	if e.auto.chosen != nil {
		return e.change().Verify()
	}
	err := e.nft.Verify()
	if err != nil && (unsupported(err) || unsupported((nftBackend{}).try())) {
		e.auto.chosen = e.auto.ipt
		return e.ipt.Verify()
	}
	e.auto.chosen = e.auto.nft
	return err
}

func (e *either) Revert() error { return e.change().Revert() }

// unsupported reports whether the kernel lacks what it was asked for: nfnetlink, nf_tables, a family, a chain type, an
// expression or a key of one. Anything else that goes wrong is no reason to choose another backend.
func unsupported(err error) bool {
	for _, errno := range []unix.Errno{
		unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOPROTOOPT, unix.ENOSYS, unix.EINVAL, unix.ENOENT,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// A sweeping firewall deletes, when it writes a rule set, what another backend holds of it: after a change of the
// configuration or of the kernel nothing of the old one stays.
type sweeping struct {
	backend
	only bool // asked for by name
}

// A backend can say which rule set another one would have left.
type backend interface {
	Firewall
	nodeLeft(Namespace, Node) *leftovers
	podLeft(Namespace, Pod) *leftovers
	nftLeft(table string) string
}

func (s *sweeping) Node(ns Namespace, n Node) Change {
	return &swept{s.backend.Node(ns, n), s.nodeLeft(ns, n), s.only}
}

func (s *sweeping) Pod(ns Namespace, p Pod) Change {
	return &swept{s.backend.Pod(ns, p), s.podLeft(ns, p), s.only}
}

type swept struct {
	Change
	left *leftovers
	only bool
}

// Apply sweeps only if there was something to be written: so it costs nothing where everything is as it should be.
func (s *swept) Apply() error {
	if err := s.Change.Apply(); err != nil {
		if _, nft := s.Change.(*table); nft && s.only && unsupported(err) {
			return fmt.Errorf("%w: firewall: nftables: this kernel cannot do it: %w; accepted: auto or iptables", ErrUnavailable, err)
		}
		return err
	}
	if w, ok := s.Change.(interface{ wrote() bool }); ok && !w.wrote() {
		return nil
	}
	if err := s.left.sweep(true); err != nil {
		return err
	}
	return s.left.open()
}

// Verify tells also whether anything was left behind.
func (s *swept) Verify() error {
	return errors.Join(s.Change.Verify(), s.left.sweep(false), s.left.isOpen())
}

// leftovers are what other backends, or the other variant of iptables, may hold of one rule set.
type leftovers struct {
	ns     Namespace
	node   bool                         // not a pod
	table  string                       // of nftables; "" if that is the backend
	halves func(variant string) []*half // of iptables, in both families
}

func (n nftBackend) nodeLeft(ns Namespace, node Node) *leftovers {
	return &leftovers{ns: ns, node: true, halves: nodeHalves(ns, node)}
}

func (n nftBackend) podLeft(ns Namespace, p Pod) *leftovers {
	return &leftovers{ns: ns, halves: podHalves(ns, p)}
}

func (b iptBackend) nodeLeft(ns Namespace, n Node) *leftovers {
	return &leftovers{ns: ns, node: true, table: podTable + "-" + n.Network, halves: nodeHalves(ns, n)}
}

func (b iptBackend) podLeft(ns Namespace, p Pod) *leftovers {
	return &leftovers{ns: ns, table: podTable, halves: podHalves(ns, p)}
}

func nodeHalves(ns Namespace, n Node) func(string) []*half {
	n.Addr4, n.Addr6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	return func(variant string) []*half { return iptBackend{variant}.node(ns, n).halves }
}

func podHalves(ns Namespace, p Pod) func(string) []*half {
	p.IPv4, p.IPv6 = true, true
	return func(variant string) []*half { return iptBackend{variant}.pod(ns, p).halves }
}

// The variants of iptables, as the names of the programs have them.
const (
	variantNFT    = "-nft"
	variantLegacy = "-legacy"
)

// sweep deletes what was left, or tells that there is something. It starts no process unless there is.
func (l *leftovers) sweep(remove bool) error {
	tables := l.nftTables()
	if _, found := tables[tableKey{nftables.TableFamilyINet, l.table}]; found && l.table != "" {
		if !remove {
			return fmt.Errorf("table inet %s of the nftables backend is still there", l.table)
		}
		if err := (&table{ns: l.ns, name: l.table, added: true}).Revert(); err != nil {
			return fmt.Errorf("delete table inet %s: %w", l.table, err)
		}
	}
	var errs []error
	for i, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		_, nft := tables[tableKey{family, "mangle"}]
		legacy := legacyTable(l.ns, i == 1, "mangle")
		if !nft && !legacy || l.table != "" && (!nft || !legacy) { // the backend's own
			continue
		}
		errs = append(errs, l.sweepFamily(i, remove))
	}
	return errors.Join(errs...)
}

// sweepFamily looks closer at a family where iptables has been used.
func (l *leftovers) sweepFamily(i int, remove bool) error {
	own := ""
	if l.table != "" {
		own = (&tool{v6: i == 1}).ownVariant(l.ns)
	}
	for _, variant := range []string{variantNFT, variantLegacy} {
		if variant == own {
			continue
		}
		h := l.halves(variant)[i]
		if !h.tool.orPlain() {
			continue
		}
		found, err := h.observe()
		switch {
		case errors.Is(err, ErrUnavailable) || err == nil && found[0].empty(): // of filter there may be something, see open
		case err != nil:
			return err
		case !remove:
			return fmt.Errorf("%s -t mangle: chain %s is still there", h.tool, h.tables[0].chains[0].name)
		default:
			if err := h.remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

type tableKey struct {
	family nftables.TableFamily
	name   string
}

// nftTables are the tables of nf_tables, iptables-nft's among them; none where the kernel has none.
func (l *leftovers) nftTables() map[tableKey]bool {
	c, err := connect(l.ns)
	if err != nil {
		return nil
	}
	defer func() { _ = c.CloseLasting() }()
	tables, err := c.ListTables()
	if err != nil {
		return nil
	}
	found := make(map[tableKey]bool, len(tables))
	for _, t := range tables {
		found[tableKey{t.Family, t.Name}] = true
	}
	return found
}

// legacyTable reports whether iptables-legacy has a table in the namespace. Asking iptables-legacy would make one.
func legacyTable(ns Namespace, v6 bool, name string) (found bool) {
	file := "/proc/thread-self/net/ip_tables_names"
	if v6 {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	_ = ns.Do(func() error {
		names, err := os.ReadFile(file)
		for line := range strings.Lines(string(names)) {
			found = found || strings.TrimSpace(line) == name
		}
		return err
	})
	return found
}

// sample is a rule set with everything that those of nodes have.
func sample() Node {
	n := Node{
		Network: "probe", Group: 1, HostInterface: "lo", Addr4: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
		NodePorts: []Ports{{30000, 32767}}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		NodePortMark: 0x2000, ServiceMark: 0x1000, Masquerade: true,
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		n.Addr6 = netip.MustParseAddr("2001:db8::1")
	}
	return n
}

// scratch runs f with a network namespace of its own, which goes afterwards: what is written to it changes nothing.
func scratch(f func(Namespace) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		self, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = self.Close() }()
		ns, err := netns.New()
		if err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		defer func() { _ = ns.Close() }()
		done <- f(scratchNamespace{ns, self})
	}()
	return <-done
}

type scratchNamespace struct{ ns, self netns.NsHandle }

func (scratchNamespace) Command(line string) string { return line }

func (s scratchNamespace) Do(f func() error) error {
	runtime.LockOSThread()
	if err := netns.Set(s.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err := f()
	if back := netns.Set(s.self); back != nil {
		return errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
