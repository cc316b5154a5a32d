package plugin

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// How long an ADD or a DEL waits for another one in the same pod, and how often it asks.
const (
	lockPatience = 2 * time.Second
	lockEvery    = 5 // milliseconds
)

// Lock makes this process the only one that changes a pod, until it closes it or ends: of two ADDs that compute their plans at
// the same time, each would move away what the other has just made. The lock, see flock(2), is on the pod's network namespace
// itself, so that there is no file, and goes with the process, however that ends. Where another one has it for too long, the
// error has CodeTryAgain.
//
// Nobody waits for a pod who has the lock on the node's namespace, see package firewall.
func Lock(pod *routing.Namespace) error {
	for deadline := time.Now().Add(lockPatience); ; _, _ = unix.Poll(nil, lockEvery) {
		switch err := unix.Flock(pod.FD(), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", pod, err)
		case time.Now().After(deadline):
			return Errorf(CodeTryAgain, "CNI_NETNS: %s: another process has had the lock of this network namespace for %s; accepted: one ADD or DEL in a pod at a time",
				pod.Path, lockPatience)
		}
	}
}

// lockPod is Lock where the runtime has named a pod.
func (r *Request) lockPod() error {
	if r.Pod == nil {
		return nil
	}
	return Lock(r.Pod)
}
