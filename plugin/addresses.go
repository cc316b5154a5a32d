package plugin

import "underlay-cni/routing"

// Sound are the usable ones among the addresses of a pod's interface, best first, after a look whether they can be used:
// none is still tentative, and none is in use elsewhere, as far as the kernel knows.
func Sound(node *routing.Namespace, dev *routing.Link, addrs []routing.Address) ([]routing.Address, error) {
	usable := routing.Usable(addrs)
	for _, a := range usable {
		ip := a.Prefix.Addr()
		if a.Tentative() && !a.Dynamic() {
			return nil, Errorf(CodeTryAgain, "%s: duplicate address detection still runs on %s", ip, dev.Name)
		}
		local, err := node.IsLocal(ip)
		if err != nil {
			return nil, err
		}
		if local {
			return nil, Errorf(CodeConflict, "%s: the pod's address is one of the node itself", ip)
		}
	}
	for _, a := range addrs {
		if a.Duplicate() {
			return nil, Errorf(CodeConflict, "%s: another machine on the wire of %s has the pod's address", a.Prefix.Addr(), dev.Name)
		}
	}
	return usable, nil
}
