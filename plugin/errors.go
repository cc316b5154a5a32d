package plugin

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
	"underlay-cni/firewall"
	"underlay-cni/routing"
)

// The codes of the errors that the plugins print, beside those of the CNI specification below 100. The
// README has the same table.
const (
	CodeConfig   = types.ErrInvalidNetworkConfig // 7: a key of the configuration, or the result so far
	CodeNetns    = types.ErrInvalidNetNS         // 8: CNI_NETNS
	CodeTryAgain = types.ErrTryAgainLater        // 11: nothing is wrong but the moment
	CodeNotReady = types.ErrPluginNotAvailable   // 50: STATUS: an ADD could not succeed
	CodeLink     = 100                           // the interface of CNI_IFNAME: it is missing in the pod, or keeps its MAC
	CodeVeth     = 101                           // the veth pair
	CodeRoute    = 102                           // a route
	CodeRule     = 103                           // a rule
	CodeNeigh    = 104                           // a neighbour
	CodeSysctl   = 105                           // a sysctl
	CodeFirewall = 106                           // the firewall
	CodeConflict = 110                           // the address is somebody else's
	CodeCheck    = 120                           // CHECK: the kernel differs
	CodePanic    = types.ErrInternal             // 999: a bug
)

// codeOf is the code of a failed change: by what went wrong, if that says more, else by what the change is about.
func codeOf(c Change, err error) uint {
	switch {
	case errors.Is(err, firewall.ErrBusy), errors.Is(err, firewall.ErrChanging):
		return CodeTryAgain
	case errors.Is(err, firewall.ErrNoServiceCIDR):
		return CodeConfig
	}
	switch c.(type) {
	case interface{ Backend() string }: // package firewall's only kind
		return CodeFirewall
	case *routing.LinkMAC:
		return CodeLink
	case *routing.Veth, *routing.LinkUp, *routing.NoLink, *routing.AltName, *routing.NoAltName, *routing.LinkAddress:
		return CodeVeth
	case *routing.Route, *routing.NoRoute, *routing.SpareRoute, *routing.Source:
		return CodeRoute
	case *routing.Rule, *routing.NoRule, *routing.NoIif:
		return CodeRule
	case *routing.Neigh, *routing.NoNeigh:
		return CodeNeigh
	case *routing.Sysctls, *routing.InetConf:
		return CodeSysctl
	default:
		return CodePanic // whoever adds a kind of change adds its code here
	}
}

// Errorf is an error with a code; the text is made as by fmt.Errorf, without a wrapped error to find.
func Errorf(code uint, format string, args ...any) error {
	return types.NewError(code, fmt.Errorf(format, args...).Error(), "")
}

// toCNI turns any error into one that can be printed. One that has no code gets it by its kind.
func toCNI(err error) *types.Error {
	var e *types.Error
	if errors.As(err, &e) && e.Error() == err.Error() {
		return e
	}
	code := types.ErrIOFailure // the kernel would not tell
	switch {
	case e != nil:
		code = e.Code
	case errors.As(err, new(*conflist.KeyError)):
		code = CodeConfig
	case errors.Is(err, unix.EAGAIN), errors.Is(err, routing.ErrInterrupted):
		code = CodeTryAgain
	}
	return types.NewError(code, err.Error(), "")
}
