package routing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// InetConf are values of one interface below /proc/sys/net/ipv4/conf, written as attributes of the
// interface: that takes one request, where each file takes a look-up among those of the same name of all
// namespaces, which grow with the pods of a node. (IPv6 has no such attributes to write, and "all" is no interface;
// Sysctls writes those.)
type InetConf struct {
	Dev    *Link
	Values []Value
	// Shared keeps Revert from writing back: others may rely on the values meanwhile.
	Shared bool
	// Once keeps Verify from looking: others may have changed them, as they may.
	Once bool

	before []Value // of those that Apply changed
}

// String is the line of sysctl(8).
func (c *InetConf) String() string {
	return (&Sysctls{NS: c.Dev.NS, Dir: V4Conf + c.Dev.Name, Values: c.Values}).String()
}

// inetConfIndex is the number that the kernel gives to a key (IPV4_DEVCONF_… in linux/ip.h), from 1.
func inetConfIndex(key string) int {
	switch key {
	case "forwarding":
		return 1
	case "accept_redirects":
		return 4
	case "send_redirects":
		return 6
	case "rp_filter":
		return 8
	case "src_valid_mark":
		return 24
	default:
		panic("no IPV4_DEVCONF number for " + key)
	}
}

// Apply writes the values where they differ. The error wraps ErrNoLink when there is no such interface.
func (c *InetConf) Apply() error {
	differ, err := c.differences()
	if err != nil || len(differ) == 0 {
		return err
	}
	var values []Value
	for _, d := range differ {
		c.before = append(c.before, Value{d.want.Key, d.got})
		values = append(values, d.want)
	}
	return c.write(values)
}

// Verify tells which values the kernel has otherwise.
func (c *InetConf) Verify() error {
	if c.Once {
		return nil
	}
	differ, err := c.differences()
	errs := []error{err}
	for _, d := range differ {
		errs = append(errs, fmt.Errorf("sysctl net/ipv4/conf/%s/%s is %s, not %s", c.Dev.Name, d.want.Key, d.got, d.want.Value))
	}
	return errors.Join(errs...)
}

// Revert writes back what Apply changed. It is no error if the interface is gone.
func (c *InetConf) Revert() error {
	if len(c.before) == 0 || c.Shared {
		return nil
	}
	err := c.write(c.before)
	if errors.Is(err, ErrNoLink) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (c *InetConf) write(values []Value) error {
	index, err := c.Dev.Index()
	if err != nil {
		return err
	}
	spec := attr(unix.IFLA_AF_SPEC, nil)
	conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(unix.IFLA_INET_CONF, nil)
	for _, v := range values {
		n, err := strconv.ParseUint(v.Value, 10, 31)
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", v.Key, err)
		}
		conf.AddRtAttr(inetConfIndex(v.Key), nl.Uint32Attr(uint32(n)))
	}
	return c.Dev.NS.request(unix.RTM_SETLINK, 0, ifinfo(index, 0), spec)
}

type difference struct {
	want Value
	got  string
}

func (c *InetConf) differences() (differ []difference, err error) {
	attrs, err := c.Dev.Attrs()
	if err != nil {
		return nil, err
	}
	for _, want := range c.Values {
		i := inetConfIndex(want.Key) - 1
		if i >= len(attrs.inetConf) {
			return nil, fmt.Errorf("sysctl net/ipv4/conf/%s/%s: %w", c.Dev.Name, want.Key, errors.ErrUnsupported)
		}
		if got := strconv.Itoa(int(attrs.inetConf[i])); got != strings.TrimSpace(want.Value) {
			differ = append(differ, difference{want, got})
		}
	}
	return differ, nil
}

// OtherInetConfs are the interfaces of the namespace that have another value, each with the change to the one that is
// wanted: one dump, however many interfaces there are.
func (n *Namespace) OtherInetConfs(want Value) (changes []*InetConf, err error) {
	links, err := n.Links(func(l *LinkAttrs) bool {
		i := inetConfIndex(want.Key) - 1
		return i < len(l.inetConf) && strconv.Itoa(int(l.inetConf[i])) != want.Value
	})
	for _, l := range links {
		changes = append(changes, &InetConf{Dev: n.Link(l.Name), Values: []Value{want}, Shared: true})
	}
	return changes, err
}

