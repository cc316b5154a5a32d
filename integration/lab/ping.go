package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

var pings atomic.Uint32 // tells apart the echo requests of this process

// Ping sends an ICMP echo request from the machine and waits for its reply. Where none comes it sends another: a link that has
// just come up may drop the first packet.
func (n *Namespace) Ping(to netip.Addr) error {
	if n.ping(to) == nil {
		return nil
	}
	if err := n.ping(to); err != nil {
		return fmt.Errorf("%s pings %s: %w", n.Name, to, err)
	}
	return nil
}

func (n *Namespace) ping(to netip.Addr) error {
	conn, sent, err := n.echo(to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		size, _, err := conn.ReadFromIP(buf) // without the IPv4 header
		if err != nil {
			return err
		}
		if size >= len(sent) && buf[0] == echoTypes[to.Is6()].reply && string(buf[4:8]) == string(sent[4:8]) {
			return nil
		}
	}
}

// echoTypes are the ICMP types of echo, by whether it is ICMPv6.
var echoTypes = map[bool]struct{ request, reply byte }{false: {8, 0}, true: {128, 129}}

// echo sends an echo request.
func (n *Namespace) echo(to netip.Addr) (conn *net.IPConn, message []byte, err error) {
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	err = n.Do(func() (err error) {
		conn, err = net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice()})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	// Type, code, checksum, and four bytes that come back: the identifier and the sequence number.
	message = binary.BigEndian.AppendUint32([]byte{echoTypes[to.Is6()].request, 0, 0, 0}, pings.Add(1)<<16|1)
	if to.Is4() { // the kernel sums ICMPv6
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	if _, err := conn.Write(message); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, message, nil
}

// checksum is that of RFC 1071, over an even number of bytes.
func checksum(b []byte) uint16 {
	total := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}
