// Command bench measures veth-host, veth and router as a runtime would meet it: whole processes, real namespaces, real pods. Beside each
// figure stands what it is compared with, measured in the same run and in turns with it, because this machine and this
// minute are never those of the last run. It changes nothing in the namespace it is started in.
//
// A missed bar is a result. Only what could not be measured is an error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func main() {
	// The first thread stays here: CNI_NETNS is a path into its file table, and launchers have tables of their own.
	runtime.LockOSThread()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	runs := flag.Int("runs", 40, "samples of each figure")
	quick := flag.Bool("quick", false, "8 runs, and 200 pods at most: to see that it works")
	private := flag.Bool("private", false, "macvlan in private mode: an announcement does not reach every other pod of the node")
	asJSON := flag.Bool("json", false, "print JSON")
	bin := flag.String("bin", "bin", "directory of veth-host, veth and router")
	tools := flag.String("tools", ".tools", "directory of the reference plugins")
	flag.Parse()
	debug.SetGCPercent(-1) // not in the middle of a measurement; there is little garbage

	b := &bench{runs: *runs, pods: []int{100, 1000}, rounds: 5, slice: 250 * time.Millisecond, macvlan: netlink.MACVLAN_MODE_BRIDGE}
	if *private {
		b.macvlan = netlink.MACVLAN_MODE_PRIVATE
	}
	if *quick {
		b.runs, b.pods, b.rounds, b.slice = 8, []int{20, 200}, 2, 100*time.Millisecond
	}
	b.say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

	var err error
	if b.tiny, err = os.MkdirTemp("", "bench"); err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.tiny) }()
	if err := errors.Join(buildTiny(context.Background(), b.tiny+"/"), chooseIPTables(b.tiny)); err != nil {
		return err
	}
	absBin, err := filepath.Abs(*bin)
	if err != nil {
		return fmt.Errorf("find %s: %w", *bin, err)
	}
	absTools, err := filepath.Abs(*tools)
	if err != nil {
		return fmt.Errorf("find %s: %w", *tools, err)
	}
	b.bare, b.vethHost, b.others = contenders(absBin, absTools, b.tiny)

	res, err := b.all()
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(res)
	} else {
		err = res.markdown(os.Stdout)
	}
	if err == nil && res.Bursts[0].Errors > 0 {
		err = fmt.Errorf("%d ADDs failed", res.Bursts[0].Errors)
	}
	return err
}

// all measures everything, smallest disturbance first.
func (b *bench) all() (*results, error) {
	res := &results{Machine: thisMachine(), Runs: b.runs}
	empty, err := newNode(b.macvlan)
	if err != nil {
		return nil, err
	}
	plugins, err := b.entrants(empty)
	if err != nil {
		return nil, err
	}
	b.say("the first pod of a node")
	for range b.rounds {
		if err := b.first(res); err != nil {
			return nil, err
		}
	}
	b.say("one process at a time")
	if res.Processes, res.Kernel, err = b.process(empty, plugins); err != nil {
		return nil, err
	}
	if err := b.footprint(res.Processes, empty, plugins); err != nil {
		return nil, err
	}
	b.say("STATUS")
	if res.Status, err = b.status(empty); err != nil {
		return nil, err
	}
	b.say("%d at once", burst)
	if res.Bursts, err = b.atOnce(empty); err != nil {
		return nil, err
	}
	veth, err := b.newCrowd(plugins[1])
	if err != nil {
		return nil, err
	}
	router, err := b.newCrowd(plugins[2])
	if err != nil {
		return nil, err
	}
	var nodes []*node // of scale, while few files are open: the nftables library waits by select(2)
	for range len(b.pods) + 1 {
		n, err := newNode(b.macvlan)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	if res.Veth, err = veth.measure(); err != nil {
		return nil, err
	}
	if res.Router, err = router.measure(); err != nil {
		return nil, err
	}
	if res.Scale, err = b.scale(empty, nodes); err != nil {
		return nil, err
	}
	res.judge()
	return res, nil
}

// first measures an ADD on a new node: the one that also writes what all pods of the node share.
func (b *bench) first(res *results) error {
	n, err := newNode(b.macvlan)
	if err != nil {
		return err
	}
	p, err := n.newPod()
	if err != nil {
		return err
	}
	f, err := b.vethHost.run("ADD", p)
	res.FirstAdd = append(res.FirstAdd, f.wall)
	return err
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(text), "model name\t: ")
		m.CPU, _, _ = strings.Cut(after, "\n")
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(text)); len(f) >= 3 {
			m.Load = strings.Join(f[:3], " ")
		}
	}
	return m
}
