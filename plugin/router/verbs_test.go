package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	. "underlay-cni/plugin/plugintest" //nolint:revive // the words of the tests
)

// TestStates: what the kernel shows after net1 and after net2, in each family and by each overlay.
func TestStates(t *testing.T) {
	for _, o := range overlays {
		for _, s := range stacks {
			t.Run(o.name+" "+s.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, s, o, "")
				name := o.name + " " + s.name
				for _, n := range []*nic{net1(s), net2(s)} {
					w.Sh(t, n.make())
					add(t, w, n)
					check(t, w, n)
					name += " " + n.name
					golden(t, name, view(t, w))
				}
			})
		}
	}
}

// TestAddCheckDel, in each family and by each overlay: what ADD has made, CHECK finds, of both interfaces; ADD twice is ADD
// once, for each; DEL in either order leaves what is left working, and at the end what was there before. Lessons 3 and 5.
func TestAddCheckDel(t *testing.T) {
	for _, o := range overlays {
		for _, s := range stacks {
			for _, firstGoesFirst := range []bool{false, true} {
				t.Run(fmt.Sprint(o.name, " ", s.name, " ", firstGoesFirst), func(t *testing.T) {
					t.Parallel()
					addCheckDel(t, o, s, firstGoesFirst)
				})
			}
		}
	}
}

func addCheckDel(t *testing.T, o overlay, s stack, firstGoesFirst bool) {
	t.Helper()
	nics := []*nic{net1(s), net2(s)}
	w := newWorld(t, s, o, "")
	before := w.Show(t)
	for i, n := range nics {
		w.Sh(t, n.make())
		first := add(t, w, n)
		added := w.Show(t)
		if again := add(t, w, n); again != first {
			t.Errorf("a second ADD says\n%s\nthe first\n%s", again, first)
		}
		for _, n := range nics[:i+1] {
			check(t, w, n)
		}
		Same(t, "after a second ADD of "+n.name, sorted(added), sorted(w.Show(t)))
	}
	added := w.Show(t)
	add(t, w, nics[0])
	Same(t, "after one more ADD of net1", sorted(added), sorted(w.Show(t)))

	if !firstGoesFirst {
		slices.Reverse(nics)
	}
	for i, n := range nics {
		del(t, w, n)
		left := w.Show(t)
		del(t, w, n)
		Same(t, "after a second DEL of "+n.name, sorted(left), sorted(w.Show(t)))
		w.Sh(t, "pod ip link del "+n.name)
		for _, n := range nics[i+1:] {
			check(t, w, n)
		}
		by := "eth0"
		if i == 0 {
			by = nics[1].name
		}
		for flag, has := range map[string]bool{"": s.v4, "-6": s.v6} {
			out := w.Sh(t, "pod ip "+flag+" route show default")
			if has && (strings.Count(out, "default") != 1 || !strings.Contains(out, "dev "+by+" ")) {
				t.Errorf("after DEL of %s: %s", n.name, out)
			}
		}
	}
	Same(t, "at the end", sorted(lasting(before)), sorted(lasting(w.Show(t))))
}

// sorted: the kernel lists neighbours in any order, and adds the routes of link-local addresses at a time of its own.
func sorted(lines []string) []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(lines)), func(line string) bool { return strings.HasPrefix(line, "local fe80:") })
}
