package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Proto is what a request is made of.
type Proto string

// The protocols.
const (
	TCP  Proto = "TCP"
	UDP  Proto = "UDP"
	ICMP Proto = "ICMP"
)

// Patience is how long a client waits for an answer. Every path must work with the first packet, so there is no
// second attempt but for the one that TCP makes after a second.
var Patience = scaled(2 * time.Second)

// scaled is a time as long as it takes on this machine. $LAB_SLOWNESS tells how many times slower than others it is:
// an emulated one is.
func scaled(d time.Duration) time.Duration {
	if times, err := strconv.Atoi(os.Getenv("LAB_SLOWNESS")); err == nil && times > 0 {
		return d * time.Duration(times)
	}
	return d
}

// bigAttempts is for datagrams that are larger than the path: the first one teaches the sender the MTU of the path,
// or of its first half, and is lost by that.
const bigAttempts = 8

var bigPatience = scaled(250 * time.Millisecond)

// Ask sends a small request from the machine to a server and returns what it answers.
func (n *Namespace) Ask(p Proto, to netip.AddrPort) (Answer, error) {
	return n.ask(p, to, 0, 1, Patience)
}

// Transfer sends a payload of that many bytes over TCP and takes the same back. Both ends have summed it.
func (n *Namespace) Transfer(to netip.AddrPort, size int) (Answer, error) {
	return n.ask(TCP, to, size, 1, 5*Patience)
}

// AskBig sends a datagram of that many bytes and takes one of the same size back. It may be larger than the path.
func (n *Namespace) AskBig(to netip.AddrPort, size int) (Answer, error) {
	return n.ask(UDP, to, size, bigAttempts, bigPatience)
}

func (n *Namespace) ask(p Proto, to netip.AddrPort, size, attempts int, patience time.Duration) (Answer, error) {
	answer, err := func() (Answer, error) {
		conn, err := n.Dial(p, to)
		if err != nil {
			return Answer{}, err
		}
		defer conn.Close()
		payload := randomPayload(size)
		if p == TCP {
			return converse(conn, payload, patience)
		}
		for {
			answer, err := query(conn, payload, patience)
			if attempts--; err == nil || attempts == 0 || !again(err) {
				return answer, err
			}
		}
	}()
	if err != nil {
		return Answer{}, fmt.Errorf("%s asks %s over %s: %w", n.Name, to, p, err)
	}
	return answer, nil
}

// again tells whether a datagram may get through at the next attempt. IPv6 says so when the path turned out narrower.
func again(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.EMSGSIZE)
}

// Dial connects a socket of the machine.
func (n *Namespace) Dial(p Proto, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: Patience}).Dial(strings.ToLower(string(p)), to.String())
		return err
	})
	return conn, err
}

// Knock sends the first packet of a request from the machine and waits for nothing. The caller closes the socket.
func (n *Namespace) Knock(p Proto, to netip.AddrPort) (io.Closer, error) {
	if p == ICMP {
		conn, _, err := n.echo(to.Addr())
		return conn, err
	}
	kind := map[Proto]int{TCP: unix.SOCK_STREAM, UDP: unix.SOCK_DGRAM}[p]
	var socket *os.File
	err := n.Do(func() error {
		family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(to.Addr().AsSlice()), Port: int(to.Port())})
		if to.Addr().Is6() {
			family, addr = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		socket = os.NewFile(uintptr(fd), "knock")
		if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return errors.Join(fmt.Errorf("connect: %w", err), socket.Close())
		}
		if p == UDP {
			_, err = unix.Write(fd, nil)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s knocks at %s over %s: %w", n.Name, to, p, err)
	}
	return socket, nil
}

func converse(conn net.Conn, payload []byte, patience time.Duration) (Answer, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{}, err
	}
	if err := writePayload(conn, payload); err != nil {
		return Answer{}, err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return Answer{}, fmt.Errorf("read an answer: %w", err)
	}
	answer, err := parseAnswer(line, payload)
	if err != nil {
		return Answer{}, err
	}
	back, err := readPayload(r)
	if err != nil {
		return Answer{}, err
	}
	if !bytes.Equal(back, payload) {
		return Answer{}, errors.New("the payload came back changed")
	}
	return answer, nil
}

// query sends one datagram and waits for one.
func query(conn net.Conn, payload []byte, patience time.Duration) (Answer, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{}, err
	}
	if _, err := conn.Write(payload); err != nil {
		return Answer{}, err
	}
	buf := make([]byte, 1<<16)
	size, err := conn.Read(buf)
	if err != nil {
		return Answer{}, err
	}
	if size < len(payload) {
		return Answer{}, fmt.Errorf("sent %d bytes, got %d back", len(payload), size)
	}
	return parseAnswer(bytes.TrimRight(buf[:size], "\x00"), payload)
}

func parseAnswer(text, payload []byte) (Answer, error) {
	var answer Answer
	if err := json.Unmarshal(text, &answer); err != nil {
		return Answer{}, fmt.Errorf("parse an answer: %w", err)
	}
	if answer.Size != len(payload) || answer.Sum != sum(payload) {
		return Answer{}, fmt.Errorf("sent %d bytes, and the server got %d others", len(payload), answer.Size)
	}
	return answer, nil
}
