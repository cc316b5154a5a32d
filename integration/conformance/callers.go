package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"underlay-cni/integration/lab"
)

// callerRows replay what the callers do, with the real libcni and the whole conflist, plugins after the one under test
// included.
func callerRows() []Row {
	return []Row{
		{
			Name: "callers/containerd", Level: Must, run: containerd,
			Spec: "containerd: STATUS; a second network in the same namespace, at the same time; CNI_ARGS in random order; three DELs: with the namespace, then twice with an empty one and without prevResult.",
		},
		{
			Name: "callers/CRI-O", Level: Must, run: crio,
			Spec: "CRI-O: VERSION; ADD and CHECK at once; GC with a list, and with null when there are no pods.",
		},
		{
			Name: "callers/Multus", Level: Must, run: multus,
			Spec: "Multus: net1 and net2 after eth0 of another network; args.cni; no CHECK; DEL in reverse, and eth0 has lost nothing.",
		},
		{
			Name: "callers/cnitool", Level: Must, run: cnitool,
			Spec: "cnitool: no CNI_ARGS; ADD, CHECK, STATUS, DEL; GC without a list.",
		},
	}
}

// A caller is a runtime on the node.
type caller struct {
	*libcni.CNIConfig
	t *trial
}

func (t *trial) caller() *caller {
	return &caller{libcni.NewCNIConfigWithCacheDir(t.Dirs, t.cache, &onNode{trial: t}), t}
}

// onNode starts plugins on the node, for libcni.
type onNode struct {
	version.PluginDecoder
	*trial
}

// FindInPath finds the plugin under test where it is.
func (n *onNode) FindInPath(plugin string, _ []string) (string, error) { return n.find(plugin) }

// ExecPlugin runs a plugin and makes an error of what it prints, as libcni does.
func (n *onNode) ExecPlugin(_ context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	a, err := n.exec(path, stdin, env)
	if err != nil || a.status == 0 {
		return a.stdoutOf(), err
	}
	e := &types.Error{}
	if err := json.Unmarshal(a.stdout, e); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", a.verb, err, a.err)
	}
	return nil, fmt.Errorf("%s: %w", a.verb, e)
}

func (a *answer) stdoutOf() []byte {
	if a == nil {
		return nil
	}
	return a.stdout
}

// network is a conflist as libcni reads it, in the version of the trial.
func (c *caller) network(list *lab.Conflist, change func(plugin map[string]any)) (*libcni.NetworkConfigList, error) {
	return c.networkIn(list, c.t.version, change)
}

func (c *caller) networkIn(list *lab.Conflist, of string, change func(plugin map[string]any)) (*libcni.NetworkConfigList, error) {
	whole := *list
	whole.CNIVersion, whole.CNIVersions = of, nil
	whole.Plugins = nil
	for _, p := range list.Plugins {
		p = maps.Clone(p)
		if change != nil {
			change(p)
		}
		whole.Plugins = append(whole.Plugins, p)
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(text)
}

// warm adds and deletes a container: what a network's containers share stays.
func (c *caller) warm(networks ...*libcni.NetworkConfigList) (lab.Dump, error) {
	pod, err := c.t.container()
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		rt := pod.runtime("warm0", nil)
		if _, err := c.AddNetworkList(context.Background(), n, rt); err != nil {
			return nil, err
		}
		if err := c.DelNetworkList(context.Background(), n, rt); err != nil {
			return nil, err
		}
	}
	if err := c.t.delEth0(pod); err != nil {
		return nil, err
	}
	return c.t.state()
}

func (c *container) runtime(ifName string, args [][2]string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: c.id, NetNS: c.netns, IfName: ifName, Args: args}
}

