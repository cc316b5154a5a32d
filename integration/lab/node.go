package lab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"unsafe"

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

// NewNode makes a node by itself: no wire, no interface but lo, and neither cnitool nor a network that is its own. The
// caller closes it.
func NewNode(o Options) (*Node, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	w := &World{Options: o}
	n, err := newNode(w, "node", nodeOne, 50)
	w.N1 = n
	return n, err
}

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
		if err := privateMounts(); err != nil {
			return err
		}
		if err := chooseIPTables(w.Options.IPTables); err != nil {
			return err
		}
		if w.Options.NoNFTables {
			return refuseNetfilter()
		}
		return nil
	})
	n.env = []string{"PATH=" + w.Options.Shims + ":" + iptablesDir + ":" + os.Getenv("PATH")}
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

// privateMounts gives the calling thread a mount namespace in which /run (the lock of iptables), /var/lib/cni (the
// results that libcni keeps, the leases of host-local) and /var/log (what plugins write) are empty and its own.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); errors.Is(err, unix.EINVAL) {
		// What is mounted below could come back to the machine, so this is not passed over.
		return fmt.Errorf("mount --make-rprivate /: %w: / is no mount point, as in a plain chroot; accepted: a root that has been bind-mounted on itself before chroot(8)", err)
	} else if err != nil {
		return fmt.Errorf("mount --make-rprivate /: %w", err)
	}
	state := "/var/lib/cni"
	if _, err := os.Stat(state); err != nil {
		state = "/var/lib" // nothing is made on the machine's own disk
	}
	dirs := []string{"/run", state}
	if _, err := os.Stat("/var/log"); err == nil { // it need not be there in a virtual machine
		dirs = append(dirs, "/var/log")
	}
	for _, dir := range dirs {
		if err := unix.Mount("none", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount -t tmpfs none %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll(netDir, 0o755); err != nil {
		return fmt.Errorf("make the directory of conflists: %w", err)
	}
	return nil
}

// iptablesDir comes first in the PATH of the node's programs.
const iptablesDir = "/run/iptables"

// ChooseIPTables makes another variant the node's iptables; "" is the machine's choice.
func (n *Node) ChooseIPTables(variant string) error {
	return n.thread.do(func() error { return chooseIPTables(variant) })
}

// chooseIPTables makes a variant the node's iptables, as update-alternatives would.
func chooseIPTables(variant string) error {
	if err := os.RemoveAll(iptablesDir); err != nil || variant == "" {
		return err
	}
	if err := os.MkdirAll(iptablesDir, 0o755); err != nil {
		return fmt.Errorf("choose iptables-%s: %w", variant, err)
	}
	multi, err := exec.LookPath("xtables-" + variant + "-multi")
	if err != nil {
		return fmt.Errorf("choose iptables-%s: %w", variant, err)
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(multi, filepath.Join(iptablesDir, program+suffix)); err != nil {
				return fmt.Errorf("choose iptables-%s: %w", variant, err)
			}
		}
	}
	return nil
}

// refuseNetfilter makes socket(2) fail for the calling thread and for the programs that it starts, if it is one to
// nfnetlink: as on a kernel without it. iptables-legacy does not need one.
func refuseNetfilter() error {
	const (
		offsetNr, offsetArg0, offsetArg2 = 0, 16, 32 // in struct seccomp_data
		allow                            = unix.SECCOMP_RET_ALLOW
		refuse                           = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
		load, equal, ret                 = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	)
	program := []unix.SockFilter{
		{Code: load, K: offsetNr},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: offsetArg0},
		{Code: equal, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: offsetArg2},
		{Code: equal, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: ret, K: refuse},
		{Code: ret, K: allow},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		return fmt.Errorf("install a seccomp filter: %w", err)
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
	settings := n.World.Options.podSysctls()
	if n.World.Options.Overlay != NoOverlay {
		p.IfName = "net1"
		// A network namespace starts with the IPv4 settings of the node, this one among them.
		settings["net/ipv4/ip_forward"] = "1"
	}
	if n.World.Options.NoGateway {
		var ips []string
		for _, f := range n.World.Options.Stack {
			subnet := n.podSubnet(f)
			ips = append(ips, fmt.Sprintf("%s/%d", host(subnet, n.firstPod+len(n.pods)), subnet.Bits()))
		}
		p.Capabilities["ips"] = ips
	}
	n.pods = append(n.pods, p)
	return p, p.Sysctl(settings)
}

// Close frees the node and its pods.
func (n *Node) Close() error {
	var errs []error
	for _, p := range n.pods {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, n.Namespace.Close())...)
}
