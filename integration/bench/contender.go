package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const cniVersion = "1.1.0" // the first with STATUS

// A contender is a program that is measured.
type contender struct {
	Name   string
	path   string
	config func(*pod) any // standard input; nil if it is not a CNI plugin
	ifName string         // CNI_IFNAME
	bin    string         // comes first in its PATH

	overlay bool // its pods have eth0 of an overlay, and CNI_IFNAME is on the wire
}

// contenders are veth-host with nftables, the floor under it, and others: veth and router, which come first, veth-host with
// both variants of iptables, and the reference plugin that does nearest to the same.
func contenders(bin, tools, tiny string) (bare, vethHost contender, others []contender) {
	ours, ptp := filepath.Join(bin, "veth-host"), filepath.Join(tools, "ptp")
	for i, name := range []string{"veth", "router"} {
		others = append(others, contender{
			Name: name, path: filepath.Join(bin, name), config: underlayConfig(name, filepath.Join(tiny, name+".log")),
			ifName: []string{"eth0", "net1"}[i], overlay: i > 0,
		})
	}
	for _, variant := range []string{"nft", "legacy"} {
		others = append(others, contender{
			Name: "veth-host, iptables-" + variant, path: ours, config: vethHostConfig("iptables"), ifName: "eth0",
			bin: filepath.Join(tiny, variant),
		})
	}
	for _, backend := range []string{"nftables", "iptables"} {
		others = append(others, contender{Name: "ptp, " + backend, path: ptp, config: ptpConfig(backend), ifName: "ptp0"})
	}
	return contender{Name: "bare Go process", path: filepath.Join(tiny, "bare")},
		contender{Name: "veth-host", path: ours, config: vethHostConfig("nftables"), ifName: "eth0"}, others
}

// chooseIPTables makes a directory for each variant of iptables, where it has the name iptables.
func chooseIPTables(dir string) error {
	for _, variant := range []string{"nft", "legacy"} {
		multi, err := exec.LookPath("xtables-" + variant + "-multi")
		if err != nil {
			return fmt.Errorf("choose iptables-%s: %w", variant, err)
		}
		if err := os.Mkdir(filepath.Join(dir, variant), 0o755); err != nil {
			return fmt.Errorf("choose iptables-%s: %w", variant, err)
		}
		for _, program := range []string{"iptables", "iptables-restore", "ip6tables", "ip6tables-restore"} {
			if err := os.Symlink(multi, filepath.Join(dir, variant, program)); err != nil {
				return fmt.Errorf("choose iptables-%s: %w", variant, err)
			}
		}
	}
	return nil
}

func vethHostConfig(firewall string) func(*pod) any {
	return func(p *pod) any {
		return map[string]any{
			"cniVersion": cniVersion, "name": "cni0", "type": "veth-host",
			"hostInterface": hostInterface, "containerInterface": "veth0",
			"ipMasq": true, "serviceCidr": "172.20.252.0/22", "firewall": firewall,
			"prevResult": p.prev,
		}
	}
}

// underlayConfig is for veth and router. It keeps the log that they have unless they are told otherwise, in a file of its
// own.
func underlayConfig(plugin, log string) func(*pod) any {
	return func(p *pod) any {
		return map[string]any{
			"cniVersion": cniVersion, "name": "cni0", "type": plugin, "firewall": "nftables",
			"service_hijack_subnet": []any{"172.20.252.0/22"}, "overlay_hijack_subnet": []any{"10.240.0.0/12"},
			"log_options": map[string]any{"log_file": log},
			"prevResult":  p.prev,
		}
	}
}

// ptpConfig takes the cheapest IPAM there is: one more process, but no files. The network is not that of eth0.
func ptpConfig(backend string) func(*pod) any {
	return func(p *pod) any {
		ip := p.addr.Addr().As4()
		ip[1] = 30
		own := netip.PrefixFrom(netip.AddrFrom4(ip), 16)
		address := map[string]any{"address": own, "gateway": own.Masked().Addr().Next()}
		return map[string]any{
			"cniVersion": cniVersion, "name": "ptp", "type": "ptp", "ipMasq": true, "ipMasqBackend": backend,
			"ipam": map[string]any{"type": "static", "addresses": []any{address}},
		}
	}
}

// command is one call of the contender for a pod; without a pod, of a program that is not a plugin.
func (c contender) command(verb string, p *pod) (command, error) {
	env := []string{"PATH=" + c.bin + ":" + os.Getenv("PATH")}
	if c.config == nil {
		return command{path: c.path, env: env}, nil
	}
	stdin, err := json.Marshal(c.config(p))
	if err != nil {
		return command{}, fmt.Errorf("encode the configuration of %s: %w", c.Name, err)
	}
	return command{path: c.path, stdin: stdin, env: append(env,
		"CNI_COMMAND="+verb, "CNI_CONTAINERID="+p.id, "CNI_IFNAME="+c.ifName,
		"CNI_NETNS="+p.ns.path(), "CNI_PATH="+filepath.Dir(c.path),
	)}, nil
}

// run calls the contender for a pod, on the pod's node.
func (c contender) run(verb string, p *pod) (finished, error) {
	cmd, err := c.command(verb, p)
	if err != nil {
		return finished{}, err
	}
	return p.node.launcher.run(cmd)
}

// peakRSS is the peak resident set, in bytes, of one call.
func (c contender) peakRSS(peak, verb string, p *pod) (int64, error) {
	cmd, err := c.command(verb, p)
	if err != nil {
		return 0, err
	}
	cmd.args, cmd.path = []string{cmd.path}, peak
	f, err := p.node.launcher.run(cmd)
	if err != nil {
		return 0, err
	}
	lines := bytes.Fields(f.stderr)
	if len(lines) == 0 {
		return 0, fmt.Errorf("%s printed nothing", peak)
	}
	kib, err := strconv.ParseInt(string(lines[len(lines)-1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what %s printed: %w", peak, err)
	}
	return kib << 10, nil
}

func (c contender) size() (int64, error) {
	info, err := os.Stat(c.path)
	if err != nil {
		return 0, fmt.Errorf("%w (make build cni-tools)", err)
	}
	return info.Size(), nil
}

// buildTiny builds the programs below this one into dir, as the plugins are built.
func buildTiny(ctx context.Context, dir string) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", dir,
		"underlay-cni/integration/bench/bare", "underlay-cni/integration/bench/peakrss")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return nil
}