// What stands for no interface but for all of them, and for those to come, in linux/netconf.h.
const (
	netconfAll     = -1
	netconfDefault = -2
)

// netConf is what net/ipv4/conf/all or default has, as far as rtnetlink tells: ip-netconf(8).
func (n *Namespace) netConf(which int32) (all []Value, err error) {
	const (
		netconfaIfindex    = 1
		netconfaForwarding = 2
		netconfaRPFilter   = 3
	)
	header := nl.NewRtGenMsg() // as long as struct netconfmsg, which is a family too
	header.Family = unix.AF_INET
	m, err := n.get(unix.RTM_GETNETCONF, header, attr32(netconfaIfindex, uint32(which)))
	if err != nil {
		return nil, err
	}
	attrs, err := nl.ParseRouteAttr(m[min(header.Len(), len(m)):])
	for _, a := range attrs {
		switch a.Attr.Type {
		case netconfaForwarding:
			all = append(all, Value{"forwarding", fmt.Sprint(uint32Of(a.Value))})
		case netconfaRPFilter:
			all = append(all, Value{"rp_filter", fmt.Sprint(uint32Of(a.Value))})
		}
	}
	return all, err
}

// parseFamilies reads what the two families keep with an interface.
func (l *LinkAttrs) parseFamilies(afSpec []byte) error {
	families, err := nl.ParseRouteAttr(afSpec)
	for _, f := range families {
		if err != nil || f.Attr.Type != unix.AF_INET && f.Attr.Type != unix.AF_INET6 {
			continue
		}
		var attrs []syscall.NetlinkRouteAttr
		attrs, err = nl.ParseRouteAttr(f.Value)
		for _, a := range attrs {
			switch {
			case f.Attr.Type == unix.AF_INET6 && a.Attr.Type == unix.IFLA_INET6_ADDR_GEN_MODE && len(a.Value) == 1:
				l.AddrGenMode = addrGenMode(a.Value[0])
			case f.Attr.Type == unix.AF_INET6 && a.Attr.Type == unix.IFLA_INET6_CONF:
				l.inet6Conf = numbers(a.Value)
			case f.Attr.Type == unix.AF_INET && a.Attr.Type == unix.IFLA_INET_CONF:
				l.inetConf = numbers(a.Value)
			}
		}
	}
	return err
}

func numbers(b []byte) (all []int32) {
	for ; len(b) >= 4; b = b[4:] {
		all = append(all, int32(uint32Of(b)))
	}
	return all
}

// HasIPv6 tells whether the interface has IPv6, and that is not switched off.
func (l *LinkAttrs) HasIPv6() bool { return l.hasInet6(Value{"disable_ipv6", "0"}) }

// hasInet6 tells whether the interface has a value below net/ipv6/conf, as far as it tells (DEVCONF_… in linux/ipv6.h). Where it
// forwards, accept_ra 1 is as good as 0; and without IPv6 there are no router advertisements.
func (l *LinkAttrs) hasInet6(v Value) bool {
	noRouters := v == Value{"accept_ra", "0"}
	index, told := map[string]int{"accept_ra": 3, "accept_redirects": 4, "accept_ra_defrtr": 17, "disable_ipv6": 26}[v.Key]
	if !told || index >= len(l.inet6Conf) {
		return noRouters && len(l.inet6Conf) == 0
	}
	got, forwards := l.inet6Conf[index], l.inet6Conf[0] != 0
	return strconv.Itoa(int(got)) == v.Value || noRouters && forwards && got == 1
}

func addrGenMode(mode byte) string {
	names := [...]string{"eui64", "none", "stable_secret", "random"}
	if int(mode) < len(names) {
		return names[mode]
	}
	return "unknown"
}
