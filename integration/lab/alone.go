package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Alone builds a world of one node, N1, for tests that send no packets: nobody is on its wire, and every world of the
// same options gives the same Dump. No interface has an IPv6 link-local address, which the kernel would add at a time of
// its own. The caller closes it.
func Alone(o Options) (*World, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	w := &World{Options: o}
	var err error
	if w.N1, err = newNode(w, "n1", nodeOne, 50); err != nil {
		return nil, fmt.Errorf("build a world: %w", err)
	}
	n := w.N1
	n.Addr = nodeOne.In(o.Stack)
	err = errors.Join(n.Sysctl(noLinkLocal), n.IP(
		fmt.Sprintf("link add %s address 02:00:00:00:01:52 mtu %d type veth peer name wire address 02:00:00:00:00:99 mtu %[2]d", o.HostInterface, o.MTU),
		"link set wire up", fmt.Sprintf("link set %s up", o.HostInterface),
	))
	var lines []string
	for _, f := range o.Stack {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev %s nodad", nodeOne.Of(f), underlay[f].Bits(), o.HostInterface))
	}
	for _, f := range o.Stack {
		lines = append(lines, fmt.Sprintf("route add default via %s", routerWire.Of(f)))
	}
	if err := errors.Join(err, n.IP(lines...), n.awaitAddresses(n.Addr.V4, n.Addr.V6)); err != nil {
		return nil, errors.Join(fmt.Errorf("build a world: %w", err), w.Close())
	}
	return w, nil
}

// awaitAddresses waits until the kernel has made the last route of each IPv6 address, which it does when the interface
// has its carrier and duplicate address detection would have ended.
func (n *Namespace) awaitAddresses(addrs ...netip.Addr) error {
	for deadline := time.Now().Add(runTimeout); ; <-time.After(time.Millisecond) {
		routes, err := n.Run("ip", "-6", "route", "show", "table", "local")
		if err != nil {
			return err
		}
		missing := slices.ContainsFunc(addrs, func(a netip.Addr) bool {
			return a.Is6() && !strings.Contains(routes, fmt.Sprintf("local %s dev ", a))
		})
		if !missing {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the addresses %v of %s are not ready: %s", addrs, n.Name, routes)
		}
	}
}

var noLinkLocal = map[string]string{"net/ipv6/conf/default/addr_gen_mode": "1"}

// Plug gives the pod what an interface plugin leaves behind, without running one: eth0 on the node's wire, with the
// addresses of that number in the node's range and the default routes by the wire. The pod's Result says the same.
func (n *Node) Plug(p *Pod, number int) error {
	o := n.World.Options
	mac := fmt.Sprintf("02:00:00:00:02:%02x", len(n.pods))
	err := n.IP(fmt.Sprintf("link add link %s name %s address %s netns %s type %s mode %s", o.HostInterface, p.IfName, mac, p.Path(), o.Parent.Type(), o.Parent.mode()))
	if err != nil {
		return err
	}
	p.Addr = Pair{}
	p.Result = &types100.Result{
		CNIVersion: "1.0.0", Interfaces: []*types100.Interface{{Name: p.IfName, Mac: mac, Sandbox: p.Path()}},
	}
	lines := []string{fmt.Sprintf("link set %s up", p.IfName)}
	for _, f := range o.Stack {
		addr, gateway := host(n.podSubnet(f), n.firstPod+number), n.podGateway(f)
		p.Addr.set(addr)
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev %s nodad", addr, underlay[f].Bits(), p.IfName), fmt.Sprintf("route add default via %s", gateway))
		p.Result.IPs = append(p.Result.IPs, &types100.IPConfig{
			Interface: new(0), Gateway: gateway.AsSlice(),
			Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(underlay[f].Bits(), addr.BitLen())},
		})
		_, all, err := net.ParseCIDR(defaultDst[f])
		if err != nil {
			return fmt.Errorf("plug %s: %w", p.Name, err)
		}
		p.Result.Routes = append(p.Result.Routes, &types.Route{Dst: *all})
	}
	return errors.Join(p.Sysctl(noLinkLocal), p.IP(lines...), p.awaitAddresses(p.Addr.V4, p.Addr.V6))
}

// OnThread runs f on the node's own thread, which has its network and its file systems: a process that f starts is the
// node's, as those of Run are.
func (n *Node) OnThread(f func() error) error { return n.thread.do(f) }

// Environ is the environment of the node's programs.
func (n *Node) Environ(more ...string) []string {
	return append(append([]string{n.cniPath()}, n.env...), more...)
}

// Find is the file of a plugin, of those under test or of the CNI project.
func (n *Node) Find(typ string) (string, error) { return n.find(typ) }

// Variables are those of the CNI specification for a verb on the pod, with others in their place.
func (p *Pod) Variables(verb string, other ...string) []string {
	v := []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.ContainerID(), "CNI_IFNAME=" + p.IfName, "CNI_NETNS=" + p.Path()}
	for _, o := range other {
		key, _, _ := strings.Cut(o, "=")
		for i := range v {
			if strings.HasPrefix(v[i], key+"=") {
				v[i] = o
			}
		}
	}
	return v
}
