package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"underlay-cni/integration/lab"
)

// wired makes a pod with its interface on the wire, as the plugin before ours leaves it, and the conflist.
func (w *world) wired(t *testing.T, name string) *lab.Pod {
	t.Helper()
	p, c := w.pod(t, name), w.n1.Conflist()
	c.Plugins = c.Plugins[:1]
	must(t, w.n1.AddTo(c, p))
	must(t, w.n1.Write(w.n1.Conflist()))
	return p
}

const conf = confDir + "/cni0.conflist"

// attach runs the ADD of veth-host alone.
func (w *world) attach(p *lab.Pod) error {
	request := w.n1.Conflist().Request("veth-host")
	request["prevResult"] = p.Result
	_, err := w.n1.Plugin("veth-host", request,
		"CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ContainerID(), "CNI_IFNAME="+p.IfName, "CNI_NETNS="+p.Path())
	return err
}

var (
	// podTable is the pod's table on the node, which has its number from the index of the host end.
	podTable = regexp.MustCompile(`(table|lookup) (2[5-9]\d|[34]\d\d)\b`)
	// source is what ADD leaves to the kernel where that chooses the same, and a script cannot know.
	source = regexp.MustCompile(`(dev veth.*) src (10\.10\.20\.152|fd20::152)\b`)
	// routers of a node that forwards: to believe none, 1 does as 0, and ADD leaves it.
	routers = regexp.MustCompile(`(conf/veth\S+/accept_ra) 1$`)
)

func sameTables(d lab.Dump) (out lab.Dump) {
	for _, line := range d {
		line = source.ReplaceAllString(podTable.ReplaceAllString(line, "$1 N"), "$1")
		out = append(out, routers.ReplaceAllString(line, "$1 0"))
	}
	slices.Sort(out)
	return out
}

// TestPlan: a shell that runs the plan leaves the node and the pod as ADD does, and plan itself changes nothing.
func TestPlan(t *testing.T) {
	for name, o := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			p := w.wired(t, "a")
			node, pod := dump(t, w.n1.Namespace), dump(t, p.Namespace)
			script := w.ctl(t, "plan", "--conf", conf, "--netns", p.Path(), "--container", p.ContainerID()).want(t, statusFine).stdout
			same(t, "the node after plan", node, dump(t, w.n1.Namespace))
			same(t, "the pod after plan", pod, dump(t, p.Namespace))

			w.script(t, script)
			node, pod = dump(t, w.n1.Namespace), dump(t, p.Namespace)
			// Rules of nftables that are typed lack the digest, which is all that differs.
			typed := decode[diagnosis](t, w.ctl(t, "diagnose", "-o", "json", "--netns", p.Path()))
			for _, f := range typed.all() {
				if f.Verdict == wrong && (f.Object != "node firewall" && f.Object != "pod firewall" || o.Firewall == "iptables") {
					t.Errorf("after the script: %+v", f)
				}
			}
			w.ctl(t, "uninstall", "--yes").want(t, statusFine)
			must(t, w.attach(p))
			same(t, "the node after ADD", sameTables(node), sameTables(dump(t, w.n1.Namespace)))
			same(t, "the pod after ADD", pod, dump(t, p.Namespace))
		})
	}
}

