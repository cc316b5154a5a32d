package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"underlay-cni/plugin"
	"underlay-cni/routing"
)

// A namespace is a network namespace that somebody has a name for.
type namespace struct {
	inode     uint64
	path      string // the first name
	inhabited bool   // a process is in it
}

// namespaces are those of a machine.
type namespaces struct {
	byInode map[uint64]*namespace
	byID    map[int]*namespace // by the number that the node has for it
}

// nameNamespaces finds the namespaces by all names that they usually have: what the operator and the runtimes say, what is mounted
// where they mount them, and the processes in them.
func nameNamespaces(node *routing.Namespace, given []string, cached []*Cached) (*namespaces, error) {
	n := &namespaces{byInode: map[uint64]*namespace{}, byID: map[int]*namespace{}}
	for _, path := range given {
		n.add(path)
	}
	for _, c := range cached {
		n.add(c.Netns)
	}
	for _, pattern := range []string{"/run/netns/*", "/var/run/netns/*", "/run/docker/netns/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("list network namespaces: %w", err)
		}
		for _, path := range paths {
			n.add(path)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	for _, path := range processes {
		if ns := n.add(path); ns != nil {
			ns.inhabited = true
		}
	}
	for _, ns := range n.byInode {
		id, err := number(node, ns.path)
		if err == nil && id >= 0 {
			n.byID[id] = ns
		}
	}
	return n, nil
}

// number is what the node calls the namespace at a path.
func number(node *routing.Namespace, path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return node.NSID(fd)
}

// at is the namespace at a path, nil if there is none.
func (n *namespaces) at(path string) *namespace {
	inode, err := inodeOf(path)
	if err != nil {
		return nil
	}
	if ns := n.byInode[inode]; ns != nil {
		return ns
	}
	return &namespace{inode: inode, path: path}
}

func (n *namespaces) add(path string) *namespace {
	inode, err := inodeOf(path)
	if err != nil {
		return nil
	}
	if n.byInode[inode] == nil {
		n.byInode[inode] = &namespace{inode: inode, path: path}
	}
	return n.byInode[inode]
}

var errNoNamespace = errors.New("not a network namespace")

// inodeOf tells namespaces apart. What is no file of nsfs is none, such as a name that has lost its mount.
func inodeOf(path string) (uint64, error) {
	var fs unix.Statfs_t
	if path == "" || unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC {
		return 0, errNoNamespace
	}
	var stat unix.Stat_t
	err := unix.Stat(path, &stat)
	return stat.Ino, err
}

// A runningPlugin is a process that a runtime has started as a CNI plugin. What network it is for it is told on its standard
// input. A process of a pod is none, whatever its environment says: else it could keep what a pod has left from being removed.
type runningPlugin struct {
	plugin.Attachment
	netns string // path of the pod's network namespace
}

func runningPlugins() (all []runningPlugin) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		environ, err := os.ReadFile(file) //nolint:gosec // of procfs
		if err != nil {
			continue // it has ended
		}
		var p runningPlugin
		for variable := range strings.SplitSeq(string(environ), "\x00") {
			switch key, value, _ := strings.Cut(variable, "="); key {
			case "CNI_CONTAINERID":
				p.ContainerID = value
			case "CNI_IFNAME":
				p.IfName = value
			case "CNI_NETNS":
				p.netns = value
			}
		}
		if p.ContainerID != "" && ofNode(filepath.Dir(file)) {
			all = append(all, p)
		}
	}
	return all
}

// ofNode tells whether the process of a directory of /proc may be a runtime's: one of root in the PID namespace of this process. A pod
// has a PID namespace of its own, unless it may do with the node's processes as it likes (hostPID). The mount namespace does not count:
// Multus runs plugins from a container.
func ofNode(process string) bool {
	var stat unix.Stat_t
	if err := unix.Stat(process, &stat); err != nil || stat.Uid != 0 {
		return false // it has ended, or is of a user
	}
	its, err := os.Readlink(filepath.Join(process, "ns/pid"))
	ours, failed := os.Readlink("/proc/self/ns/pid")
	return err == nil && failed == nil && its == ours
}
