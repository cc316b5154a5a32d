package main

import (
	"fmt"
	"os"
	"testing"

	"underlay-cni/plugin"
	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
	"underlay-cni/plugin/veth/veth"
)

var bin string // where Main has built the binary

func TestMain(m *testing.M) { os.Exit(Main(m, &bin)) }

// subject is veth: the pod has nothing before its first interface, and gets veth0.
var subject = &Subject{
	Plugin: veth.Plugin(), Bin: &bin,
	Config: map[string]any{
		"overlay_hijack_subnet": []any{"10.240.0.0/12", "fd00:10:244::/96"}, "service_hijack_subnet": []any{"172.96.0.0/18", "2001:4860:fd00::/108"},
	},
	Before: func(Stack) string { return "" },
	First:  Eth0, Later: Net1,
	By: "veth0", Seen: "veth0@",
	Left:      []string{hostEnd(ID), "10.10.20.53", "fd20::53"},
	LeftInPod: []string{"512:", "1024:", "table 512", "table 200", "veth0"},
	Appended:  []string{hostEnd(ID) + " ", "veth0 "},
	Traces: func(n *NIC) []string {
		return []string{hostEnd(n.Container) + "." + group(n.Network) + "." + n.Name}
	},
}

// hostEnd is the name of the host end of the pod's pair.
func hostEnd(container string) string {
	return plugin.Attachment{Network: "veth", ContainerID: container}.HostEnd()
}

// group is how a network is named in an altname.
func group(network string) string {
	return fmt.Sprintf("%08x", plugin.Group("veth\x00"+network))
}