// TestPlanChoices: a pod may be named by a process in it, the configuration may be that of the plugin alone, and the
// output may be JSON.
func TestPlanChoices(t *testing.T) {
	w := newWorld(t, lab.Options{Stack: lab.OnlyIPv4})
	p := w.wired(t, "a")
	alone := filepath.Join(t.TempDir(), "veth-host.conf")
	must(t, os.WriteFile(alone, []byte(`{"cniVersion": "1.0.0", "name": "cni0", "type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0"}`), 0o600))
	got := decode[planned](t, w.ctl(t, "plan", "-o", "json", "--conf", alone, "--pid", w.sleeper(t, p), "--container", "c1").want(t, statusFine))
	if got.Network != "cni0" || got.ContainerID != "c1" || got.IfName != "eth0" || got.Plugin != "veth-host" || got.HostEnd == "" || len(got.Changes) < 20 {
		t.Errorf("got %+v", got)
	}
	for _, change := range got.Changes {
		if in := strings.HasPrefix(change.Command, "nsenter --net=/proc/"); in != (change.Where == "pod") {
			t.Errorf("got %+v", change)
		}
	}
	logged := filepath.Join(t.TempDir(), "log")
	must(t, os.WriteFile(alone, []byte(`{"cniVersion": "1.0.0", "name": "cni0", "type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0", "log_options": {"log_file": "`+logged+`"}}`), 0o600))
	w.ctl(t, "plan", "--conf", alone, "--netns", p.Path()).want(t, statusFine)
	if _, err := os.Stat(logged); err == nil {
		t.Error("plan has written a log")
	}
}

// TestPlanRefuses: what is wrong with the command line or the configuration is named, with what is accepted.
func TestPlanRefuses(t *testing.T) {
	w := newWorld(t, lab.Options{Stack: lab.OnlyIPv4})
	p := w.wired(t, "a")
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "c.conf")
		must(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	const good = `{"cniVersion": "1.0.0", "name": "cni0", "type": "veth-host", "hostInterface": "enp1s0", "containerInterface": "veth0"}`
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no conf":           {[]string{"--netns", p.Path()}, "--conf: missing; accepted: a conflist"},
		"no such conf":      {[]string{"--conf", "/nowhere", "--netns", p.Path()}, "--conf: read a network configuration: open /nowhere"},
		"no JSON":           {[]string{"--conf", file("{"), "--netns", p.Path()}, "--conf: "},
		"other plugins":     {[]string{"--conf", file(`{"cniVersion": "1.0.0", "name": "n", "type": "bridge"}`), "--netns", p.Path()}, "network n: none of its plugins is known; accepted: veth-host"},
		"a bad key":         {[]string{"--conf", file(strings.Replace(good, "{", `{"mtu": 9, `, 1)), "--netns", p.Path()}, "mtu: 9: out of range; accepted: "},
		"an interface":      {[]string{"--conf", file(strings.Replace(good, "enp1s0", "eno7", 1)), "--netns", p.Path()}, "hostInterface: eno7: the node has no such interface; accepted: "},
		"no pod":            {[]string{"--conf", file(good)}, "--netns: missing"},
		"no such pod":       {[]string{"--conf", file(good), "--netns", "/nowhere"}, "the pod: open /nowhere: no such file or directory; accepted: "},
		"no namespace":      {[]string{"--conf", file(good), "--netns", "/proc/self/status"}, "not a network namespace; accepted: "},
		"the node itself":   {[]string{"--conf", file(good), "--netns", "/proc/self/ns/net"}, "it is the node's own network namespace; accepted: the pod's"},
		"two pods":          {[]string{"--conf", file(good), "--netns", p.Path(), "--pid", "1"}, "--pid 1: --netns "},
		"no process":        {[]string{"--conf", file(good), "--pid", "-3"}, "--pid -3: accepted: "},
		"an interface name": {[]string{"--conf", file(good), "--netns", p.Path(), "--ifname", "a/b"}, "--ifname a/b: contains /, : or %; accepted: "},
		"a format":          {[]string{"--conf", file(good), "--netns", p.Path(), "-o", "yaml"}, "-o yaml: accepted: text, json"},
		"an argument":       {[]string{"--conf", file(good), "--netns", p.Path(), "x"}, "x: no such argument"},
		"a flag":            {[]string{"--confs", "x"}, "flag provided but not defined: -confs; `underlayctl plan --help`"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := w.ctl(t, append([]string{"plan"}, test.args...)...).want(t, statusUsage); !strings.Contains(got.stderr, test.want) || got.stdout != "" {
				t.Errorf("want %q, got %q and %q", test.want, got.stderr, got.stdout)
			}
		})
	}
}
