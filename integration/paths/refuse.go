package paths

import (
	"errors"
	"fmt"
	"net/netip"

	"underlay-cni/integration/lab"
)

// refuse is row 15: the thief on the wire has the pod as its router, to the node, to a Service and to outside. Its
// packets reach the pod, and nothing leaves the pod. Where the pod has the hardware address of its node they do not
// even reach it: they are the node's, as if it were the thief's router, and what becomes of them is for the node to
// say.
func refuse(w *World, f lab.Family, p lab.Proto) error {
	if err := w.Steal(w.A.Addr, w.N1.Addr); err != nil {
		return err
	}
	targets := []struct{ to, server string }{{"n1", "n1"}, {"svc/c", "c"}, {"outside", "outside"}}
	var errs []error
	for _, target := range targets {
		if p == lab.ICMP && target.to == "svc/c" {
			continue
		}
		if err := w.knock(f, p, w.target(target.to, f), w.servers[target.server]); err != nil {
			errs = append(errs, fmt.Errorf("thief to %s by way of a: %w", target.to, err))
		}
	}
	return errors.Join(errs...)
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
		return !q.Out && q.Interface == "eth0" && q.Proto == p && q.Src == w.Thief.Addr.Of(f) && q.Dst == to.Addr()
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
