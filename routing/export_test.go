package routing

import "golang.org/x/sys/unix"

// Deafen closes the namespace's netlink socket: to each question that follows the kernel says EBADF.
func (n *Namespace) Deafen() {
	_ = unix.Close(n.conn.fd)
	n.conn.fd = -1 // and no file that somebody opens meanwhile
}
