package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

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
	return &either{auto: a, nft: a.nft.Node(ns, n), ipt: a.ipt.Node(ns, n), try: func(ns Namespace) Change { return nftBackend{}.Node(ns, n) }}
}

func (a *auto) Pod(ns Namespace, p Pod) Change {
	return &either{auto: a, nft: a.nft.Pod(ns, p), ipt: a.ipt.Pod(ns, p), try: func(ns Namespace) Change { return nftBackend{}.Pod(ns, p) }}
}

// Probe tells whether any backend works. The error says what was tried.
func (a *auto) Probe(ns Namespace, n Node) error {
	err := a.nft.Probe(ns, n)
	if err == nil {
		return nil
	}
	return tried(err, a.ipt.Probe(ns, n))
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
	try      func(Namespace) Change // the same for nftables elsewhere
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
	if err != nil && (unsupported(err) || unsupported(inScratch(e.try))) {
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
	if errors.As(err, new(*aroundError)) {
		return false
	}
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
	// nftLeft is the table of nftables that another backend would have left: none, if that is the backend.
	nftLeft(table string) string
}

func (s *sweeping) Node(ns Namespace, n Node) Change {
	anywhere := n
	anywhere.Addr4, anywhere.Addr6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	return &swept{s.backend.Node(ns, n), &leftovers{ns: ns, node: true, table: s.nftLeft(podTable + "-" + n.Network), halves: func(variant string) []*half {
		return iptBackend{variant}.node(ns, anywhere).halves
	}}, s.only}
}

func (s *sweeping) Pod(ns Namespace, p Pod) Change {
	both := p
	both.IPv4, both.IPv6 = true, true
	return &swept{s.backend.Pod(ns, p), &leftovers{ns: ns, table: s.nftLeft(podTable), halves: func(variant string) []*half {
		return iptBackend{variant}.pod(ns, both).halves
	}}, s.only}
}

type swept struct {
	Change
	left *leftovers
	only bool
}

// An aroundError is about what is around a rule set that itself is in place, and so no reason to choose another backend.
type aroundError struct{ error }

func (e *aroundError) Unwrap() error { return e.error }

func around(err error) error {
	if err == nil {
		return nil
	}
	return &aroundError{err}
}

// Apply sweeps what can be seen without a process; the rest, only if there was something to be written. So it costs
// next to nothing where everything is as it should be. If the rest cannot be done the rule set goes again: the next
// Apply would not look for it any more.
func (s *swept) Apply() error {
	if err := s.Change.Apply(); err != nil {
		if _, nft := s.Change.(*table); nft && s.only && unsupported(err) {
			return fmt.Errorf("%w: firewall: nftables: this kernel cannot do it: %w; accepted: auto or iptables", ErrUnavailable, err)
		}
		return err
	}
	set, ok := s.Change.(interface {
		wrote() bool
		undo() error
	})
	wrote := ok && set.wrote()
	err := s.left.settle(wrote)
	if err != nil && wrote {
		err = errors.Join(err, set.undo())
	}
	return around(err)
}

// Verify tells also whether anything was left behind.
func (s *swept) Verify() error {
	return errors.Join(s.Change.Verify(), around(s.left.settled()))
}

// inScratch applies a rule set in a namespace of its own: there is no other way to know what the kernel and the
// programs can do.
func inScratch(set func(Namespace) Change) error {
	return scratch(func(ns Namespace) error { return set(ns).Apply() })
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
