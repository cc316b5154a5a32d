// Demo shows what veth-host does, on this machine and without touching it: two nodes, a router, a client and pods out
// of network namespaces, attached by the real cnitool with a shipped conflist. It prints what an operator sees, the
// table of paths with a verdict each, and how long an ADD takes. The exit status is 1 if a row fails.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

// shipped is the conflist of the demonstration. The nodes share it, but for the part of the subnet that each gives
// addresses from.
const shipped = "conflist/examples/macvlan-dual-stack.conflist"

func main() {
	flavour := flag.String("kube-proxy", string(lab.NFT), "flavour of the kube-proxy stand-in: "+fmt.Sprint(lab.Flavours))
	strict := flag.Int("rp-filter", 1, "the nodes' rp_filter: 0, 1 or 2")
	flag.Parse()
	if err := run(lab.Flavour(*flavour), *strict); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(flavour lab.Flavour, rpFilter int) (err error) {
	list, err := lab.ReadConflist(shipped)
	if err != nil {
		return err
	}
	config := paths.Config{
		Flavour: flavour, IPMasq: true,
		Options: lab.Options{RPFilter: rpFilter, Edit: func(c *lab.Conflist) { share(c, list) }},
	}
	w, err := paths.New(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()

	title("The world: namespaces on this machine, one wire")
	fmt.Printf(`  outside %s -- router %s --+-- node n1 %s: pods a %s, b %s
                                          +-- node n2 %s: pod  c %s
                                          +-- client  %s
  kube-proxy: %s; rp_filter of the nodes: %d; IPv6 in the same way
`, w.Outside.Addr.V4, w.Router.Addr.V4, w.N1.Addr.V4, w.A.Addr.V4, w.B.Addr.V4, w.N2.Addr.V4, w.C.Addr.V4, w.Client.Addr.V4, flavour, rpFilter)

	title(fmt.Sprintf("cnitool add %s: what the chain of %s returned", list.Name, shipped))
	result, err := json.Marshal(w.A.Result)
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	fmt.Println(string(result))
	if err := operatorsView(w); err != nil {
		return err
	}
	took, version, err := timeAdd(w)
	if err != nil {
		return err
	}

	title("The table of paths, IPv4 and IPv6, every protocol of the row")
	failed := 0
	verdict := func(number int, name string, err error) {
		said := "ok"
		if err != nil {
			said, failed = "FAILED: "+err.Error(), failed+1
		}
		fmt.Printf("%3d  %-62s %s\n", number, name, said)
	}
	for row, err := range w.Verdicts() {
		verdict(row.Number, row.Name, err)
	}
	verdict(16, "all of it: VIP on lo, arp_ignore, src_valid_mark, eth0.100", elsewhere(config))
	fmt.Printf("\nAn ADD of veth-host took %.1f ms, start to end of the process; the same program answered VERSION in %.1f ms (medians of %d).\n",
		milliseconds(took), milliseconds(version), adds)
	if failed > 0 {
		return fmt.Errorf("%d rows failed", failed)
	}
	return nil
}

// elsewhere is row 16: the other rows in a world that makes each of them as hard as it can be.
func elsewhere(c paths.Config) (err error) {
	c.VIP, c.ARPIgnore, c.SrcValidMark, c.HostInterface = true, 1, 1, "eth0.100"
	c.Edit = nil // the shipped conflist says enp1s0
	w, err := paths.New(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	var errs []error
	for row, err := range w.Verdicts() {
		if err != nil {
			errs = append(errs, fmt.Errorf("row %d: %w", row.Number, err))
		}
	}
	return errors.Join(errs...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// share makes a node's conflist the shipped one, with the ranges of addresses that are the node's.
func share(c, list *lab.Conflist) {
	own := c.Plugin("macvlan")
	c.Name, c.CNIVersion, c.Plugins = list.Name, list.CNIVersion, nil
	for _, p := range list.Plugins {
		c.Plugins = append(c.Plugins, maps.Clone(p))
	}
	ipam, ok := own["ipam"].(map[string]any)
	if !ok {
		return
	}
	shared, ok := list.Plugin("macvlan")["ipam"].(map[string]any)
	if !ok {
		return
	}
	ours := maps.Clone(shared)
	ours["ranges"] = ipam["ranges"]
	c.Plugin("macvlan")["ipam"] = ours
}

// operatorsView prints the commands of the runbook with their output.
func operatorsView(w *paths.World) error {
	hostEnd := w.A.HostEnd()
	title("What the operator sees, in the pod")
	pod := []string{"ip -br link show", "ip route show", "ip rule show", "ip -6 route show"}
	if err := show(w.A.Namespace, "pod ", pod...); err != nil {
		return err
	}
	title("… and on its node")
	if err := show(w.N1.Namespace, "node", "ip link show "+hostEnd, "ip route show", "ip rule show"); err != nil {
		return err
	}
	rules, err := w.N1.Run("ip", "rule", "show")
	if err != nil {
		return err
	}
	_, table, _ := strings.Cut(rules, "iif "+hostEnd+" lookup ")
	table, _, _ = strings.Cut(table, " ")
	table, _, _ = strings.Cut(table, "\n")
	return show(w.N1.Namespace, "node", "ip route show table "+table, "nft list table inet veth-host-underlay")
}

func show(n *lab.Namespace, prompt string, commands ...string) error {
	for _, command := range commands {
		words := strings.Fields(command)
		out, err := n.Run(words[0], words[1:]...)
		if err != nil {
			return err
		}
		fmt.Printf("%s # %s\n%s\n", prompt, command, strings.TrimRight(out, "\n"))
	}
	return nil
}

// adds is how many ADDs are timed.
const adds = 9

// timeAdd attaches pods by macvlan alone, and times veth-host for each as a process of its own, and beside it the same
// program with nothing to do.
func timeAdd(w *paths.World) (add, version time.Duration, err error) {
	var took, idle []time.Duration
	for i := range adds {
		p, err := w.N1.NewPod(fmt.Sprintf("timed-%d", i))
		if err != nil {
			return 0, 0, err
		}
		alone := w.N1.Conflist()
		alone.Plugins = alone.Plugins[:1]
		if err := w.N1.AddTo(alone, p); err != nil {
			return 0, 0, err
		}
		request := w.N1.Conflist().Request("veth-host")
		request["prevResult"] = p.Result
		for _, command := range []struct {
			verb string
			took *[]time.Duration
		}{{"VERSION", &idle}, {"ADD", &took}} {
			start := time.Now()
			_, err = w.N1.Plugin("veth-host", request,
				"CNI_COMMAND="+command.verb, "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME="+p.IfName, "CNI_NETNS="+p.Path())
			if err != nil {
				return 0, 0, err
			}
			*command.took = append(*command.took, time.Since(start))
		}
		if err := w.N1.Del(p); err != nil {
			return 0, 0, err
		}
	}
	slices.Sort(took)
	slices.Sort(idle)
	return took[adds/2], idle[adds/2], nil
}

func title(s string) { fmt.Printf("\n== %s\n", s) }
