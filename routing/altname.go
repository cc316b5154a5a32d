package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// An AltName is a further name of an interface, of up to 127 bytes, by which it can be found like by its own (Linux
// 5.5). Each is added and deleted by itself, so that several owners of one interface do not write over each other.
type AltName struct {
	Link *Link
	Name string

	added bool
}

// String is the line of ip-link(8).
func (a *AltName) String() string {
	return a.Link.NS.line("ip link property add dev %s altname %s", quote.Sh(a.Link.Name), quote.Sh(a.Name))
}

// Apply adds the name. It is no error if the interface has it already; it is one, fs.ErrExist in the sense of
// errors.Is, if another has.
func (a *AltName) Apply() error {
	err := a.write(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if errors.Is(err, fs.ErrExist) {
		if there, _ := a.find(); there {
			return nil
		}
	}
	a.added = a.added || done(err)
	return err
}

func (a *AltName) write(request, flags int) error {
	index, err := a.Link.Index()
	if err != nil {
		return err
	}
	list := attr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
	list.AddRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(a.Name))
	return a.Link.NS.request(request, flags, ifinfo(index, 0), list)
}

// Verify tells whether the interface has the name.
func (a *AltName) Verify() error {
	there, err := a.find()
	if err == nil && !there {
		err = fmt.Errorf("interface %s has no altname %s", a.Link.Name, a.Name)
	}
	return err
}

func (a *AltName) find() (bool, error) {
	attrs, err := a.Link.Attrs()
	return err == nil && slices.Contains(attrs.AltNames, a.Name), err
}

// Revert deletes the name if Apply added it.
func (a *AltName) Revert() error {
	if !a.added {
		return nil
	}
	return (&NoAltName{a}).Apply()
}

// NoAltName is the absence of a further name.
type NoAltName struct{ *AltName }

// String is the line of ip-link(8).
func (n *NoAltName) String() string {
	return n.Link.NS.line("ip link property del dev %s altname %s", quote.Sh(n.Link.Name), quote.Sh(n.Name))
}

// Apply deletes the name. It is no error if it, or the interface, is already gone.
func (n *NoAltName) Apply() error {
	err := n.write(unix.RTM_DELLINKPROP, 0)
	if err != nil && n.Verify() == nil { // asked, since the kernel says EINVAL of a name that is another's
		return nil
	}
	return err
}

// Verify tells whether the name is gone.
func (n *NoAltName) Verify() error {
	there, err := n.find()
	return gone(there, err, "interface %s still has the altname %s", n.Link.Name, n.Name)
}

// Revert does nothing: what is gone was ours.
func (*NoAltName) Revert() error { return nil }

// LinkNamed asks the kernel for the interface that has a further name. The error wraps ErrNoLink when there is none.
func (n *Namespace) LinkNamed(altname string) (*LinkAttrs, error) {
	return n.link(altname, nl.NewIfInfomsg(unix.AF_UNSPEC), attr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(altname)))
}
