package main

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// burst is how many pods start at once.
const burst = 50

// kernelWork is bareAttach in the tables.
const kernelWork = "bare kernel work, no process"

// A bench is what the measurements share.
type bench struct {
	runs    int
	pods    []int // on the nodes of the scale measurement; the bars are about the last
	rounds  int   // of the burst
	slice   time.Duration
	macvlan netlink.MacvlanMode // of the pods' interface on the wire
	tiny    string              // directory of the programs that buildTiny makes

	bare, vethHost contender
	others         []contender // veth, router, veth-host by iptables, and the reference plugin; each on a node of its own
	say            func(format string, args ...any)
}

// An entrant is a contender with its node. Backends sweep each other's rules from a node, and ptp leaves NAT tables
// behind.
type entrant struct {
	contender
	node *node
}

// entrants are all plugins that are measured, ours first.
func (b *bench) entrants(n *node) ([]entrant, error) {
	all := []entrant{{b.vethHost, n}}
	for _, c := range b.others {
		own, err := newNode(b.macvlan)
		if err != nil {
			return nil, err
		}
		own.overlay = c.overlay
		all = append(all, entrant{c, own})
	}
	return all, nil
}

// process measures one process at a time on a node without other pods: everything once a round, so that what disturbs
// the machine disturbs all alike.
func (b *bench) process(n *node, plugins []entrant) (res []processResult, kernel processResult, err error) {
	res = []processResult{{Name: b.bare.Name}}
	for _, p := range plugins {
		res = append(res, processResult{Name: p.Name})
	}
	kernel.Name = kernelWork
	for range b.runs {
		if err := b.startBare(n, &res[0].Add); err != nil {
			return nil, kernel, err
		}
		for i, c := range plugins {
			if err := b.addDel(c.contender, c.node, &res[i+1].Add, &res[i+1].Del); err != nil {
				return nil, kernel, err
			}
			if i > 0 {
				continue
			}
			// Right beside the DEL that it is compared with.
			if err := bareAddDel(n, &kernel.Add, &kernel.Del); err != nil {
				return nil, kernel, err
			}
		}
	}
	return res, kernel, nil
}

// startBare runs the bare process where an ADD would run, after a new pod has been made, and notes how long it took.
func (b *bench) startBare(n *node, took *samples) error {
	p, err := n.newPod()
	if err != nil {
		return err
	}
	f, err := b.bare.run("", p)
	if err != nil {
		return err
	}
	*took = append(*took, f.wall)
	return p.leave()
}

// addDel runs ADD and DEL for a new pod of the node and notes how long each took.
func (b *bench) addDel(c contender, n *node, add, del *samples) error {
	p, err := n.newPod()
	if err != nil {
		return err
	}
	a, err := c.run("ADD", p)
	if err != nil {
		return err
	}
	d, err := c.run("DEL", p)
	if err != nil {
		return err
	}
	*add, *del = append(*add, a.wall), append(*del, d.wall)
	return p.leave()
}

// status measures what a runtime asks again and again.
func (b *bench) status(n *node) (took samples, err error) {
	p, err := n.newPod()
	if err != nil {
		return nil, err
	}
	for range b.runs {
		f, err := b.vethHost.run("STATUS", p)
		if err != nil {
			return nil, err
		}
		took = append(took, f.wall)
	}
	return took, p.leave()
}

// bareAddDel makes and deletes a veth for a new pod as the plugin does, and notes how long each took.
func bareAddDel(n *node, add, del *samples) error {
	p, err := n.newPod()
	if err != nil {
		return err
	}
	work, err := newBareAttach(p)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := work.add(); err != nil {
		return err
	}
	*add = append(*add, time.Since(start))
	took, err := work.del()
	if err != nil {
		return err
	}
	*del = append(*del, took)
	return p.leave()
}

// footprint fills in sizes and peak resident sets.
func (b *bench) footprint(res []processResult, n *node, plugins []entrant) error {
	peak := filepath.Join(b.tiny, "peakrss")
	for i, c := range append([]entrant{{b.bare, n}}, plugins...) {
		var err error
		if res[i].Size, err = c.size(); err != nil {
			return err
		}
		p, err := c.node.newPod()
		if err != nil {
			return err
		}
		verbs := []string{"ADD", "DEL"}
		if c.config == nil {
			verbs = verbs[:1]
		}
		for _, verb := range verbs {
			rss, err := c.peakRSS(peak, verb, p)
			if err != nil {
				return err
			}
			res[i].RSS = max(res[i].RSS, rss)
		}
	}
	return nil
}

