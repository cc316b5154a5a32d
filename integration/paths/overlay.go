package paths

import (
	"iter"
	"slices"
	"strings"

	"underlay-cni/integration/lab"
)

// onOverlay are the paths of worlds with an overlay. The pods o1 on n1 and o2 on n2 have its interface alone.
func onOverlay(ways ...path) func(*World, lab.Proto) []path {
	return func(w *World, _ lab.Proto) []path {
		if w.Options.Overlay == lab.NoOverlay {
			return nil
		}
		return ways
	}
}

// bySecond is row 22: rows 1, 2 and 12 for the address of net2.
func bySecond(w *World, _ lab.Proto) []path {
	if !w.Options.SecondWire {
		return nil
	}
	return []path{
		{from: "a", to: "wire2/n1", by: toNode, server: "n1", sees: "a"},
		{from: "n1", to: "net2/a", server: "a", sees: "wire2/n1", back: toNode},
		{from: "a", to: "net2/b", by: "net2", server: "b", sees: "net2/a", back: "net2"},
		{from: "a", to: "net2/c", by: "net2", server: "c", sees: "net2/a", back: "net2"},
		{from: "n2", to: "net2/a", server: "a", sees: "wire2/n2", back: "net2"},
		{from: "a", to: "client2", by: "net2", server: "client2", sees: "net2/a"},
		{from: "client2", to: "net2/a", server: "a", sees: "client2", back: "net2"},
		{from: "outside", to: "net2/a", server: "a", sees: "outside", back: "net2"},
		{from: "o1", to: "net2/a", server: "a", sees: "o1", back: toNode},
	}
}

// seenOverlay is the source address that the server sees in a world with an overlay. What a pod sends by its node has
// the overlay's address, which a node translates as that overlay does; all else is as the path says. Where the overlay
// has no IPv6, it is the address of its interface on the wire.
func (w *World) seenOverlay(way path) lab.Pair {
	seen := w.translated(way)
	if machine, _, found := strings.Cut(way.sees, "/"); !found && !slices.Contains(w.Options.OverlayStack, lab.IPv6) {
		seen.V6 = w.addr(machine).V6
		switch {
		case way.from == way.server: // kube-proxy sees that it is the pod itself
			seen.V6 = w.N1.Addr.V6
		case way.to == "wire2/n1": // the kernel prefers the source that is most like the destination
			seen.V6 = w.addr("net2/" + machine).V6
		}
	}
	return seen
}

func (w *World) translated(way path) lab.Pair {
	iface, machine, found := strings.Cut(way.sees, "/")
	if !found {
		machine, iface = way.sees, ""
	}
	if machine != way.from || !strings.HasPrefix(machine, "o") && way.by != toNode || machine == "outside" || iface == "net1" || iface == "net2" {
		return w.addr(way.sees)
	}
	node := nodeOf(way.from)
	direct := strings.HasPrefix(way.to, "eth0/") || way.server == "o1" || way.server == "o2"
	switch {
	case direct || way.server == node:
		return w.addr("eth0/" + machine)
	case nodeOf(way.server) != node:
		return w.machines[node].Addr
	case w.Options.Overlay == lab.PTP:
		return w.addr("eth0/" + machine)
	default:
		return w.chosen(node, way.to)
	}
}

// chosen is the address that the kernel takes for masquerading towards an interface that has none, as those of Calico: in
// IPv4 the first of the node, on lo if there is one; in IPv6 the one most like the destination.
func (w *World) chosen(node, to string) lab.Pair {
	addr := w.machines[node].Addr
	if w.Options.VIP {
		addr = lab.VIP
	}
	if strings.HasPrefix(to, "net2/") {
		addr.V6 = w.addr("wire2/" + node).V6
	}
	return addr
}

// nodeOf is the node of a pod, "" for another machine.
func nodeOf(machine string) string {
	switch machine {
	case "a", "b", "o1":
		return "n1"
	case "c", "o2":
		return "n2"
	}
	return ""
}

// defaultByWire tells whether the pods' default route is the wire's.
func (w *World) defaultByWire() bool {
	return !w.Options.NoGateway && w.option("migrate_route", -1) != 0
}

// option is a key of the plugin's configuration.
func (w *World) option(key string, otherwise any) any {
	for _, typ := range []string{"veth", "router"} {
		if value, found := w.N1.Conflist().Plugin(typ)[key]; found {
			return value
		}
	}
	return otherwise
}

