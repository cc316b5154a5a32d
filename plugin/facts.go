package plugin

import "underlay-cni/routing"

// Facts are what a plugin relies on beside its plan, which is what it makes: whether the kernel uses it. The operator's
// command asks; no verb does.
type Facts struct {
	Ways  []Way  // that packets take
	Walks []Walk // through the rules of the node

	// Marks are the bits of packets' and connections' marks that the plugin takes for its own.
	Marks uint32
	// Settings are sysctls of the node that are the administrator's, and without which nothing works.
	Settings []*routing.Sysctls

	HostEnd, PodEnd *routing.Link
}

// A Way is a question to the kernel, and the answer that is right.
type Way struct {
	Name  string
	NS    *routing.Namespace
	Query routing.Query
	Dev   string // the interface by which the packet must leave
	Not   bool   // by any but that one
}

// A Use is an attachment that shares a host end with the pod's other ones. What of its names nobody knows is empty.
type Use struct {
	Attachment
	Name string // the further name of the host end that stands for the attachment
}

// A Walk is the rules of the node that a packet must meet, in order, by their priorities, before any that decides
// otherwise.
type Walk struct {
	Name  string
	V6    bool
	Iif   string // "": the packet is the node's own
	Mark  uint32
	Prefs []int
}
