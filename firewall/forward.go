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
func (l *leftovers) open(wrote bool) error {
	variants := []string{variantNFT, variantLegacy}
	if !wrote {
		variants = variants[:1]
	}
	return l.eachClosed(variants, func(h *half) error {
		if !wrote && h.passing() {
			return nil
		}
		if err := h.apply(true); err != nil {
			return fmt.Errorf("the policy of FORWARD is DROP, and accepting what belongs to pods there failed: %w", err)
		}
		return nil
	})
}

// isOpen tells what open would have to do.
func (l *leftovers) isOpen() error {
	return l.eachClosed([]string{variantNFT, variantLegacy}, func(h *half) error {
		found, err := h.observe()
		if err == nil && h.compare(h.tables[0], found[0]) != nil {
			err = fmt.Errorf("the policy of FORWARD is DROP in %s, which drops what belongs to pods; `%[1]s -P FORWARD ACCEPT`, "+
				"or `%[1]s -A FORWARD -j ACCEPT` with `-m devgroup --src-group` and `--dst-group` of the network", h.tool)
		}
		return err
	})
}

// eachClosed calls f with the rules for FORWARD of each family and variant of iptables that has a policy of DROP, but
// for those of the backend itself, which has them in any case.
func (l *leftovers) eachClosed(variants []string, f func(*half) error) error {
	if !l.node {
		return nil
	}
	var errs []error
	for _, variant := range variants {
		for i, h := range l.halves(variant) {
			if !h.closed(variant) || l.table != "" && (&tool{v6: i == 1}).ownVariant(l.ns) == variant {
				continue
			}
			h.tables = slices.DeleteFunc(h.tables, func(t xtable) bool { return t.name != "filter" })
			errs = append(errs, f(h))
		}
	}
	return errors.Join(errs...)
}

// closed reports whether the policy of FORWARD is DROP. It starts no process unless iptables-legacy has been used for
// the table.
func (h *half) closed(variant string) bool {
	if variant == variantLegacy {
		if !legacyTable(h.ns, h.tool.v6, "filter") || !h.tool.orPlain() {
			return false
		}
		rules, err := h.tool.list(h.ns, "filter", "FORWARD")
		return err == nil && len(rules) > 0 && rules[0] == "-P FORWARD DROP"
	}
	chain := h.forwardChain("FORWARD")
	return chain != nil && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop && h.tool.orPlain()
}

// passing reports whether the chain in the table of iptables-nft is there, without a process and a closer look.
func (h *half) passing() bool { return h.forwardChain(h.tables[0].chains[0].name) != nil }

// forwardChain is a chain of iptables-nft's filter table, nil if there is none.
func (h *half) forwardChain(name string) *nftables.Chain {
	c, err := connect(h.ns)
	if err != nil {
		return nil
	}
	defer func() { _ = c.CloseLasting() }()
	family := nftables.TableFamilyIPv4
	if h.tool.v6 {
		family = nftables.TableFamilyIPv6
	}
	chain, err := c.ListChain(&nftables.Table{Name: "filter", Family: family}, name)
	if err != nil {
		return nil
	}
	return chain
}