// leftOut tells why a world cannot have a path; "" if it can.
func (w *World) leftOut(way path, f lab.Family) string {
	var (
		kind, backend, isService = strings.Cut(way.to, "/")
		service                  = isService && !slices.Contains([]string{"eth0", "net2", "wire2"}, kind)
		onWire                   = way.server == "a" || way.server == "b" || way.server == "c"
		byNode                   = nodeOf(way.from) == nodeOf(way.server) || way.from == nodeOf(way.server)
	)
	switch {
	case way.from == "thief" && w.Options.Parent.Routed():
		return "the pod has no part in the link layer: nobody can have it as a next hop"
	case way.from == "outside" && !service && !w.defaultByWire():
		return "the pod has no default route by the wire: it can be reached from its own subnet only"
	case w.Options.Overlay == lab.NoOverlay:
		return ""
	case !slices.Contains(w.Options.OverlayStack, f) && (kind == "eth0" || slices.Contains([]string{way.from, way.server}, "o1") || slices.Contains([]string{way.from, way.server}, "o2")):
		return "the overlay has no such family"
	case !slices.Contains(w.Options.OverlayStack, f) && way.by == toNode && way.server != "n1" && nodeOf(way.server) != "n1":
		return "net1's address is the source then, and the answer comes by the wire: kube-proxy would have to translate"
	case slices.Contains(w.Options.OverlayStack, f) && backend == "a" && way.from == "a" && w.Options.Overlay == lab.PTP:
		return "this overlay translates nothing that stays on the node: the pod would get its own address as the source"
	case w.option("host_route", true) != true && onWire && kind != "eth0" && (byNode && way.by != toWire || service && nodeOf(way.server) == "n1" && way.from != "o2"):
		return "without host_route the node has no way to its own pods' addresses on the wire"
	}
	return ""
}

// Left are the cases of a pod a that has only some of its interfaces any more, and of its neighbour b, that has all.
func (w *World) Left(interfaces ...string) iter.Seq[Case] {
	has := func(iface string) bool { return slices.Contains(interfaces, iface) }
	ways := []path{
		{from: "b", to: "n1", by: toNode, server: "n1", sees: "b"},
		{from: "n1", to: "b", server: "b", sees: "n1", back: toNode},
		{from: "client", to: "b", server: "b", sees: "client", back: toWire},
	}
	add := func(more ...path) { ways = append(ways, more...) }
	if has("eth0") {
		add(
			path{from: "a", to: "n1", by: toNode, server: "n1", sees: "a"},
			path{from: "a", to: "o1", by: toNode, server: "o1", sees: "a"},
			path{from: "a", to: "o2", by: toNode, server: "o2", sees: "a"},
			path{from: "o2", to: "eth0/a", server: "a", sees: "o2", back: toNode},
		)
	}
	for iface, neighbour := range map[string]string{"net1": "client", "net2": "client2"} {
		if !has(iface) {
			continue
		}
		add(
			path{from: neighbour, to: iface + "/a", server: "a", sees: neighbour, back: iface},
			path{from: "a", to: neighbour, by: iface, server: neighbour, sees: iface + "/a"},
			path{from: "outside", to: iface + "/a", server: "a", sees: "outside", back: iface},
		)
		if has("eth0") {
			add(path{from: "n1", to: iface + "/a", server: "a", sees: map[string]string{"net1": "n1", "net2": "wire2/n1"}[iface], back: toNode})
		}
	}
	// The default route is that of the last.
	switch last := slices.Max(interfaces); last {
	case "eth0":
		add(path{from: "a", to: "outside", by: toNode, server: "outside", sees: "a"})
	default:
		add(path{from: "a", to: "outside", by: last, server: "outside", sees: last + "/a"})
	}
	row := Row{0, "with " + strings.Join(interfaces, " and "), everything, always(ways...), path.follow}
	services := Row{0, "Services with " + strings.Join(interfaces, " and "), ports, always(
		path{from: "a", to: "svc/o2", by: toNode, server: "o2", sees: "a"},
		path{from: "a", to: "svc/c", by: toNode, server: "c", sees: "a"},
	), path.follow}
	rows := []Row{row}
	if has("eth0") {
		rows = append(rows, services)
	}
	return w.casesOf(rows)
}
