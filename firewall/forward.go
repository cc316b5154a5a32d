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
		for i, closed := range l.closed(variant) {
			if !closed || l.table != "" && (&tool{v6: i == 1}).ownVariant(l.ns) == variant {
				continue
			}
			h := l.halves(variant)[i]
			if !h.tool.orPlain() {
				continue
			}
			h.tables = slices.DeleteFunc(h.tables, func(t xtable) bool { return t.name != "filter" })
			errs = append(errs, f(h))
		}
	}
	return errors.Join(errs...)
}

// closed tells for IPv4 and IPv6 whether the policy of FORWARD is DROP. It starts no process unless iptables-legacy has
// been used for the table.
func (l *leftovers) closed(variant string) (closed [2]bool) {
	if variant == variantLegacy {
		for i := range closed {
			t := &tool{v6: i == 1, variant: variantLegacy}
			if legacyTable(l.ns, t.v6, "filter") && t.orPlain() {
				rules, err := t.list(l.ns, "filter", "FORWARD")
				closed[i] = err == nil && len(rules) > 0 && rules[0] == "-P FORWARD DROP"
			}
		}
		return closed
	}
	for i, chain := range filterChains(l.ns, "FORWARD") {
		closed[i] = chain != nil && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop
	}
	return closed
}

// passing reports whether the chain in the table of iptables-nft is there, without a process and a closer look.
func (h *half) passing() bool {
	chains := filterChains(h.ns, h.tables[0].chains[0].name)
	return h.tool.v6 && chains[1] != nil || !h.tool.v6 && chains[0] != nil
}

// filterChains are the chains of a name in iptables-nft's filter tables of IPv4 and IPv6, nil where there is none.
func filterChains(ns Namespace, name string) (chains [2]*nftables.Chain) {
	c, err := connect(ns)
	if err != nil {
		return chains
	}
	defer func() { _ = c.CloseLasting() }()
	for i, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		if chain, err := c.ListChain(&nftables.Table{Name: "filter", Family: family}, name); err == nil {
			chains[i] = chain
		}
	}
	return chains
}
