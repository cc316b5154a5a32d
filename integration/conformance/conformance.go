// Package conformance tests whether a CNI plugin does what the CNI specification wants. It drives any binary, as a
// process, in every version from 0.1.0 to 1.1.0, and then replays what the callers really do:
//
//	go test ./integration/conformance -plugin /opt/cni/bin/macvlan -conf macvlan.conf -v
//	go test ./integration/conformance -plugin bin/veth-host -conf conflist/examples/macvlan.conflist -report report.md
//
// It needs root, ip(8), nft(8), network namespaces and the plugins that stand beside the one under test: no Kubernetes, no
// runtime, no network. Every row gets a node of its own, a network namespace with an empty /run and /var/lib/cni, and containers on it. Nothing of
// the machine is touched, and nothing stays behind, however the test ends. The plugin must not lie below /run or
// /var/lib.
//
// # Rows
//
// A row is one must, should or may of the specification, and is named after it: DEL/without CNI_NETNS. It is a subtest of
// TestPlugin/rows, so that -run picks it (-run 'TestPlugin/rows/(DEL|GC)/'). It
//
//   - passes;
//   - fails, if the plugin does not do what it must;
//   - is noted, if the plugin does not do what it should, or what is optional: a skipped subtest, which -v shows, and a
//     failure with -strict;
//   - does not apply: an interface plugin gets no prevResult, one that lists no 1.1.0 has no GC. Skipped, with the reason.
//
// The rows of callers run the whole conflist by the real libcni: containerd (a second network in the same namespace at
// the same time; three DELs, the last two with neither namespace nor prevResult), CRI-O (VERSION, ADD and CHECK at once,
// GC with a list and with null), Multus (net1 and net2 after eth0, args.cni, no CHECK, DEL in reverse) and cnitool (no
// CNI_ARGS, GC without a list).
//
// There are no rows for what the specification says in two ways: whether CNI_PATH is optional, and what a VERSION without
// input is.
//
// # Interface plugins and chained plugins
//
// The plugin's place in -conf tells which it is. What stands before it in the conflist runs first and makes its
// prevResult; a plugin that nothing stands before is an interface plugin. A chained plugin whose configuration is given
// alone gets something before it by -before.
//
// A plugin that wants a container to have an interface already, as those do that Multus calls for net1, is told so by
// -first: each container is attached to that network as eth0, by the real libcni, before the plugins of -conf make net1.
//
// What "as it was" means, after DEL or a failed ADD: links, addresses, routes of all tables, rules, permanent neighbours,
// nftables, the settings of interfaces, and the names of files in /run and /var/lib/cni, on the node, are those of before;
// what containers share may stay, since another container is attached all the while.
//
// # Flags
//
//	-plugin PATH    the binary under test
//	-conf FILE      the conflist that it is in, or its configuration alone. A runtimeConfig in it is passed on
//	-type NAME      its type in -conf, where that is not the name of the binary
//	-before FILE    what runs before -conf: a conflist, a configuration, or "bridge" for one of bridge and host-local
//	-path DIRS      where plugins are found beside -plugin, .tools and /opt/cni/bin
//	-node FILE      a script for sh -e that prepares each node; else a node has enp1s0 on a wire, 10.10.20.152/24 and
//	                fd20::152/64, and default routes by 10.10.20.1 and fd20::1
//	-first FILE     the network of eth0: the plugin makes net1 of containers that are attached to it already
//	-second FILE    the other network of containerd and Multus; else one of ptp and host-local, 10.89.0.0/24 and fd89::/64
//	-strict         what is noted fails
//	-report FILE    all verdicts as a table in Markdown
//
// Files are relative to the root of the module. Write the flags behind the package.
//
// Without -plugin the suite runs on the plugins of this project and on some of the CNI project, whose known deviations are
// listed with their reasons (a verdict that changes fails, for better or worse), and on itself: TestRowsNotice breaks every
// rule that has a row and wants that row to notice.
package conformance