// atOnce measures ADDs of many pods at once, beside the kernel work alone and the processes alone.
func (b *bench) atOnce(n *node) ([]burstResult, error) {
	crowd := make([]*launcher, burst)
	for i := range crowd {
		var err error
		if crowd[i], err = newLauncher(n.ns); err != nil {
			return nil, err
		}
	}
	ours, kernel, process := burstResult{Name: b.vethHost.Name}, burstResult{Name: kernelWork}, burstResult{Name: b.bare.Name}
	for range b.rounds {
		// bare processes
		_, err := process.measure(func(i int) error {
			_, err := crowd[i].run(command{path: b.bare.path})
			return err
		})
		if err != nil {
			return nil, err
		}
		// bare kernel work
		works := make([]*bareAttach, burst)
		for i := range works {
			p, err := n.newPod()
			if err != nil {
				return nil, err
			}
			if works[i], err = newBareAttach(p); err != nil {
				return nil, err
			}
		}
		if _, err := kernel.measure(func(i int) error { return works[i].add() }); err != nil {
			return nil, err
		}
		for _, w := range works {
			if _, err := w.del(); err != nil {
				return nil, err
			}
		}
		// the plugin
		adds, dels := make([]command, burst), make([]command, burst)
		for i := range adds {
			p, err := n.newPod()
			if err != nil {
				return nil, err
			}
			if adds[i], err = b.vethHost.command("ADD", p); err != nil {
				return nil, err
			}
			if dels[i], err = b.vethHost.command("DEL", p); err != nil {
				return nil, err
			}
		}
		failed, err := ours.measure(func(i int) error {
			_, err := crowd[i].run(adds[i])
			return err
		})
		if failed > 0 {
			b.say("%d of %d ADDs at once failed: %v", failed, burst, err)
		}
		for i := range dels {
			if _, err := n.launcher.run(dels[i]); err != nil {
				return nil, err
			}
		}
	}
	return []burstResult{ours, kernel, process}, nil
}

// measure runs f for each pod of the burst at once, adds the time until all are done to the result, and counts and
// joins the errors.
func (r *burstResult) measure(f func(i int) error) (failed int, err error) {
	errs := make([]error, burst)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(burst)
	for i := range burst {
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = f(i)
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	done.Wait()
	r.Total = append(r.Total, time.Since(began))
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	r.Errors += failed
	return failed, errors.Join(errs...)
}

// scale measures ADD, DEL and forwarding on nodes that differ in how many pods they have, taking turns. ADD and DEL
// are measured before the pods are there too: all pods of a machine have namespaces in one kernel, which the other
// nodes of this one feel as well. Of the others, one is for each number of pods, and the last for none, ever.
func (b *bench) scale(empty *node, others []*node) ([]scaleResult, error) {
	never := others[len(b.pods)]
	nodes := append([]*node{empty}, others[:len(b.pods)]...)
	alone, res := scaleResult{Name: "0"}, []scaleResult{{Name: "0, beside the others"}}
	for _, pods := range b.pods {
		res = append(res, scaleResult{Name: count(pods), Pods: pods})
	}
	b.say("ADD and DEL without pods")
	for range b.runs {
		for _, n := range nodes {
			if err := b.addDel(b.vethHost, n, &alone.Add, &alone.Del); err != nil {
				return nil, err
			}
		}
	}
	for i, n := range nodes[1:] {
		if err := b.populate(b.vethHost, n, b.pods[i]); err != nil {
			return nil, err
		}
	}
	b.say("ADD and DEL with %v pods", b.pods)
	for range b.runs {
		for i, n := range nodes {
			if err := b.addDel(b.vethHost, n, &res[i].Add, &res[i].Del); err != nil {
				return nil, err
			}
		}
	}
	nodes, res = append(nodes, never), append(res, scaleResult{Name: "veth-host never ran here"})
	b.say("forwarding with %v pods", b.pods)
	for round := range b.runs {
		for turn := range nodes {
			i := (turn + round) % len(nodes) // no node is always the first
			rate, err := nodes[i].forward(b.slice)
			if err != nil {
				return nil, err
			}
			res[i].Forwarding = append(res[i].Forwarding, rate)
		}
	}
	return append([]scaleResult{alone}, res...), nil
}

// populate gives the node real pods, through a plugin.
func (b *bench) populate(c contender, n *node, pods int) error {
	start := time.Now()
	for range pods {
		p, err := n.newPod()
		if err != nil {
			return err
		}
		if _, err := c.run("ADD", p); err != nil {
			return err
		}
	}
	b.say("a node with %d pods, made in %.1f s", pods, time.Since(start).Seconds())
	return nil
}
