package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// A Service is what kube-proxy makes rules from: addresses and ports by which one endpoint is reached over TCP and UDP.
type Service struct {
	Name     string
	Cluster  Pair   // its ClusterIP, on ServicePort; none if zero
	Balancer Pair   // its LoadBalancer address, on ServicePort; none if zero
	NodePort uint16 // on every address of the node; 0: none
	HostPort uint16 // as NodePort, but out of the range of NodePorts and made by another component; 0: none
	// Local is externalTrafficPolicy: what comes by a NodePort or a LoadBalancer address keeps its source.
	Local    bool
	Endpoint Pair
	Port     uint16 // of the endpoint
}

// ServicePort is the port of every ClusterIP and LoadBalancer address.
const ServicePort = 80

// masqueradeMark is kube-proxy's bit.
const masqueradeMark = "0x4000"

// A Flavour is a way to make kube-proxy's rules.
type Flavour string

// The flavours: kube-proxy's nftables mode, its iptables mode with either of the two iptables of a machine, and its
// IPVS mode with strictARP.
const (
	NFT            Flavour = "nft"
	IPTablesNFT    Flavour = "iptables-nft"
	IPTablesLegacy Flavour = "iptables-legacy"
	IPVS           Flavour = "ipvs"
)

// Flavours is all of them.
var Flavours = []Flavour{NFT, IPTablesNFT, IPTablesLegacy, IPVS}

// KubeProxy stands in for kube-proxy on the node: it makes the rules for the Services, all at once. As kube-proxy does,
// it puts its jumps in front of what others have in PREROUTING, OUTPUT, POSTROUTING and FORWARD, marks what has to be
// masqueraded with 0x4000, drops what conntrack calls invalid and accepts what it has marked.
func (n *Node) KubeProxy(flavour Flavour, services []Service) error {
	for _, f := range n.World.Options.Stack {
		var err error
		switch flavour {
		case NFT:
			err = n.restore(nftRules(f, services), "nft", "-f", "-")
		case IPTablesNFT, IPTablesLegacy:
			err = n.restore(iptablesRules(f, services), restoreProgram(f, flavour), "--noflush", "--wait")
		case IPVS:
			err = n.ipvs(f, services)
		default:
			err = fmt.Errorf("no such flavour: %q", flavour)
		}
		if err != nil {
			return fmt.Errorf("kube-proxy: %w", err)
		}
	}
	return nil
}

// restore runs a program that reads its orders.
func (n *Node) restore(orders, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(orders)
	_, err := n.Exec(cmd)
	return err
}

// Supported probes whether the machine can do the flavour, in a namespace that it throws away. The error says what is
// missing.
func (flavour Flavour) Supported() error {
	ns, err := newNamespace("probe")
	if err != nil {
		return err
	}
	defer ns.Close()
	iptables := flavour
	var needs [][]string
	switch flavour {
	case NFT:
		needs = [][]string{{"nft", "add", "table", "ip", "probe"}}
	case IPVS:
		iptables = IPTablesNFT // does the rest
		needs = [][]string{{"ipvsadm", "--list", "--numeric"}}
	case IPTablesNFT, IPTablesLegacy:
	}
	for _, f := range DualStack {
		if flavour != NFT {
			needs = append(needs, []string{strings.TrimSuffix(restoreProgram(f, iptables), "-restore"), "-w", "-t", "nat", "-S"})
		}
	}
	for _, need := range needs {
		if _, err := ns.Run(need[0], need[1:]...); err != nil {
			return fmt.Errorf("kube-proxy cannot be %s here: %w", flavour, err)
		}
	}
	return nil
}

// restoreProgram is "ip6tables-legacy-restore" and the like.
func restoreProgram(f Family, flavour Flavour) string {
	program := string(flavour) + "-restore"
	if f == IPv6 {
		program = strings.Replace(program, "ip", "ip6", 1)
	}
	return program
}

// A front is one of the ways into a Service: what it matches, and whether the source is kept.
type front struct {
	to   netip.Addr // or any address of the node if it is zero
	port uint16
	keep bool
}

