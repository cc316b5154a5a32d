package conformance

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

// later is the name of the subject's interface in a container that has eth0 from another network.
const later = "net1"

// onEth0 runs f for the attachment that a container has before the subject's, if it has one: eth0, by the real libcni.
// The network is run in its own version, whichever one the subject is asked for.
func (t *trial) onEth0(c *container, verb string, f func(context.Context, *caller, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	if t.eth0 == nil {
		return nil
	}
	as := t.caller()
	list, err := as.networkIn(t.eth0, cmp.Or(t.eth0.CNIVersion, t.version), nil)
	if err == nil {
		err = f(context.Background(), as, list, c.runtime("eth0", c.kubernetes()))
	}
	if err != nil {
		return fmt.Errorf("%s of eth0, which is not the plugin's: %w", verb, err)
	}
	return nil
}

func (t *trial) addEth0(c *container) error {
	return t.onEth0(c, "ADD", func(ctx context.Context, as *caller, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		_, err := as.AddNetworkList(ctx, list, rt)
		return err
	})
}

// checkEth0 finds out whether eth0 has lost something.
func (t *trial) checkEth0(c *container) error {
	return t.onEth0(c, "CHECK", func(ctx context.Context, as *caller, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		if slices.Index(Versions, list.CNIVersion) < slices.Index(Versions, "0.4.0") {
			return nil
		}
		return as.CheckNetworkList(ctx, list, rt)
	})
}

func (t *trial) delEth0(c *container) error {
	return t.onEth0(c, "DEL", func(ctx context.Context, as *caller, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return as.DelNetworkList(ctx, list, rt)
	})
}
