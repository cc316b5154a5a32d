package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"underlay-cni/integration/lab"
	"underlay-cni/plugin"
)

// oldRelease is the release whose state on a node the plugins of today take over, and which takes over theirs.
const oldRelease = "34a5403"

// release has the binaries of oldRelease. They are built from the history once, as its own Makefile builds them; a checkout
// without that history is an error, not a test left out.
var release = sync.OnceValues(func() (dir string, err error) {
	if dir, err = filepath.Abs("../../.tools/release-" + oldRelease); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	src, err := os.MkdirTemp(filepath.Dir(dir), "release")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(src) }()
	const script = `git -c safe.directory='*' -C "$ROOT" archive --output="$SRC/src.tar" "$COMMIT"
tar -xf "$SRC/src.tar" -C "$SRC"
make --no-print-directory -C "$SRC" build BIN="$SRC/bin" VERSION="$COMMIT"
mv -T "$SRC/bin" "$DIR"`
	cmd := exec.Command("sh", "-ec", script)
	cmd.Env = append(os.Environ(), "ROOT="+filepath.Dir(filepath.Dir(dir)), "SRC="+src, "COMMIT="+oldRelease, "DIR="+dir)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build release %s, which needs the history of the project (git fetch --unshallow): %w: %s", oldRelease, err, said)
	}
	return dir, nil
})

// living is a node with a pod that plugins of a directory have attached, by way of the real interface plugin and IPAM, and
// whose pings go on until the returned stop. before is what the node was without the pod.
func living(t *testing.T, s *Subject, plugins string) (n *lab.Node, p *lab.Pod, before lab.Dump, stop func()) {
	t.Helper()
	old := *s
	old.Options.Plugins = plugins
	n = alone(t, &old).N1
	p, err := n.NewPod("pod0")
	must(t, err)
	must(t, p.Sysctl(map[string]string{"net/ipv6/conf/default/addr_gen_mode": "1"}))
	if s.IfName != "" {
		p.IfName = s.IfName
		p.Addr = n.Addr // the overlay has its families
		overlay(t, p)
		run(t, s, p, "ip addr add fe80::43/64 dev HOST nodad") // without it the node does not ask for a neighbour: ndisc_send_ns of the kernel
	}
	before = dump(t, n.Namespace)
	must(t, n.Add(p))

	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			var err error
			for _, f := range lab.DualStack {
				err = errors.Join(err, p.Ping(n.Addr.Of(f)))
			}
			if err != nil {
				ended <- err
				return
			}
			select {
			case <-done:
				ended <- nil
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(done)
		if err := <-ended; err != nil {
			t.Errorf("the pod's traffic has stopped: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, p, before, stop
}

// gone compares the node with what it was before the pod, beside what the pods of a network share.
func gone(t *testing.T, s *Subject, n *lab.Node, before lab.Dump) {
	t.Helper()
	same(t, "the node", Without(before, s.Shared), Without(dump(t, n.Namespace), s.Shared))
}

// eachRelease runs a test for every subject, with the directories of the plugins of the old release and of today's.
func eachRelease(t *testing.T, test func(t *testing.T, s *Subject, old, today string)) {
	t.Helper()
	old, err := release()
	must(t, err)
	today, err := filepath.Abs("../../bin")
	must(t, err)
	eachSubject(t, func(t *testing.T, s *Subject) {
		t.Helper()
		test(t, s, old, today)
	})
}

// TestUpgrade: what the old release has made is checked by the plugins of today, repaired by `underlayctl diagnose --fix` where
// they want it otherwise, and removed without a leftover; the pod's traffic goes on until then.
func TestUpgrade(t *testing.T) {
	eachRelease(t, func(t *testing.T, s *Subject, old, today string) {
		t.Helper()
		n, p, before, stop := living(t, s, old)
		n.World.Options.Plugins = today
		if out, err := s.Run("CHECK", p); err != nil {
			f, err := ParseFailure(string(out))
			must(t, err)
			if f.Code != plugin.CodeCheck || f.Msg+f.Details == "" {
				t.Errorf("CHECK of what %s has made: %+v; want the differences, with code %d", oldRelease, *f, plugin.CodeCheck)
			}
		}
		out, err := n.Run(filepath.Join(today, "underlayctl"), "diagnose", "--fix", "--netns", p.Path(), "--container", p.ContainerID(),
			"--ifname", p.IfName, "--conf", "/run/cni/net.d/cni0.conflist", "--systemd-root", t.TempDir())
		if err != nil {
			t.Errorf("diagnose --fix: %v: %s", err, out)
		}
		must(t, n.Check(p))
		stop()
		must(t, n.Del(p))
		gone(t, s, n, before)
	})
}

// TestRollback: what the plugins of today have made is removed by the old release without a leftover, and the next ADD of the
// old release is checked by it; the pod's traffic goes on until then.
func TestRollback(t *testing.T) {
	eachRelease(t, func(t *testing.T, s *Subject, old, today string) {
		t.Helper()
		n, p, before, stop := living(t, s, today)
		n.World.Options.Plugins = old
		stop()
		must(t, n.Del(p))
		gone(t, s, n, before)
		must(t, n.Add(p))
		must(t, n.Check(p))
		must(t, n.Del(p))
		gone(t, s, n, before)
	})
}
