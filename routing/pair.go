package routing

// Pair tells whether two veth interfaces are the ends of one pair: each names the other by its index and by the namespace that
// it is in. Indexes alone prove nothing: whoever rules a pod's namespace makes an interface with any index, and a peer with any.
// The interfaces have been asked for before: that gives the namespaces numbers (net/core/rtnetlink.c, rtnl_fill_link_netnsid).
func Pair(a *LinkAttrs, in *Namespace, b *LinkAttrs, of *Namespace) (bool, error) {
	if a.Kind != "veth" || b.Kind != "veth" || a.Peer != b.Index || b.Peer != a.Index {
		return false, nil
	}
	for _, end := range []struct {
		link     *LinkAttrs
		in, peer *Namespace
	}{{a, in, of}, {b, of, in}} {
		id, err := end.in.idOf(end.peer)
		if err != nil {
			return false, err
		}
		if end.link.NSID != id {
			return false, nil
		}
	}
	return true, nil
}

// idOf is NSID, and -1 for the namespace itself, as its interfaces show it.
func (n *Namespace) idOf(other *Namespace) (int, error) {
	if n.Same(other) {
		return -1, nil
	}
	return n.NSID(other.FD())
}
