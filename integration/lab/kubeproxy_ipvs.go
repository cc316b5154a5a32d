package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// ipvsDevice has the addresses of the Services, and is never up.
const ipvsDevice = "kube-ipvs0"

// ipvsSysctls are what kube-proxy sets, the last two with strictARP.
var ipvsSysctls = map[string]string{
	"net/ipv4/vs/conntrack":                 "1",
	"net/ipv4/vs/conn_reuse_mode":           "0",
	"net/ipv4/vs/expire_nodest_conn":        "1",
	"net/ipv4/vs/expire_quiescent_template": "1",
	"net/ipv4/conf/all/arp_ignore":          "1",
	"net/ipv4/conf/all/arp_announce":        "2",
}

// ipvs stands in for kube-proxy in its IPVS mode, for one family: the virtual servers, their addresses on a dummy
// interface, and rules of iptables for what IPVS does not do: masquerading, and the end of what no server takes.
func (n *Node) ipvs(f Family, services []Service) error {
	if err := n.Sysctl(ipvsSysctls); err != nil {
		return err
	}
	if _, err := n.Run("ip", "link", "show", ipvsDevice); err != nil {
		if err := n.IP("link add " + ipvsDevice + " type dummy"); err != nil {
			return err
		}
	}
	servers, addresses := n.virtualServers(f, services)
	var lines []string
	for _, a := range addresses {
		lines = append(lines, fmt.Sprintf("addr add %s dev %s", a, ipvsDevice))
	}
	if err := n.IP(lines...); err != nil {
		return err
	}
	if err := n.restore(servers, "ipvsadm", "--restore"); err != nil {
		return err
	}
	return n.restore(ipvsRules(f, services), restoreProgram(f, IPTablesNFT), "--noflush", "--wait")
}

// virtualServers are lines of ipvsadm(8), and the addresses of the Services. A NodePort is a virtual server on the
// node's address; a hostPort is none, it is not kube-proxy's.
func (n *Node) virtualServers(f Family, services []Service) (servers string, addresses []netip.Addr) {
	var text strings.Builder
	used := map[netip.Addr]bool{}
	for _, s := range withEndpoint(f, services) {
		for _, a := range s.fronts(f) {
			if !a.to.IsValid() && a.port == s.HostPort {
				continue
			}
			if a.to.IsValid() {
				used[a.to] = true
			} else {
				a.to = n.Addr.Of(f)
			}
			for _, proto := range []string{"-t", "-u"} {
				front := netip.AddrPortFrom(a.to, a.port)
				fmt.Fprintf(&text, "-A %s %s -s rr\n-a %[1]s %[2]s -r %[3]s -m -w 1\n", proto, front, netip.AddrPortFrom(s.Endpoint.Of(f), s.Port))
			}
		}
	}
	return text.String(), slices.SortedFunc(maps.Keys(used), netip.Addr.Compare)
}

// ipvsRules are for iptables-restore. kube-proxy puts the addresses into sets of ipset, to the same effect.
func ipvsRules(f Family, services []Service) string {
	var filter, nat, hostPorts, accept, hairpin strings.Builder
	for _, s := range withEndpoint(f, services) {
		endpoint := s.Endpoint.Of(f)
		for _, proto := range []string{"tcp", "udp"} {
			for _, a := range s.fronts(f) {
				port := fmt.Sprintf("-p %s --dport %d", proto, a.port)
				switch {
				case a.to.IsValid():
					fmt.Fprintf(&filter, "-A KUBE-IPVS-FILTER -d %s %s -j RETURN\n", a.to, port)
					fmt.Fprintf(&accept, "-A KUBE-SERVICES -d %s %s -j ACCEPT\n", a.to, port)
					fmt.Fprintf(&nat, "-A KUBE-SERVICES -s %s %s -j KUBE-MARK-MASQ\n", a.to, port)
					if !a.keep {
						fmt.Fprintf(&nat, "-A KUBE-SERVICES -d %s %s -j KUBE-MARK-MASQ\n", a.to, port)
					}
				case a.port == s.HostPort:
					fmt.Fprintf(&hostPorts, "-A HOSTPORTS %s -j DNAT --to-destination %s\n", port, netip.AddrPortFrom(endpoint, s.Port))
				case !a.keep:
					fmt.Fprintf(&nat, "-A KUBE-NODE-PORT %s -j KUBE-MARK-MASQ\n", port)
				}
			}
			fmt.Fprintf(&hairpin, "-A KUBE-POSTROUTING -s %s -d %[1]s -p %s --dport %d -j MASQUERADE\n", endpoint, proto, s.Port)
		}
		for _, a := range s.fronts(f) {
			if a.to.IsValid() {
				fmt.Fprintf(&accept, "-A KUBE-SERVICES -d %s -j RETURN\n", a.to)
				fmt.Fprintf(&filter, "-A KUBE-IPVS-FILTER -d %s -m conntrack --ctstate NEW -j REJECT\n", a.to)
			}
		}
	}
	return fmt.Sprintf(`*filter
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
-A KUBE-FORWARD -m mark --mark %[1]s/%[1]s -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
%[2]s-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:HOSTPORTS - [0:0]
%[3]s-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
%[4]s%[5]s%[6]s-A KUBE-MARK-MASQ -j MARK --or-mark %[1]s
-A KUBE-POSTROUTING -m mark ! --mark %[1]s/%[1]s -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark %[1]s
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A PREROUTING -m addrtype --dst-type LOCAL -j HOSTPORTS
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
`, masqueradeMark, filter.String(), nat.String(), accept.String(), hostPorts.String(), hairpin.String())
}
