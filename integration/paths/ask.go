package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/lab"
)

// A path is one request and its answer.
type path struct {
	from, to string // machine and target
	by       string // the interface of from by which the request leaves; "" means any
	server   string // who answers
	sees     string // the machine whose address the server sees
	back     string // the interface of server by which the answer leaves; "" means any
}

// follow sends the request, and looks at both ends which way the packets took.
func (way path) follow(w *World, f lab.Family, p lab.Proto) error {
	to, sees := w.target(way.to, f), w.seen(way).Of(f)
	client, server := w.machines[way.from], w.machines[way.server]
	atClient, err := client.Trace()
	if err != nil {
		return err
	}
	defer atClient.Close()
	atServer, err := server.Trace()
	if err != nil {
		return err
	}
	defer atServer.Close()

	// The ports of this request: the last packets of an earlier one may still be on their way.
	request, reply := netip.AddrPortFrom(to.Addr(), 0), netip.AddrPortFrom(sees, 0)
	if p == lab.ICMP {
		err = client.Ping(to.Addr())
	} else {
		var answer lab.Answer
		answer, err = client.Ask(p, to)
		err = way.expect(sees, answer, err)
		request, reply = to, answer.Source
	}
	if err != nil {
		return err
	}
	// The kernel answers a ping by itself: the trace is what knows the source that it saw.
	if _, err := atServer.Await(func(q lab.Packet) bool { return q.Proto == p && q.Out && q.Dst == sees }); err != nil {
		return fmt.Errorf("%s did not answer to %s: %w", way.server, sees, err)
	}
	back := w.side(way.back)
	if w.Options.Parent == lab.IPvlanL3S {
		back = "" // requests come in by eth0, past the pod's netfilter, and the node sees the answers of both interfaces
	}
	return errors.Join(
		leaves(atClient, w.side(way.by), p, request),
		leaves(atServer, back, p, reply),
	)
}

// seen is the source address that the server sees. veth gives what the node translates for a pod the node's; router
// leaves that to the overlay. Where a pod's connection to a Service cannot be led back to the
// pod it goes out as the node's, and only a backend on the node itself sees the pod. IPVS looks up the route to a
// backend by the addresses alone, not by interface and mark; and an ipvlan of mode l3s delivers an answer to the pod's
// sockets, past its netfilter.
func (w *World) seen(way path) lab.Pair {
	if w.Options.Overlay != lab.NoOverlay {
		return w.seenOverlay(way)
	}
	direct := w.Config.Plugin == "veth" || w.Config.Flavour == lab.IPVS || w.Options.Parent == lab.IPvlanL3S
	if direct && way.sees == way.from && strings.HasPrefix(way.to, "svc/") && way.server != "n1" {
		return w.N1.Addr
	}
	return w.machines[way.sees].Addr
}

// expect looks at what became of a request.
func (way path) expect(sees netip.Addr, answer lab.Answer, err error) error {
	if err != nil {
		return err
	}
	if got := answer.Source.Addr(); answer.Server != way.server || got != sees {
		return fmt.Errorf("answered by %s, which saw %s; want %s, and %s", answer.Server, got, way.server, sees)
	}
	return nil
}

// leaves tells whether the packets to an address left by the interface, and by no other.
func leaves(t *lab.Trace, by string, p lab.Proto, to netip.AddrPort) error {
	if by == "" {
		return nil
	}
	match := func(q lab.Packet) bool { return q.Proto == p && q.Dst == to.Addr() && q.DstPort == to.Port() }
	if _, err := t.Await(func(p lab.Packet) bool { return p.Out && p.Interface == by && match(p) }); err != nil {
		return fmt.Errorf("nothing left by %s: %w", by, err)
	}
	if p, found := t.Find(func(p lab.Packet) bool { return p.Out && p.Interface != by && match(p) }); found {
		return fmt.Errorf("left by %s, not only by %s: %s", p.Interface, by, p)
	}
	return nil
}

// What row 14 sends: more than a socket buffer, and more than any wire takes in one frame.
const (
	bulk = 1 << 20
	big  = 20_000
)

// load is row 14. Where a path has a Service in it, what is left of ICMP is the error that a backend sends: it has to
// find the way back through all translations.
func load(w *World, p lab.Proto) []path {
	ways := []path{
		{from: "a", to: "n1", by: toNode, server: "n1", sees: "a"},
		{from: "n1", to: "a", server: "a", sees: "n1"},
		{from: "a", to: "svc/c", by: toNode, server: "c", sees: "a"},
		{from: "outside", to: "nodeport/a", server: "a", sees: "outside"},
		{from: "client", to: "a", server: "a", sees: "client"},
		{from: "outside", to: "a", server: "a", sees: "outside"},
	}
	if p == lab.ICMP {
		ways = []path{
			{from: "a", to: "n1", server: "n1"},
			{from: "n1", to: "a", server: "a"},
			{from: "client", to: "a", server: "a"},
			{from: "a", to: "svc/closed-c", by: toNode, server: "c"},
			{from: "outside", to: "nodeport/closed-a", server: "a"},
		}
	}
	if w.Options.Overlay != lab.NoOverlay {
		ways = append(ways,
			path{from: "a", to: "o2", by: toNode, server: "o2", sees: "a"},
			path{from: "o2", to: "a", server: "a", sees: "o2"},
		)
	}
	return ways
}

func (way path) load(w *World, f lab.Family, p lab.Proto) error {
	client, to := w.machines[way.from], w.target(way.to, f)
	if p == lab.ICMP {
		if to.Port() == lab.Port {
			return client.Ping(to.Addr())
		}
		if _, err := client.Ask(lab.UDP, to); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("want the ICMP error of a closed port, got %w", err)
		}
		return nil
	}
	var (
		answer lab.Answer
		err    error
	)
	if p == lab.UDP {
		answer, err = client.AskBig(to, big)
	} else {
		answer, err = client.Transfer(to, bulk)
	}
	return way.expect(w.seen(way).Of(f), answer, err)
}
