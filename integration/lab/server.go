package lab

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Port is where every Server listens.
const Port = 8080

// A Server answers TCP and UDP on a machine, on the wildcard address as most programs do: the source address of an
// answer over UDP is the kernel's choice. The answer tells who it is and whom it saw, and repeats what it was sent.
type Server struct {
	name     string
	requests atomic.Int64

	tcp     []*net.TCPListener
	udp     []*net.UDPConn
	running sync.WaitGroup
}

// An Answer is what a server says.
type Answer struct {
	Server string         // its name
	Source netip.AddrPort // of the request, as the server saw it
	Size   int            // of the payload that the server got
	Sum    string         // the payload's SHA-256
}

// Serve starts a server on the machine. It stops when the namespace is closed. Over UDP it may be bound to some addresses
// in place of the wildcard one: the kernel then answers from the one that was asked.
func (n *Namespace) Serve(udp ...netip.Addr) (*Server, error) {
	s := &Server{name: n.Name}
	n.owned = append(n.owned, s)
	err := n.Do(func() error {
		for _, f := range DualStack {
			network := map[Family]string{IPv4: "4", IPv6: "6"}[f]
			tcp, err := net.ListenTCP("tcp"+network, &net.TCPAddr{Port: Port})
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			s.tcp = append(s.tcp, tcp)
		}
		if len(udp) == 0 {
			udp = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for _, addr := range udp {
			network := map[bool]string{true: "udp4", false: "udp6"}[addr.Is4()]
			c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, Port)))
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			s.udp = append(s.udp, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, l := range s.tcp {
		s.running.Go(func() { s.serveTCP(l) })
	}
	for _, c := range s.udp {
		s.running.Go(func() { s.serveUDP(c) })
	}
	return s, nil
}

// Requests counts what has reached the server since its start.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Close stops the server and waits until it has.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.tcp {
		errs = append(errs, l.Close())
	}
	for _, c := range s.udp {
		errs = append(errs, c.Close())
	}
	s.running.Wait()
	return errors.Join(errs...)
}

func (s *Server) serveTCP(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return // closed
		}
		s.requests.Add(1)
		s.running.Go(func() {
			defer c.Close()
			_ = s.converse(c) // the client sees its connection end
		})
	}
}

// converse takes one request: a line with the size of the payload, and the payload. The answer goes back in the
// same way, before the payload.
func (s *Server) converse(c *net.TCPConn) error {
	if err := c.SetDeadline(time.Now().Add(5 * Patience)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	r := bufio.NewReader(c)
	payload, err := readPayload(r)
	if err != nil {
		return err
	}
	source, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	if err := json.NewEncoder(c).Encode(s.answer(source, payload)); err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	return writePayload(c, payload)
}

func (s *Server) serveUDP(c *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		s.requests.Add(1)
		reply, err := json.Marshal(s.answer(from, buf[:size]))
		if err != nil {
			return
		}
		reply = append(reply, make([]byte, max(0, size-len(reply)))...)
		_, _ = c.WriteToUDPAddrPort(reply, from) // the client asks again
	}
}

func (s *Server) answer(source netip.AddrPort, payload []byte) Answer {
	return Answer{
		Server: s.name, Source: netip.AddrPortFrom(source.Addr().Unmap(), source.Port()),
		Size: len(payload), Sum: sum(payload),
	}
}

func sum(payload []byte) string {
	hash := sha256.Sum256(payload)
	return hex.EncodeToString(hash[:])
}

func writePayload(w io.Writer, payload []byte) error {
	if _, err := fmt.Fprintf(w, "%d\n", len(payload)); err != nil {
		return fmt.Errorf("write a payload: %w", err)
	}
	if _, err := w.Write(payload); err != nil {
		return fmt.Errorf("write a payload: %w", err)
	}
	return nil
}

func readPayload(r *bufio.Reader) ([]byte, error) {
	var size int
	if _, err := fmt.Fscanf(r, "%d\n", &size); err != nil {
		return nil, fmt.Errorf("read a payload: %w", err)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, fmt.Errorf("read a payload: %w", err)
	}
	return payload, nil
}

// randomPayload cannot be compressed or guessed on the way.
func randomPayload(size int) []byte {
	payload := make([]byte, size)
	_, _ = rand.Read(payload) // never fails
	return payload
}
