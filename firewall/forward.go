package firewall

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
)

// open lets the packets of pods pass on a node where a policy of DROP in FORWARD would end them. A verdict of one
// backend does not bind another: the rules have to be where the policy is. They come last there, accept nothing but what
// belongs to pods, and only what no rule of others has decided about; the policy stays what it is for everyone else.
//
// A policy may come after the node's rules, so every ADD asks, if it costs no process: of iptables-legacy only the one
// that writes the node's rules does.
func (l *leftovers) open(n *nfTables, wrote bool) error {
	variants := []string{variantNFT, variantLegacy}
	if !wrote {
		variants = variants[:1]
	}
	return l.eachClosed(n, variants, func(h *half) error {
		if !wrote && h.passing(n) {
			return nil
		}
		if err := h.apply(true, true); err != nil {
			return fmt.Errorf("the policy of FORWARD is DROP, and accepting what belongs to pods there failed: %w", err)
		}
		return nil
	})
}

// isOpen tells what open would have to do.
func (l *leftovers) isOpen(n *nfTables) error {
	return l.eachClosed(n, []string{variantNFT, variantLegacy}, func(h *half) error {
		found, err := h.observe()
		if err == nil && h.compare(h.tables[0], found[0]) != nil {
			err = fmt.Errorf("the policy of FORWARD is DROP in %s, which drops what belongs to pods; `%[1]s -P FORWARD ACCEPT`, "+
				"or `%[1]s -A FORWARD -j ACCEPT` with `-m devgroup --src-group` and `--dst-group` of the network", h.tool)
		}
		return err
	})
}

// eachClosed calls f with the rules for FORWARD of each family and variant of iptables that has a policy of DROP, but
// for those of the backend itself, which has them in any case. Where the program is missing, nobody can make them.
func (l *leftovers) eachClosed(n *nfTables, variants []string, f func(*half) error) error {
	if !l.node {
		return nil
	}
	var errs []error
	for _, variant := range variants {
		closed, err := l.closed(n, variant)
		errs = append(errs, err)
		if closed == [2]bool{} {
			continue
		}
		if l.table != "" {
			if own, err := (&tool{}).ownVariant(l.ns); err != nil || own == variant {
				errs = append(errs, err)
				continue
			}
		}
		for i, h := range l.halves(variant) {
			if !closed[i] {
				continue
			}
			if !h.tool.orPlain(l.ns) {
				errs = append(errs, fmt.Errorf("%w: the policy of FORWARD is DROP in %s, which is not here to accept what belongs to pods; "+
					"install it, or change the policy: `nft list chain %s filter FORWARD`", ErrUnavailable, h.tool, []string{"ip", "ip6"}[i]))
				continue
			}
			h.tables = slices.DeleteFunc(h.tables, func(t xtable) bool { return t.name != "filter" })
			errs = append(errs, f(h))
		}
	}
	return errors.Join(errs...)
}

// closed tells for IPv4 and IPv6 whether the policy of FORWARD is DROP. It starts no process unless iptables-legacy has
// been used for the table; where that program is missing, nobody can tell.
func (l *leftovers) closed(n *nfTables, variant string) (closed [2]bool, err error) {
	if variant == variantNFT {
		for i := range closed {
			t := xtableOf("filter", i == 1)
			if n.has(t) {
				policy, err := n.policy(t, "FORWARD")
				closed[i] = err == nil && policy == nftables.ChainPolicyDrop
			}
		}
		return closed, nil
	}
	var errs []error
	for i, used := range legacyTables(l.ns) {
		t := &tool{v6: i == 1, variant: variantLegacy}
		if !slices.Contains(used, "filter") || !t.orPlain(l.ns) {
			continue
		}
		rules, err := t.list(l.ns, "filter", "FORWARD")
		errs = append(errs, err)
		closed[i] = len(rules) > 0 && rules[0] == "-P FORWARD DROP"
	}
	return closed, errors.Join(errs...)
}

// passing reports whether iptables-nft's FORWARD jumps to the chain, without a process and a closer look.
func (h *half) passing(n *nfTables) bool {
	return len(jumpsTo(n.conn, h.nftTable(h.tables[0]), h.tables[0].chains[0])) > 0
}
