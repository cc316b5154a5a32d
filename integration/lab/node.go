package lab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Node is a machine of the cluster: a network namespace that forwards, and file systems of its own where the
// programs that run on it keep their state. Both belong to one thread, which starts those programs; so there is
// nothing to clean up.
type Node struct {
	*Namespace
	World *World

	number   int // the host part of its address
	firstPod int // the host part of its IPAM range begins here
	pods     []*Pod
}

// netDir is where the node's conflists are, in its own mount namespace.
const netDir = "/run/cni/net.d"

func newNode(w *World, name string, addr Pair, firstPod int) (*Node, error) {
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	n := &Node{Namespace: ns, World: w, number: int(addr.V4.As4()[3]), firstPod: firstPod}
	n.thread, err = newThread(func() error {
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return privateMounts()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make node %s: %w", name, err), n.Close())
	}
	settings := w.Options.podSysctls()
	maps.Copy(settings, forwarding)
	settings["net/ipv4/conf/all/src_valid_mark"] = strconv.Itoa(w.Options.SrcValidMark)
	if err := n.Sysctl(settings); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if w.Options.VIP {
		var lines []string
		for _, f := range w.Options.Stack {
			lines = append(lines, fmt.Sprintf("addr add %s dev lo", VIP.Of(f)))
		}
		if err := n.IP(lines...); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// podSysctls is what a pod has too: a new network namespace starts with the IPv4 settings of the node.
func (o *Options) podSysctls() map[string]string {
	settings := map[string]string{}
	for _, conf := range []string{"all", "default"} {
		settings["net/ipv4/conf/"+conf+"/rp_filter"] = strconv.Itoa(o.RPFilter)
		settings["net/ipv4/conf/"+conf+"/arp_ignore"] = strconv.Itoa(o.ARPIgnore)
	}
	return settings
}

// privateMounts gives the calling thread a mount namespace in which /run (the lock of iptables) and /var/lib/cni (the
// results that libcni keeps, the leases of host-local) are empty and its own.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount --make-rprivate /: %w", err)
	}
	state := "/var/lib/cni"
	if _, err := os.Stat(state); err != nil {
		state = "/var/lib" // nothing is made on the machine's own disk
	}
	for _, dir := range []string{"/run", state} {
		if err := unix.Mount("none", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount -t tmpfs none %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll(netDir, 0o755); err != nil {
		return fmt.Errorf("make the directory of conflists: %w", err)
	}
	return nil
}

// NewPod makes the network namespace of a pod of the node, as a container runtime does. It has no interface but lo.
func (n *Node) NewPod(name string) (*Pod, error) {
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	p := &Pod{Namespace: ns, Node: n, IfName: "eth0", Capabilities: map[string]any{}}
	if n.World.Options.NoGateway {
		var ips []string
		for _, f := range n.World.Options.Stack {
			subnet := n.podSubnet(f)
			ips = append(ips, fmt.Sprintf("%s/%d", host(subnet, n.firstPod+len(n.pods)), subnet.Bits()))
		}
		p.Capabilities["ips"] = ips
	}
	n.pods = append(n.pods, p)
	return p, p.Sysctl(n.World.Options.podSysctls())
}

// Close frees the node and its pods.
func (n *Node) Close() error {
	var errs []error
	for _, p := range n.pods {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, n.Namespace.Close())...)
}
