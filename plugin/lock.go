package plugin

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/firewall/lockfile"
	"underlay-cni/routing"
)

// lockPatience is how long an ADD or a DEL waits for another one in the same pod.
const lockPatience = 2 * time.Second

// Lock makes this process the only one that changes a pod, until it releases it or ends: of two ADDs that compute their plans
// at the same time, each would move away what the other has just made. Where another one has it for too long, the error has
// CodeTryAgain. Who takes it twice without a release waits for itself.
func Lock(pod *routing.Namespace) (release func(), err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(pod.FD(), &stat); err != nil {
		return nil, fmt.Errorf("lock %s: %w", pod, err)
	}
	release, err = lockfile.Take(lockfile.Pod, stat.Ino, lockPatience)
	if errors.Is(err, lockfile.ErrHeld) {
		return nil, Errorf(CodeTryAgain, "CNI_NETNS: %s: another process has had the lock of this network namespace for %s; accepted: one ADD or DEL in a pod at a time",
			pod.Path, lockPatience)
	}
	return release, err
}

// lockPod is Lock where the runtime has named a pod; the process ends with the request, and the lock with it.
func (r *Request) lockPod() error {
	if r.Pod == nil {
		return nil
	}
	_, err := Lock(r.Pod)
	return err
}
