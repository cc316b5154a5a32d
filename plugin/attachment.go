package plugin

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"net"
	"strings"

	"underlay-cni/routing"
)

// An Attachment is what the CNI specification identifies a request by. Everything that the kernel
// keeps for it can be found from these three, without a file and without the pod.
type Attachment struct {
	Network     string // the network's name
	ContainerID string
	IfName      string // CNI_IFNAME
}

// HostEnd is the name of the node's end of the veth pair: "veth" and eight hexadecimal digits.
func (a Attachment) HostEnd() string {
	return HostEndPrefix + hex.EncodeToString(a.hash()[:4])
}

// HostEndPrefix begins the name of every host end.
const HostEndPrefix = "veth"

// IsHostEnd reports whether a name is one that HostEnd makes. A rule keeps it when the interface has gone.
func IsHostEnd(name string) bool {
	digits, ok := strings.CutPrefix(name, HostEndPrefix)
	return ok && len(digits) == 8 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Owner is what the host end says about whose it is.
func (a Attachment) Owner() routing.Owner {
	host, _ := a.MACs()
	return routing.Owner{Alias: a.alias(), Group: Group(a.Network), MAC: host}
}

// alias is network/containerID/ifname, cut to what the kernel takes (IFALIASZ is 256, with a NUL).
func (a Attachment) alias() string {
	s := a.Network + "/" + a.ContainerID + "/" + a.IfName
	return s[:min(len(s), 255)]
}

// Group is the interface group of a network's host ends. 0 is the kernel's default group, and iproute2
// reads the number as a signed one.
func Group(network string) uint32 {
	return binary.BigEndian.Uint32(hash(network))&0x7fffffff | 1
}

// MACs are the hardware addresses of both ends: unicast and locally administered, and the same each time
// they are asked for.
func (a Attachment) MACs() (host, pod net.HardwareAddr) {
	sum := a.hash()
	mac := func(b []byte) net.HardwareAddr {
		m := net.HardwareAddr(append([]byte(nil), b[:6]...))
		m[0] = m[0]&^0x01 | 0x02
		return m
	}
	return mac(sum[4:]), mac(sum[10:])
}

// hash separates the parts by a byte that none of them can hold.
func (a Attachment) hash() []byte {
	return hash(a.Network + "\x00" + a.ContainerID + "\x00" + a.IfName)
}

// hash has 16 bytes. FNV is no cryptographic hash and need not be one: who chooses container ids rules
// the node already, and the alias tells two attachments with the same digits apart. Package crypto would
// cost 0.15 ms of every start and 0.35 MB.
func hash(s string) []byte {
	h := fnv.New128a()
	_, _ = h.Write([]byte(s))
	sum := h.Sum(nil)
	// The last bytes of s hardly reach the first ones of FNV: cni0 and cni1, or net1 and net2, would share them.
	high, low := binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])
	high = mix(high ^ mix(low))
	low = mix(low + high)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(sum[:0], high), low)
}

// mix spreads every bit over all others (the last step of SplitMix64), and no two numbers to the same one.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Unbelieving keeps the node from taking what is in a pod for its router, by an interface towards the pod: router
// advertisements would give it addresses and a default route (CVE-2020-10749). on has IPv6 switched on, after that.
func Unbelieving(hostEnd *routing.Link, on bool) Change {
	values := []string{"accept_ra=0"}
	if on {
		values = append(values, "disable_ipv6=0")
	}
	return routing.Inet6Conf(hostEnd, values...)
}
