package plugin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/firewall/lockfile"
	"underlay-cni/integration/nettest"
)

// hold takes the lock of a network namespace as another process does: by an open file of its own.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	var stat unix.Stat_t
	nettest.Must(t, unix.Stat(path, &stat))
	release, err := lockfile.Take(lockfile.Pod, stat.Ino, time.Second)
	nettest.Must(t, err)
	return release
}

// TestLock: while somebody has the pod, ADD and DEL wait; then ADD asks to be called again, and DEL goes on. What changes nothing in the pod does
// not wait, and neither does another pod.
func TestLock(t *testing.T) {
	for _, test := range []struct {
		verb, what string
		waits      bool
	}{
		{"ADD", "the pod", true},
		{"DEL", "the pod", true},
		{"CHECK", "the pod", false},
		{"GC", "the pod", false},
		{"STATUS", "the pod", false},
		{"ADD", "another pod", false},
		{"ADD", "the node", false},
		{"DEL", "the node", false},
	} {
		t.Run(test.verb+", "+test.what, func(t *testing.T) {
			t.Parallel()
			pod, _ := nettest.Namespace(t)
			held := pod
			switch test.what {
			case "another pod":
				held, _ = nettest.Namespace(t)
			case "the node":
				held = "/proc/self/ns/net"
			}
			release := hold(t, held)
			config := strings.Replace(request, "1.0.0", "1.1.0", 1) // of which GC and STATUS are
			begin := time.Now()
			got := start(t, "good", config, append(verbEnv(test.verb), "CNI_NETNS="+pod)...)
			took := time.Since(begin)
			if !test.waits {
				release()
				if got.status != 0 || took >= lockPatience {
					t.Errorf("%s: got %+v", took, got)
				}
				return
			}
			if test.verb == "DEL" {
				release()
				if got.status != 0 || took < lockPatience {
					t.Errorf("%s: got %+v", took, got)
				}
				return
			}
			want := failure{"1.1.0", CodeTryAgain, fmt.Sprintf("CNI_NETNS: %s: another process has had the lock of this network namespace for 2s; accepted: one ADD or DEL in a pod at a time", pod), ""}
			if f := got.failed(t); f != want || took < lockPatience {
				t.Errorf("%s: got %+v\nwant %+v", took, f, want)
			}

			done := make(chan answer)
			go func() { done <- start(t, "good", config, append(verbEnv(test.verb), "CNI_NETNS="+pod)...) }()
			select {
			case got := <-done:
				t.Errorf("it has not waited: %+v", got)
			case <-time.After(lockPatience / 10):
				release()
				if got := <-done; got.status != 0 || strings.Contains(got.stdout, "code") {
					t.Errorf("after the other has gone: %+v", got)
				}
			}
		})
	}
}