func (s *Service) fronts(f Family) []front {
	var all []front
	for _, a := range []front{{s.Cluster.Of(f), ServicePort, true}, {s.Balancer.Of(f), ServicePort, s.Local}} {
		if a.to.IsValid() {
			all = append(all, a)
		}
	}
	for _, a := range []front{{port: s.NodePort, keep: s.Local}, {port: s.HostPort, keep: true}} {
		if a.port != 0 {
			all = append(all, a)
		}
	}
	return all
}

// withEndpoint leaves out the Services that have no endpoint in the family.
func withEndpoint(f Family, services []Service) []Service {
	return slices.DeleteFunc(slices.Clone(services), func(s Service) bool { return !s.Endpoint.Of(f).IsValid() })
}

func nftRules(f Family, services []Service) string {
	word := "ip"
	if f == IPv6 {
		word = "ip6"
	}
	var entries, endpoints strings.Builder
	for _, s := range withEndpoint(f, services) {
		for _, a := range s.fronts(f) {
			match := "fib daddr type local"
			if a.to.IsValid() {
				match = fmt.Sprintf("%s daddr %s", word, a.to)
			}
			chain := "external-"
			if a.keep {
				chain = "endpoint-"
			}
			fmt.Fprintf(&entries, "    %s meta l4proto { tcp, udp } th dport %d goto %s%s\n", match, a.port, chain, s.Name)
		}
		fmt.Fprintf(&endpoints, `  chain endpoint-%[1]s {
    %[2]s saddr %[3]s meta mark set meta mark or %[5]s comment "hairpin"
    meta l4proto { tcp, udp } dnat to %[4]s
  }
  chain external-%[1]s {
    meta mark set meta mark or %[5]s
    goto endpoint-%[1]s
  }
`, s.Name, word, s.Endpoint.Of(f), netip.AddrPortFrom(s.Endpoint.Of(f), s.Port), masqueradeMark)
	}
	return fmt.Sprintf(`table %[1]s kube-proxy
delete table %[1]s kube-proxy
table %[1]s kube-proxy {
%[2]s  chain services {
%[3]s  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat;
    meta mark and %[4]s == 0 return
    meta mark set meta mark xor %[4]s
    masquerade fully-random
  }
  chain filter-forward {
    type filter hook forward priority filter;
    ct state invalid drop
    meta mark and %[4]s != 0 accept
    ct state established,related accept
  }
}
`, word, endpoints.String(), entries.String(), masqueradeMark)
}

func iptablesRules(f Family, services []Service) string {
	var chains, rules strings.Builder
	for _, s := range withEndpoint(f, services) {
		name := strings.ToUpper(s.Name)
		fmt.Fprintf(&chains, ":KUBE-SEP-%[1]s - [0:0]\n:KUBE-EXT-%[1]s - [0:0]\n", name)
		for _, proto := range []string{"tcp", "udp"} {
			for _, a := range s.fronts(f) {
				match := "-m addrtype --dst-type LOCAL"
				if a.to.IsValid() {
					match = fmt.Sprintf("-d %s", a.to)
				}
				chain := "KUBE-EXT-"
				if a.keep {
					chain = "KUBE-SEP-"
				}
				fmt.Fprintf(&rules, "-A KUBE-SERVICES %s -p %s --dport %d -j %s%s\n", match, proto, a.port, chain, name)
			}
		}
		endpoint := s.Endpoint.Of(f)
		fmt.Fprintf(&rules, "-A KUBE-EXT-%s -j KUBE-MARK-MASQ\n-A KUBE-EXT-%[1]s -j KUBE-SEP-%[1]s\n", name)
		fmt.Fprintf(&rules, "-A KUBE-SEP-%s -s %s -m comment --comment hairpin -j KUBE-MARK-MASQ\n", name, endpoint)
		for _, proto := range []string{"tcp", "udp"} {
			fmt.Fprintf(&rules, "-A KUBE-SEP-%s -p %s -j DNAT --to-destination %s\n", name, proto, netip.AddrPortFrom(endpoint, s.Port))
		}
	}
	return fmt.Sprintf(`*filter
:KUBE-FORWARD - [0:0]
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark %[1]s/%[1]s -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
%[2]s%[3]s-A KUBE-MARK-MASQ -j MARK --or-mark %[1]s
-A KUBE-POSTROUTING -m mark ! --mark %[1]s/%[1]s -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark %[1]s
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
`, masqueradeMark, chains.String(), rules.String())
}
