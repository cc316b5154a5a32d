package underlay

import (
	"strings"

	"underlay-cni/plugin"
)

// IsUse tells a further name of a host end by which an attachment of the plugin veth uses the pair:
// veth01234567.01234567.net1.
func IsUse(altname string) bool {
	parts := strings.SplitN(altname, ".", 3)
	return len(parts) == 3 && len(parts[0]) == len("veth01234567") && strings.HasPrefix(parts[0], plugin.HostEndPrefix) && len(parts[1]) == 8
}
