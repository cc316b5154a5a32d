// Package lockfile makes processes that change the same network namespace take turns. The locks are on bytes of one file in
// /run that only root opens: a lock on the namespace itself, as on /proc/self/ns/net, is one that every process in the pod
// can take too, without any privilege, and keep. One file for all pods: nothing is left of a pod that has gone.
package lockfile

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the file. It is empty, and stays; /run is empty after each start of the node.
const Path = "/run/underlay-cni.lock"

// What is locked in a network namespace. Each has a range of bytes of the file, and a namespace the byte of its inode's
// number, which has 32 bits (see proc_alloc_inum in the kernel).
const (
	Pod      = int64(0)       // everything that one ADD or DEL changes in a pod
	Firewall = int64(1) << 32 // what the iptables backend writes for all pods of a node
)

// ErrHeld says that another process has had the lock for as long as the caller would wait.
var ErrHeld = errors.New("another process has the lock")

const askEvery = 5 // milliseconds

// Take waits for the lock of the namespace with that inode number, but no longer than patience, and then returns an error that is
// ErrHeld. The lock, F_OFD_SETLK of fcntl(2), is gone with release or with the process, however that ends; a process that takes
// it twice waits for itself. Where there can be no such file (no /run, a read-only one, a full one, a caller that is not root)
// there is no lock either, and no error: a pod without a lock is better than no pod.
func Take(what int64, inode uint64, patience time.Duration) (release func(), err error) {
	// Whoever else could put a link into /run is root already; O_NOFOLLOW and O_NONBLOCK are for root's mistakes.
	fd, err := unix.Open(Path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	for _, never := range []error{unix.ENOENT, unix.ENOTDIR, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EACCES, unix.EPERM, unix.ELOOP, unix.EISDIR, unix.ENXIO} {
		if errors.Is(err, never) {
			return func() {}, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", Path, err)
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: what + int64(inode&0xffffffff), Len: 1}
	for deadline := time.Now().Add(patience); ; _, _ = unix.Poll(nil, askEvery) {
		switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &whole); {
		case err == nil:
			return func() { _ = unix.Close(fd) }, nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			_ = unix.Close(fd)
			return nil, fmt.Errorf("lock %s: %w", Path, err)
		case time.Now().After(deadline):
			_ = unix.Close(fd)
			return nil, ErrHeld
		}
	}
}
