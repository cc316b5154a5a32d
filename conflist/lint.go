package conflist

import (
	"errors"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// A Finding is one remark about a configuration: an error that a plugin would refuse, or something that it would
// accept and an operator will hardly want.
type Finding struct {
	Line   int    // in the text, from 1; 0 if the text is a single line or the remark is about several keys
	Key    string // with the path to it: "plugins[1].serviceCidr"; empty if the text is not JSON
	Value  string // what stands there, shortened; empty if the key is missing
	Advice string // what is wrong, and what to write instead
}

// String is the finding on one line: the key, the value, the advice.
func (f Finding) String() string {
	return (&KeyError{Line: f.Line, Key: f.Key, Value: f.Value, Problem: f.Advice}).Error()
}

// Lint looks at a whole configuration: the conflist of a node, or the spec.config of a NetworkAttachmentDefinition.
// No finding means that the plugins of this project accept it and that nothing in it looks like a mistake. The keys
// of other plugins are read where the plugins of this project depend on them, and are not checked.
func Lint(data []byte) []Finding {
	var l linter
	list, err := split(data, firstLine(data))
	if err != nil {
		l.refuse("", err)
		return l.findings
	}
	if _, single := find(list, "type"); single { // which Multus accepts in place of a list
		l.lintChain([]plugin{{members: list, raw: data}})
		return l.findings
	}
	if chain, ok := l.chain(list); ok {
		l.lintChain(chain)
	}
	return l.findings
}

// linter collects findings.
type linter struct{ findings []Finding }

func (l *linter) advise(key, value, advice string) {
	l.findings = append(l.findings, Finding{Key: key, Value: shorten(value), Advice: advice})
}

// refuse makes findings of the errors of a decoder.
func (l *linter) refuse(path string, errs ...error) {
	for _, err := range errs {
		e, ok := errors.AsType[*KeyError](err)
		if !ok {
			continue // there is no other
		}
		advice := (&KeyError{Problem: e.Problem, Accepted: e.Accepted}).Error()
		l.findings = append(l.findings, Finding{Line: e.Line, Key: path + e.Key, Value: e.Value, Advice: advice})
	}
}

// A plugin is one plugin of a chain.
type plugin struct {
	path    string // "plugins[1].", empty for a plugin without a list
	members []member
	raw     []byte
}

// name is the type of the plugin, which is the name of its binary.
func (p plugin) name() string {
	m, _ := find(p.members, "type")
	name, _ := unquote(m.raw) // the plugin's own decoder complains
	return name
}

// chain returns the plugins of a network configuration list and checks the keys beside them.
func (l *linter) chain(list []member) (chain []plugin, ok bool) {
	var c types.PluginConf
	l.refuse("", decode("", list, append([]key{{name: "plugins"}}, cniKeys(&c)...))...)

	plugins, _ := find(list, "plugins")
	elements, ok := walk(plugins.raw, plugins.line, '[')
	if !ok || len(elements) == 0 {
		l.refuse("", (member{key: "plugins", raw: plugins.raw, line: plugins.line}).error("", "no list", "a list of plugins"))
		return nil, false
	}
	for _, e := range elements {
		members, ok := walk(e.raw, e.line, '{')
		if !ok {
			l.refuse("plugins", e.error("", errWrongType.Error(), "a JSON object"))
			return nil, false
		}
		chain = append(chain, plugin{path: "plugins" + e.key + ".", members: members, raw: e.raw})
	}
	return chain, true
}

// lintChain looks at each plugin of this project, and at the plugins before it with its eyes.
func (l *linter) lintChain(chain []plugin) {
	ours := []string{"veth-host", "veth", "router"}
	var names []string
	found := ""
	for i, p := range chain {
		names = append(names, p.name())
		if !slices.Contains(ours, p.name()) {
			continue
		}
		if i == 0 {
			l.advise(p.path+"type", p.name(), "comes first; put it after the plugin that makes the pod's interface, such as macvlan or ipvlan, in one list")
		}
		switch {
		case found == p.name():
			l.advise(p.path+"type", found, "comes twice; once does all that a pod needs")
		case found != "":
			l.advise(p.path+"type", p.name(), "comes beside "+found+", which does the same for other pods; take one of them")
		}
		found = p.name()
		if found == "veth-host" {
			l.lintAsVethHost(p, chain[:i])
		} else {
			l.lintAsUnderlay(p, chain[:i])
		}
	}
	if found == "" {
		l.advise("plugins", strings.Join(names, ", "), "none of "+strings.Join(ours, ", ")+" in the chain")
	}
}

func (l *linter) lintAsVethHost(p plugin, before []plugin) {
	c, errs := decodeVethHost(p.withName())
	l.refuse(p.path, errs...)
	if len(errs) > 0 {
		return
	}
	l.lintVethHost(p.path, c)
	for _, b := range before {
		u := underlayOf(b)
		l.lintInterface(p.path, c, u)
		l.lintIPAM(p.path, c, u)
	}
}

// withName does what libcni does to a plugin of a list: the name of the list, checked already, becomes its name.
func (p plugin) withName() []member {
	if p.path == "" {
		return p.members
	}
	named := []member{{key: "name", raw: []byte(`"list"`)}}
	for _, m := range p.members {
		if m.key != "name" {
			named = append(named, m)
		}
	}
	return named
}
