package conformance

import (
	"testing"

	"underlay-cni/integration/lab"
)

// A subject is a plugin of which we know how it does. To add one is to add a line.
type subject struct {
	name   string
	binary string // in the module
	file   string // with the conflist, in the module; "": conf
	conf   string
	before string // what comes before conf
	known  map[string]known
}

// known is a row that is not passed, and why.
type known struct {
	outcome Outcome
	why     string
}

func (s *subject) subject(t *testing.T) *Subject {
	t.Helper()
	parse := func(text string) *lab.Conflist {
		if text == "" {
			return nil
		}
		c, err := ParseConf([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	list := readConf(t, s.file)
	if list == nil {
		list = parse(s.conf)
	}
	return newSubject(t, s.binary, "", list, parse(s.before))
}

const hostLocal = `{ "type": "host-local", "ranges": [[{ "subnet": "10.10.20.0/24", "rangeStart": "10.10.20.50", "gateway": "10.10.20.1" }]], "routes": [{ "dst": "0.0.0.0/0" }] }`

var subjects = []subject{
	{name: "veth-host", binary: "bin/veth-host", file: "conflist/examples/macvlan-dual-stack.conflist"},
	{name: "macvlan", binary: ".tools/macvlan", conf: `{ "type": "macvlan", "master": "enp1s0", "ipam": ` + hostLocal + ` }`},
	{name: "bridge", binary: ".tools/bridge", conf: `{ "type": "bridge", "isGateway": true, "ipMasq": true, "ipam": { "type": "host-local", "subnet": "10.88.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }] } }`},
	{name: "ptp", binary: ".tools/ptp", conf: DefaultBefore},
	{name: "tuning", binary: ".tools/tuning", before: DefaultBefore, conf: `{ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mac": "02:00:00:00:00:77", "mtu": 1400 }`},
	{name: "portmap", binary: ".tools/portmap", before: DefaultBefore, conf: `{ "type": "portmap", "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] } }`},
	{name: "sbr", binary: ".tools/sbr", before: DefaultBefore, conf: `{ "type": "sbr" }`},
}
