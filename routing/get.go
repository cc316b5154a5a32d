package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist/quote"
)

// A Query is a packet that the kernel is asked about: `ip route get`.
type Query struct {
	To   netip.Addr
	From netip.Addr // not valid: of this machine, which chooses
	Iif  *Link      // where the packet comes in; nil: it is the machine's own
	Mark uint32
}

// An Answer is where the kernel would send it.
type Answer struct {
	Dev      string // where it leaves; "lo" for what is delivered here
	Via, Src netip.Addr
	Table    int
	Local    bool // it is for the machine itself
}

// Line is the command that asks the same.
func (q Query) Line(n *Namespace) string {
	var s strings.Builder
	fmt.Fprintf(&s, "ip route get %s", q.To)
	if q.From.IsValid() {
		fmt.Fprintf(&s, " from %s", q.From)
	}
	if q.Iif != nil {
		fmt.Fprintf(&s, " iif %s", quote.Sh(q.Iif.Name))
	}
	if q.Mark != 0 {
		fmt.Fprintf(&s, " mark %#x", q.Mark)
	}
	return n.Command(s.String())
}

// String is the answer in the words of ip-route(8).
func (a Answer) String() string {
	var words []string
	if a.Local {
		words = append(words, "local")
	}
	if a.Via.IsValid() {
		words = append(words, "via "+a.Via.String())
	}
	words = append(words, "dev "+quote.Sh(a.Dev))
	if a.Table != MainTable && !a.Local {
		words = append(words, fmt.Sprintf("table %d", a.Table))
	}
	if a.Src.IsValid() {
		words = append(words, "src "+a.Src.String())
	}
	return strings.Join(words, " ")
}

// RouteGet asks the kernel where a packet goes. The error is the kernel's when it goes nowhere: ENETUNREACH, EHOSTUNREACH,
// and EXDEV, or EINVAL since Linux 6.14, where a strict rp_filter drops it.
func (n *Namespace) RouteGet(q Query) (Answer, error) {
	msg := rtmsg(familyOf(q.To), 0)
	msg.Dst_len = uint8(q.To.BitLen())
	if q.To.Is4() {
		msg.Flags = 0x1000 // RTM_F_LOOKUP_TABLE: without it the answer says main, whatever it was. IPv6 needs no flag, and takes none
	}
	parts := []nl.NetlinkRequestData{msg, attr(unix.RTA_DST, q.To.AsSlice())}
	if q.From.IsValid() {
		msg.Src_len = uint8(q.From.BitLen())
		parts = append(parts, attr(unix.RTA_SRC, q.From.AsSlice()))
	}
	if q.Iif != nil {
		index, err := q.Iif.Index()
		if err != nil {
			return Answer{}, err
		}
		parts = append(parts, attr32(unix.RTA_IIF, uint32(index)))
	}
	if q.Mark != 0 {
		parts = append(parts, attr32(unix.RTA_MARK, q.Mark))
	}
	m, err := n.get(unix.RTM_GETROUTE, parts...)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", q.Line(n), err)
	}
	d, err := parseRoute(m)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Via: d.via, Src: d.src, Table: d.table, Local: d.msg.Type == unix.RTN_LOCAL}
	if d.msg.Type != unix.RTN_LOCAL && d.msg.Type != unix.RTN_UNICAST {
		return a, fmt.Errorf("%s: %w", q.Line(n), unix.EHOSTUNREACH) // blackhole, prohibit, … of IPv6
	}
	a.Dev, err = n.linkName(d.oif)
	return a, err
}

// linkName is the name of the interface with that index.
func (n *Namespace) linkName(index int) (string, error) {
	m, err := n.get(unix.RTM_GETLINK, ifinfo(index, 0))
	if err != nil {
		return "", fmt.Errorf("interface %d: %w", index, err)
	}
	l, err := parseLink(m)
	if err != nil {
		return "", err
	}
	return l.Name, nil
}

// NSID is the number that the namespace has for another one, given as an open file: what LinkAttrs has for the other
// end of a veth. It is negative when it has none.
func (n *Namespace) NSID(fd int) (int, error) {
	const (
		netnsaNSID = 1
		netnsaFD   = 3
	)
	header := nl.NewRtGenMsg()
	m, err := n.get(unix.RTM_GETNSID, header, attr32(netnsaFD, uint32(fd)))
	if err != nil {
		return -1, fmt.Errorf("ask for the number of a network namespace: %w", err)
	}
	attrs, err := nl.ParseRouteAttr(m[min(header.Len(), len(m)):])
	if err != nil {
		return -1, fmt.Errorf("parse the number of a network namespace: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type == netnsaNSID {
			return int(int32(uint32Of(a.Value))), nil
		}
	}
	return -1, errors.New("the kernel gave no number for a network namespace")
}