// kubernetes is CNI_ARGS of the runtimes of Kubernetes.
func (c *container) kubernetes() [][2]string {
	return [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", "default"},
		{"K8S_POD_NAME", c.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", c.id},
		{"K8S_POD_UID", "7f9d3cbb-5f0a-4a31-8f58-7a3f0b6e6c11"},
	}
}

func containerd(t *trial) error {
	c := t.caller()
	ctx := context.Background()
	other, err := t.second()
	if err != nil {
		return err
	}
	list, err := c.network(t.List, nil)
	if err != nil {
		return err
	}
	second, err := c.network(other, nil)
	if err != nil {
		return err
	}
	before, err := c.warm(list, second)
	if err != nil {
		return err
	}
	if err := c.GetStatusNetworkList(ctx, list); err != nil {
		return err
	}
	pod, err := t.container()
	if err != nil {
		return err
	}
	args := pod.kubernetes()
	backwards := slices.Clone(args)
	slices.Reverse(backwards)
	networks := []*libcni.NetworkConfigList{list, second}
	confs := []*libcni.RuntimeConf{pod.runtime(pod.IfName, args), pod.runtime("eth1", backwards)}
	if err := c.together(networks, confs); err != nil {
		return err
	}
	if err := both(pod, pod.IfName, "eth1"); err != nil {
		return err
	}
	for n := range 3 {
		for i, network := range networks {
			if err := c.DelNetworkList(ctx, network, confs[i]); err != nil {
				return fmt.Errorf("DEL %d of %s: %w", n+1, network.Name, err)
			}
			confs[i].NetNS = ""
		}
		if err := pod.Close(); err != nil {
			return err
		}
	}
	if err := t.delEth0(pod); err != nil {
		return err
	}
	return t.back(before)
}

// together adds a container to the networks at the same time.
func (c *caller) together(networks []*libcni.NetworkConfigList, confs []*libcni.RuntimeConf) error {
	errs := make([]error, len(networks))
	var running sync.WaitGroup
	for i, network := range networks {
		running.Go(func() {
			_, err := c.AddNetworkList(context.Background(), network, confs[i])
			if err != nil {
				errs[i] = fmt.Errorf("ADD to %s: %w", network.Name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// both wants the container to have the interfaces.
func both(c *container, names ...string) error {
	is, err := links(c)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := is[name]; !ok {
			return fmt.Errorf("the container has no %s", name)
		}
	}
	return nil
}

func crio(t *trial) error {
	c := t.caller()
	ctx := context.Background()
	list, err := c.network(t.List, nil)
	if err != nil {
		return err
	}
	if _, err := c.ValidateNetworkList(ctx, list); err != nil {
		return fmt.Errorf("VERSION: %w", err)
	}
	before, err := c.warm(list)
	if err != nil {
		return err
	}
	pod, err := t.container()
	if err != nil {
		return err
	}
	rt := pod.runtime(pod.IfName, pod.kubernetes())
	if _, err := c.AddNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	check := func(when string) error {
		if t.older("0.4.0") {
			return nil
		}
		if err := c.CheckNetworkList(ctx, list, rt); err != nil {
			return fmt.Errorf("CHECK %s: %w", when, err)
		}
		return nil
	}
	if err := check("right after ADD"); err != nil {
		return err
	}
	valid := []types.GCAttachment{{ContainerID: pod.id, IfName: pod.IfName}, {ContainerID: "another", IfName: pod.IfName}}
	if err := c.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		return fmt.Errorf("GC: %w", err)
	}
	if err := check("after a GC that keeps the container"); err != nil {
		return err
	}
	if err := c.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	if err := c.GCNetworkList(ctx, list, &libcni.GCArgs{}); err != nil { // a nil slice is null in JSON
		return fmt.Errorf("GC with null: %w", err)
	}
	if err := t.delEth0(pod); err != nil {
		return err
	}
	return t.back(before)
}

// multus has attached eth0 by the cluster's default network before it comes to what it is asked for. Nothing of that
// network may be missing afterwards.
func multus(t *trial) error {
	if t.eth0 == nil {
		other, err := t.second()
		if err != nil {
			return err
		}
		t.eth0 = other
	}
	c, ctx := t.caller(), context.Background()
	net, err := c.network(t.List, func(plugin map[string]any) {
		plugin["args"] = map[string]any{"cni": map[string]any{"example.com/key": "value"}}
	})
	if err != nil {
		return err
	}
	before, err := c.warm(net)
	if err != nil {
		return err
	}
	pod, err := t.container()
	if err != nil {
		return err
	}
	args := pod.kubernetes()
	if _, err := c.AddNetworkList(ctx, net, pod.runtime("net1", args)); err != nil {
		return fmt.Errorf("ADD of net1: %w", err)
	}
	if _, err := c.AddNetworkList(ctx, net, pod.runtime("net2", args)); err != nil {
		t.note(fmt.Errorf("a second attachment by the network is refused: %w", err)) // Multus gives up then, and deletes all of them
	} else if err := both(pod, "net2"); err != nil {
		return err
	}
	if err := both(pod, "eth0", "net1"); err != nil {
		return err
	}
	for _, name := range []string{"net2", "net1"} {
		if err := c.DelNetworkList(ctx, net, pod.runtime(name, args)); err != nil {
			return fmt.Errorf("DEL of %s: %w", name, err)
		}
	}
	if err := errors.Join(both(pod, "eth0"), t.checkEth0(pod), t.delEth0(pod)); err != nil {
		return err
	}
	return t.back(before)
}

func cnitool(t *trial) error {
	c := t.caller()
	ctx := context.Background()
	list, err := c.network(t.List, nil)
	if err != nil {
		return err
	}
	before, err := c.warm(list)
	if err != nil {
		return err
	}
	pod, err := t.container()
	if err != nil {
		return err
	}
	rt := pod.runtime(pod.IfName, nil)
	if _, err := c.AddNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	if !t.older("0.4.0") {
		if err := c.CheckNetworkList(ctx, list, rt); err != nil {
			return fmt.Errorf("CHECK: %w", err)
		}
	}
	if err := c.GetStatusNetworkList(ctx, list); err != nil {
		return fmt.Errorf("STATUS: %w", err)
	}
	// Without a list libcni deletes what it has in its cache, and then tells the plugins.
	for range 2 {
		if err := c.GCNetworkList(ctx, list, nil); err != nil {
			return fmt.Errorf("GC: %w", err)
		}
	}
	if err := c.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	if err := t.delEth0(pod); err != nil {
		return err
	}
	return t.back(before)
}
