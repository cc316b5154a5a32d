package underlay

import (
	"strings"

	"underlay-cni/plugin"
)

// IsUse tells a further name of a host end by which an attachment of the plugin veth uses the pair:
// veth01234567.01234567.net1.
func IsUse(altname string) bool {
	const network, ifName = len("veth01234567"), len("veth01234567.01234567")
	return strings.HasPrefix(altname, plugin.HostEndPrefix) && len(altname) > ifName && altname[network] == '.' && altname[ifName] == '.'
}
