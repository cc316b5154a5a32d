package plugin

import "underlay-cni/routing"

// Facts are what a plugin relies on beside its plan, which is what it makes: whether the kernel uses it. The operator's
// command asks; no verb does.
type Facts struct {
	Ways  []Way  // that packets take
	Walks []Walk // through the rules of the node

	// Marks are the bits of packets' and connections' marks that the plugin takes for its own on the node, and PodMarks
	// those in the pod.
	Marks, PodMarks uint32
	// MarksAre is how the configuration calls them; empty where they are fixed.
	MarksAre string
	// MarkedBack says that the way back of what comes in by HostEnd is found by a mark, which rp_filter has to take along.
	MarkedBack bool
	// Settings are sysctls of the node that are the administrator's, and without which nothing works.
	Settings []*routing.Sysctls

	HostEnd, PodEnd *routing.Link

	Oddities []Oddity // that are no difference from the plan
	Tables   []int    // of the node, that pods share; router's only
	Names    []string // further names of HostEnd, as planned; router's only
}

// An Oddity is something about which one cannot tell by a plan alone that it is not as it should be.
type Oddity struct {
	Object, Expected, Found string
	Weight                  Weight
	Repair                  []Change // of what is ours
	Advice                  string   // what an operator may type: it is somebody's, or nobody knows whose
}

// A Weight is how bad an oddity is.
type Weight int

// The weights.
const (
	Note  Weight = iota // right, and worth to know
	Fine                // as it should be
	Risk                // it works now, or nobody knows
	Wrong               // it does not work
)

// A Way is a question to the kernel, and the answer that is right.
type Way struct {
	Name  string
	NS    *routing.Namespace
	Query routing.Query
	Dev   string // the interface by which the packet must leave
	Not   bool   // by any but that one
	// Advice is what an operator may type where the answer is another one; empty: to look at the rules and the routes.
	Advice string
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
	// Same tells the rules that do the same as the plugin's own, whoever has made them; nil: only its own do.
	Same func(routing.ListedRule) bool
}
