package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/utils"
	"golang.org/x/sys/unix"

	"underlay-cni/routing"
)

// A Request is one call of the runtime: what it said and where it wants it.
type Request struct {
	Attachment
	Verb    string
	Netns   string // CNI_NETNS as given; may be empty on DEL
	Args    string // CNI_ARGS, for the log only
	Config  []byte // standard input
	Version string // cniVersion of the configuration

	// Result is what the plugins before this one did, to be completed. It is nil only where the verb
	// does not need it.
	Result *types100.Result
	raw    json.RawMessage // prevResult as it came, for the fields that Result does not know

	Node *routing.Namespace
	// Pod is nil when the verb does not need it and there is none any more, or when CNI_NETNS turns
	// out to be the node's own namespace.
	Pod *routing.Namespace

	log *slog.Logger // discards, until LogTo; nil in a request that no runtime has made
}

// NewRequest is a request that no runtime has made, for who wants to know what a plugin would plan. The configuration is
// the plugin's own, with name and cniVersion. The result, which the request may complete, is that of the plugins before;
// it may be nil, as the pod may, where the verb needs none. It keeps no log, and whoever opened the namespaces closes them.
func NewRequest(verb string, a Attachment, config []byte, result *types100.Result, node, pod *routing.Namespace) *Request {
	r := &Request{Attachment: a, Verb: verb, Config: config, Version: types100.ImplementedSpecVersion, Result: result, Node: node, Pod: pod}
	if pod != nil {
		r.Netns = pod.Path
	}
	return r
}

// need says what a verb cannot do without.
type need int

const (
	needsPod need = 1 << iota
	needsResult
)

