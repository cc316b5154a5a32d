package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"underlay-cni/integration/lab"
)

// refused is row 15: the thief on the wire has the pod as its router, to the node, to a Service, to outside and to the overlay. Its
// packets reach the pod, and nothing leaves the pod. Where the pod has the hardware address of its node they do not
// even reach it: they are the node's, as if it were the thief's router, and what becomes of them is for the node to
// say.
func refused(w *World, p lab.Proto) []path {
	targets := []path{
		{from: "thief", to: "n1", server: "n1"},
		{from: "thief", to: "svc/c", server: "c"},
		{from: "thief", to: "outside", server: "outside"},
	}
	if p == lab.ICMP {
		targets = slices.Delete(targets, 1, 2)
	}
	if w.Options.Overlay != lab.NoOverlay {
		targets = append(targets, path{from: "thief", to: "o2", server: "o2"})
	}
	return targets
}

func (way path) refuse(w *World, f lab.Family, p lab.Proto) error {
	if err := w.Steal(w.A.Addr, w.N1.Addr); err != nil {
		return err
	}
	return w.knock(f, p, w.target(way.to, f), w.servers[way.server])
}

// knock needs no time limit to know that nothing came through: the ping that follows goes the same way, and when it
// has been answered the packets before it have met their end.
func (w *World) knock(f lab.Family, p lab.Proto, to netip.AddrPort, server *lab.Server) error {
	trace, err := w.A.Trace()
	if err != nil {
		return err
	}
	defer trace.Close()
	reach := func(q lab.Packet) bool {
		return !q.Out && q.Interface == w.side(toWire) && q.Proto == p && q.Src == w.Thief.Addr.Of(f) && q.Dst == to.Addr()
	}
	sharesMAC := w.Options.Parent.SharesMAC()
	before := server.Requests()
	socket, err := w.Thief.Knock(p, to)
	if err != nil {
		return err
	}
	defer socket.Close()
	if !sharesMAC {
		if _, err := trace.Await(reach); err != nil {
			return fmt.Errorf("the knock did not reach the pod: %w", err)
		}
	}
	if err := w.Thief.Ping(w.A.Addr.Of(f)); err != nil {
		return err
	}
	if q, found := trace.Find(func(q lab.Packet) bool { return q.Out && q.Proto == p && q.Dst == to.Addr() }); found {
		return fmt.Errorf("the pod forwarded it: %s", q)
	}
	if q, found := trace.Find(reach); found && sharesMAC {
		return fmt.Errorf("the pod got what its node should: %s", q)
	}
	if !sharesMAC && server.Requests() != before {
		return errors.New("the server got it")
	}
	return nil
}
