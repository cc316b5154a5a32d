package faults

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Mutation takes away, or alters, what one line of a plan has made.
type Mutation struct {
	Name    string
	Command string // for a shell on the node
	Repair  string // for a shell on the node, before the plugin makes it good
	After   string // for a shell on the node, once the plugin has made it good
	Anew    bool   // it is made good by a new pair, with a table of another number
	Gone    bool   // nothing of the plugin's makes it good: what others have made is gone too
	Says    string // what CHECK is to say of it
}

// late is larger for what is to be tried later.
func (m Mutation) late() int {
	switch {
	case m.Gone && m.Says == "net1": // of which CHECK has nothing else to say
		return 3
	case m.Gone:
		return 2
	case m.Anew:
		return 1
	}
	return 0
}

// ErrNoMutation says that the plan makes something of which nobody knows how it could break.
var ErrNoMutation = errors.New("no mutation is known for this line")

// Lines splits a plan into its changes: a here-document belongs to the command above it.
func Lines(plan string) (lines []string) {
	document := ""
	for line := range strings.Lines(plan) {
		switch {
		case document != "":
			document += line
			if line == "EOF\n" {
				lines, document = append(lines, document), ""
			}
		case strings.HasSuffix(line, "<<'EOF'\n"):
			document = line
		default:
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

var enter = regexp.MustCompile(`^nsenter --net=\S+ `)

// Mutations are all that are known of one line of a plan. They are read off the line itself, so that a line of a kind
// that has none is an error.
func Mutations(line string) ([]Mutation, error) {
	in := enter.FindString(line)
	b := breaker{in: in, line: strings.TrimPrefix(line, in)}
	words := strings.Fields(b.line)
	if len(words) < 3 {
		return nil, fmt.Errorf("%w: %s", ErrNoMutation, line)
	}
	b.ip = "ip "
	if words[1] == "-6" {
		b.ip = "ip -6 "
	}
	verb, rest, _ := strings.Cut(strings.TrimPrefix(b.line, b.ip), " ")
	what, rest, _ := strings.Cut(rest, " ")
	switch verb + " " + what {
	case "rule add":
		b.rule(strings.TrimSuffix(rest, " protocol kernel"))
	case "rule del": // of both families
		rest, _, _ = strings.Cut(rest, ";")
		words[6] = strings.TrimSuffix(words[6], ";")
		b.add("one more", "ip rule add "+rest+" lookup 9999 && "+in+"ip -6 rule add "+rest+" lookup 9999", "rule is still there: "+words[4]+": iif "+words[6]+" lookup 9999")
	case "route replace":
		b.route(rest)
	case "route del":
		b.add("back again", b.ip+"route append "+rest, "route is still there: "+b.ip+"route  "+rest)
	case "route change":
		b.source(rest)
	case "neigh replace":
		b.neigh(words)
	case "link add":
		b.pair(words)
	case "link set":
		if words[4] == "address" {
			b.add("another", "ip link set "+words[3]+" address 02:00:00:00:00:99", "interface "+words[3]+" has address 02:00:00:00:00:99, not "+words[5])
		} else {
			b.up(words)
		}
	case "link property": // "ip link property add dev NAME altname ALTNAME"
		b.add("removed", "ip link property del dev "+words[5]+" altname "+words[7], "interface "+words[5]+" has no altname "+words[7])
	case "addr replace": // "ip addr replace ADDR dev NAME …"
		address, by, _ := strings.Cut(rest, " dev ")
		dev, _, _ := strings.Cut(by, " ")
		b.add("removed", b.ip+"addr del "+address+" dev "+dev, "address is missing: "+address+" on "+dev)
	default:
		switch {
		case words[0] == "sysctl":
			b.sysctls(words[2:])
		case words[0] == "nft":
			b.nft()
		case strings.Contains(words[0], "-restore"):
			b.iptables(strings.Replace(words[0], "-restore", "", 1))
		}
	}
	if len(b.found) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoMutation, line)
	}
	return b.found, nil
}

// A breaker collects the mutations of one line.
type breaker struct {
	in, line string // the command that enters the pod, and the rest
	ip       string // ip(8) for the family
	found    []Mutation
}

func (b *breaker) add(name, command, says string) {
	title, _, _ := strings.Cut(b.line, "\n")
	if b.in != "" {
		title = "pod: " + title
	}
	b.found = append(b.found, Mutation{Name: title + ": " + name, Command: b.in + command, Says: says})
}

func (b *breaker) rule(selector string) {
	says := "rule is missing: " + b.ip + "rule  " + selector
	b.add("removed", b.ip+"rule del "+selector, says)
	other := regexp.MustCompile(`(lookup|goto) \S+|nop`).ReplaceAllString(selector, "lookup 9999")
	if b.in == "" && strings.Contains(selector, " iif ") || b.ip == "ip " && strings.Contains(selector, " from ") {
		says = " 9999" // CHECK takes the table from the rule, and misses the routes in that one
	}
	b.add("altered", b.ip+"rule del "+selector+" && "+b.in+b.ip+"rule add "+other+" protocol kernel", says)
	if strings.Contains(selector, " from ") { // ADD takes the table from it, too, for both families
		_, table, _ := strings.Cut(selector, " lookup ")
		b.found[len(b.found)-1].After = strings.NewReplacer("IN ", b.in, "TABLE", table).Replace(`for f in -4 -6; do
			from=$(IN ip $f rule show table 9999 | sed -n 's/.*from \([^ ]*\) lookup.*/\1/p')
			test -z "$from" || { IN ip $f rule del from $from lookup 9999; IN ip $f rule add pref 1024 from $from lookup TABLE protocol kernel || :; }
		done`)
	}
}

func (b *breaker) route(route string) {
	says := "route is missing: " + b.ip + "route  " + regexp.MustCompile(`^.*? dev \S+`).FindString(route)
	b.add("removed", b.ip+"route del "+route, says)
	if b.in == "" && strings.Contains(route, " table ") {
		return // somebody else's route in it: then the table is theirs, see TestTableTaken
	}
	hole := strings.Join(append(strings.Fields(route)[:1], regexp.MustCompile(`\b(table|metric) \S+`).FindAllString(route, -1)...), " ")
	b.add("a black hole", b.ip+"route del "+route+" && "+b.in+b.ip+"route add blackhole "+hole, says)
}

// source gives the node another address that the kernel likes better.
func (b *breaker) source(route string) {
	words := strings.Fields(route)
	vip, nodad := "10.10.20.250", ""
	if b.ip != "ip " {
		vip, nodad = "fd20::250", " nodad"
	}
	other := regexp.MustCompile(`src \S+`).ReplaceAllString(route, "src "+vip)
	b.add("another source", "ip addr add "+vip+" dev lo"+nodad+" && "+b.ip+"route change "+other, "the source address towards "+words[0]+" is "+vip)
	b.found[len(b.found)-1].After = "ip addr del " + vip + " dev lo"
}

// neigh has the words "ip neigh replace ADDR lladdr MAC dev DEV nud permanent".
func (b *breaker) neigh(words []string) {
	addr, mac, dev := words[3], words[5], words[7]
	b.add("removed", "ip neigh del "+addr+" dev "+dev, "neighbour "+addr+" is missing on "+dev)
	b.add("another address", "ip neigh replace "+addr+" lladdr 02:00:00:00:00:77 dev "+dev+" nud permanent", "neighbour "+addr+" on "+dev+" has lladdr 02:00:00:00:00:77")
	b.add("not permanent", "ip neigh replace "+addr+" lladdr "+mac+" dev "+dev+" nud reachable", "neighbour "+addr+" on "+dev+" has lladdr "+mac+" and state 0x2")
}

func (b *breaker) sysctls(assignments []string) {
	for _, a := range assignments {
		key, value, _ := strings.Cut(a, "=")
		other := map[string]string{"0": "1"}[value]
		switch {
		case strings.HasSuffix(key, "/accept_ra"):
			other = "2" // 1 is the same where IPv6 is forwarded
		case other == "":
			other = "0"
		}
		b.add(key, "sysctl -qw "+key+"="+other, "sysctl "+key+" is "+other+", not "+value)
		if others := ofOthers.FindStringSubmatch(key); others != nil { // then the kernel takes the addresses off
			m := &b.found[len(b.found)-1]
			m.Gone, m.Says = true, others[1]
		}
	}
}

// ofOthers are the settings of the interfaces that others have given their addresses.
var ofOthers = regexp.MustCompile(`/(eth0|net1)/disable_ipv6$`)

// pair has the words of ip-link(8) for a veth, each option after its name.
func (b *breaker) pair(words []string) {
	option := func(name string, from int) string {
		for i := from; i+1 < len(words); i++ {
			if words[i] == name {
				return words[i+1]
			}
		}
		return ""
	}
	peer := 0
	for words[peer] != "peer" {
		peer++
	}
	host, end, netns := words[3], option("name", peer), option("netns", peer)
	enterPod := "nsenter --net=" + netns + " "
	b.add("removed", "ip link del "+host, "interface "+host+": no such interface")
	b.add("another peer", "ip link del "+host+" && ip link add "+host+" mtu "+option("mtu", 0)+" address "+option("address", 0)+
		" group "+option("group", 0)+" type veth peer name other netns "+netns, "interface "+end+": no such interface")
	b.add("group", "ip link set "+host+" group 0", "interface "+host+" has group 0, not "+option("group", 0))
	for _, side := range []struct{ name, in, mtu, mac string }{
		{host, "", option("mtu", 0), option("address", 0)},
		{end, enterPod, option("mtu", peer), option("address", peer)},
	} {
		b.add("mtu of "+side.name, side.in+"ip link set "+side.name+" mtu 1400", "interface "+side.name+" has mtu 1400, not "+side.mtu)
		b.add("address of "+side.name, side.in+"ip link set "+side.name+" address 02:00:00:00:00:99", "interface "+side.name+" has address 02:00:00:00:00:99, not "+side.mac)
	}
	for i := range b.found {
		b.found[i].Anew = true
	}
}

// up has the words `ip link set NAME [alias "…"] addrgenmode none up`.
func (b *breaker) up(words []string) {
	name := words[3]
	b.add("down", "ip link set "+name+" down", "interface "+name+" is down")
	b.add("addrgenmode", "ip link set "+name+" addrgenmode eui64", "interface "+name+" has addrgenmode eui64, not none")
	if strings.Contains(b.line, " alias ") {
		b.add("alias", "ip link set "+name+" alias x", "interface "+name+` has alias "x"`)
	}
}

// nft breaks each chain and each rule of a table in the words of nft(8).
func (b *breaker) nft() {
	table, chain, rules := "", "", 0
	base := false
	// CHECK names the chain only where the others are as they were.
	others := func(chain string) string {
		if strings.Count(b.line, "chain ") == 1 {
			return "table " + table + " is "
		}
		return "table " + table + " has other rules in " + chain
	}
	for line := range strings.Lines(b.line) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "table":
			table = strings.Join(words[1:3], " ")
			b.add("removed", "nft delete table "+table, "table "+table+" is missing or empty")
			b.add("emptied", "nft flush table "+table, "table "+table+" is missing or empty")
		case words[0] == "chain":
			chain, rules, base = words[1], 0, false
			b.add("chain "+chain+" emptied", fmt.Sprintf("nft flush chain %s %s", table, chain), others(chain))
			b.add("chain "+chain+" has one more", fmt.Sprintf("nft insert rule %s %s counter", table, chain), others(chain))
		case words[0] == "type":
			base = true
			b.add("policy of "+chain, fmt.Sprintf("nft chain %s %s '{ policy drop; }'", table, chain), "chain "+table+" "+chain+" has policy drop, not accept")
			// An ADD does not ask for policies: diagnose --fix repairs them.
			b.found[len(b.found)-1].Repair = fmt.Sprintf("%snft chain %s %s '{ policy accept; }'", b.in, table, chain)
		case chain != "" && (base || words[0] != "}"):
			rules++
			handle := fmt.Sprintf(`$(%snft -a list chain %s %s | sed -n 's/.*# handle //p' | sed -n %dp)`, b.in, table, chain, rules+1)
			name := fmt.Sprintf("rule %d of %s", rules, chain)
			b.add(name+" altered", fmt.Sprintf("nft replace rule %s %s handle %s counter", table, chain, handle), others(chain))
		}
	}
}