// newRequest reads what the runtime said and opens the namespaces. The request that comes with an error
// is good for the log.
func newRequest(verb string, args *skel.CmdArgs, needs need) (*Request, error) {
	r := &Request{
		Attachment: Attachment{ContainerID: args.ContainerID, IfName: args.IfName},
		Verb:       verb, Netns: args.Netns, Args: args.Args, Config: args.StdinData, log: slog.New(slog.DiscardHandler),
	}
	var conf struct {
		CNIVersion string          `json:"cniVersion"`
		Name       string          `json:"name"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return r, Errorf(CodeConfig, "decode the configuration: %w", err)
	}
	r.Network, r.Version, r.raw = conf.Name, conf.CNIVersion, conf.PrevResult
	if r.Version == "" {
		r.Version = "0.1.0" // as the specification says of a configuration without it
	}
	var err error
	if r.Node, err = routing.Self(); err != nil {
		return r, err
	}
	if verb == "DEL" || needs&needsPod != 0 {
		err = r.openPod(needs&needsPod != 0)
	}
	if err == nil && needs&needsResult != 0 {
		err = r.parseResult()
	}
	return r, err
}

// openPod opens CNI_NETNS. Without need of it, one that has gone is none; and the node's own is none either, since what a DEL
// would delete in it is the node's. One that is there and cannot be opened or entered (EMFILE, EPERM, ENOMEM) is an error, before
// anything has changed: the runtime tries again, and what a DEL undoes in the pod is found by what it removes on the node.
func (r *Request) openPod(needed bool) error {
	if r.Netns == "" && !needed {
		return nil
	}
	pod, err := r.Node.Open(r.Netns)
	switch {
	case err == nil && !pod.Same(r.Node):
		r.Pod = pod
		return nil
	case err == nil && !needed:
		pod.Close()
		return nil
	case !needed && gone(err):
		return nil
	case err == nil:
		pod.Close()
		return Errorf(CodeNetns, "CNI_NETNS: %s: it is the node's own network namespace; accepted: the pod's", r.Netns)
	default:
		return Errorf(CodeNetns, "CNI_NETNS: %w; accepted: the path of a network namespace", err)
	}
}

// gone tells of the error of an open that there is no network namespace at the path: nothing, no process of that number
// (ESRCH), something else, or a path that no file can have.
func gone(err error) bool {
	for _, none := range []error{
		routing.ErrNoNamespace, unix.ENOENT, unix.ESRCH, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENXIO, unix.ENODEV,
	} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}

// parseResult decodes prevResult, in whatever version it is.
func (r *Request) parseResult() error {
	if len(r.raw) == 0 || string(r.raw) == "null" {
		return errNoPrevResult
	}
	if err := noNulls(r.raw); err != nil {
		return err
	}
	prev, err := create.Create(r.Version, r.raw)
	if err != nil {
		return Errorf(CodeConfig, "prevResult: %w", err)
	}
	// For every version but the newest this is a new object: it is the one to edit and to print.
	if r.Result, err = types100.NewResultFromResult(prev); err != nil {
		return Errorf(CodeConfig, "prevResult: %w", err)
	}
	if len(r.Result.Interfaces) == 0 && slices.Contains([]string{"0.1.0", "0.2.0"}, r.Version) {
		// These versions have no interfaces: say what the runtime asked the plugin before for.
		r.Result.Interfaces = []*types100.Interface{{Name: r.IfName, Sandbox: r.Netns}}
	}
	if r.podInterface() < 0 {
		return Errorf(CodeConfig, "prevResult.interfaces: %q with a sandbox is missing; accepted: the result of a plugin that makes the interface of CNI_IFNAME in the pod", r.IfName)
	}
	return nil
}

// noNulls refuses null in a list of a result, in whatever version it is: there it is no address, interface or route, and package
// types would follow it as a pointer. It is the value of a key that is left out.
func noNulls(raw []byte) error {
	v, err := decode(raw)
	if err != nil {
		return Errorf(CodeConfig, "prevResult: %w", err)
	}
	result, ok := v.(map[string]any)
	if !ok {
		return Errorf(CodeConfig, "prevResult: not an object; accepted: the result of the plugin before")
	}
	return noNullsIn("prevResult", result)
}

func noNullsIn(path string, object map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		switch name := strings.ToLower(key); name { // as package json takes them
		case "ip4", "ip6": // of the versions 0.1.0 and 0.2.0
			if below, ok := object[key].(map[string]any); ok {
				if err := noNullsIn(path+"."+key, below); err != nil {
					return err
				}
			}
		case "ips", "interfaces", "routes":
			list, _ := object[key].([]any)
			if i := slices.Index(list, nil); i >= 0 {
				return Errorf(CodeConfig, "%s.%s[%d]: null; accepted: an object", path, key, i)
			}
		}
	}
	return nil
}

var errNoPrevResult = Errorf(CodeConfig, "prevResult: missing; the plugin must come after the one that makes the pod's interface")

// podInterface is the index in the result of the pod's interface, or -1. It is never simply the first
// one: bridge, ptp and calico list a node's interface before it.
func (r *Request) podInterface() int {
	return slices.IndexFunc(r.Result.Interfaces, func(i *types100.Interface) bool {
		return i.Name == r.IfName && i.Sandbox != ""
	})
}

// PodLink is the pod's interface of CNI_IFNAME. It is an error with code 100 when the pod has none.
func (r *Request) PodLink() (*routing.Link, error) {
	l := r.Pod.Link(r.IfName)
	if _, err := l.Index(); errors.Is(err, routing.ErrNoLink) {
		return nil, Errorf(CodeLink, "CNI_IFNAME: %s: the pod has no such interface", r.IfName)
	} else if err != nil {
		return nil, fmt.Errorf("look at the pod: %w", err)
	}
	return l, nil
}

// ValidAttachments are the attachments of the network that a GC is told to keep. listed tells an empty
// list, nothing is valid, from one that the runtime did not give. What is not listed goes: so one element that is not what the
// specification requires, keys by their exact spelling, is an error with CodeConfig for the whole list.
func (r *Request) ValidAttachments() (valid []Attachment, listed bool, err error) {
	const key = "cni.dev/valid-attachments"
	conf, err := members(r.Config)
	if err != nil {
		return nil, false, Errorf(CodeConfig, "decode the configuration: %w", err)
	}
	if raw, given := conf[key]; !given || string(raw) == "null" {
		return nil, false, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(conf[key], &list); err != nil {
		return nil, false, Errorf(CodeConfig, "%s: %w; accepted: a list of {containerID, ifname}", key, err)
	}
	for i, raw := range list {
		a, err := validAttachment(raw)
		if err != nil {
			return nil, false, Errorf(CodeConfig, "%s: [%d]: %s: %w; accepted: {containerID, ifname}", key, i, shorten(string(raw), 100), err)
		}
		a.Network = r.Network
		valid = append(valid, a)
	}
	return valid, true, nil
}

// validAttachment is one element of the list, without the network.
func validAttachment(raw []byte) (a Attachment, err error) {
	element, err := members(raw)
	if err != nil {
		return a, err
	}
	for _, m := range []struct {
		key      string
		value    *string
		validate func(string) *types.Error
	}{{"containerID", &a.ContainerID, utils.ValidateContainerID}, {"ifname", &a.IfName, utils.ValidateInterfaceName}} {
		if element[m.key] == nil {
			return a, fmt.Errorf("%s is missing", m.key)
		}
		if err := json.Unmarshal(element[m.key], m.value); err != nil {
			return a, fmt.Errorf("%s: %w", m.key, err)
		}
		if err := m.validate(*m.value); err != nil {
			return a, fmt.Errorf("%s: %q: %s", m.key, *m.value, err.Msg)
		}
	}
	return a, nil
}

// members are those of a JSON object, by their exact names; package json takes containerid for containerID too, and of a key that
// is given twice the last.
func members(object []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.Join(errors.New("not an object"), err)
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := name.(string) // as the key of an object always is
		if _, twice := all[key]; twice {
			return nil, fmt.Errorf("%q is given a second time", key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all[key] = value
	}
	return all, nil
}