// iptables breaks each chain, rule and jump in the words of iptables-restore(8).
func (b *breaker) iptables(program string) {
	table, ours, number := "", map[string]bool{}, map[string]int{}
	for line := range strings.Lines(b.line) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case len(words) < 2 || len(words[0]) != 2:
		case words[0] == "-N":
			ours[table+words[1]] = true
			b.add("chain "+words[1]+" altered", fmt.Sprintf("%s -w -t %s -R %s 1 -j RETURN", program, table, words[1]), words[1])
		case words[0] == "-A" && ours[table+words[1]]:
			number[table+words[1]]++
			name := fmt.Sprintf("-t %s, rule %d of %s", table, number[table+words[1]], words[1])
			b.add(name+" removed", fmt.Sprintf("%s -w -t %s -D %s %d", program, table, words[1], number[table+words[1]]), words[1])
		case words[0] == "-A" || words[0] == "-I":
			rule := strings.TrimPrefix(strings.Join(words[2:], " "), "1 ")
			b.add("jump to "+words[len(words)-1]+" removed", fmt.Sprintf("%s -w -t %s -D %s %s", program, table, words[1], rule), words[len(words)-1])
		}
		if len(b.found) > 0 {
			// An ADD looks for the jumps, as long as they are there: these go.
			b.found[len(b.found)-1].Repair = fmt.Sprintf("%s%s -w -t %s -F", b.in, program, table)
		}
	}
}
