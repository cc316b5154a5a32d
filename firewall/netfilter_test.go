package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// TestManyRules: more than a socket sends at once by itself, and more than the kernel answers at once.
func TestManyRules(t *testing.T) {
	ns := newNamespace(t)
	many := node()
	for port := range uint16(2000) {
		many.NodePorts = append(many.NodePorts, Ports{30000 + port, 30000 + port})
	}
	set := nftBackend{}.Node(ns, many)
	must(t, set.Apply())
	must(t, set.Verify())
	run(t, ns, "nft", "delete", "rule", "inet", "veth-host-"+many.Network, "nodeport", "handle", lastHandle(t, ns, many.Network))
	if set.Verify() == nil {
		t.Error("Verify does not miss the last rule")
	}
	must(t, set.Apply())
	must(t, set.Verify())
}

// lastHandle is that of the last rule for NodePorts of a network, as nft(8) takes it.
func lastHandle(t *testing.T, ns Namespace, network string) string {
	t.Helper()
	c, err := connect(ns)
	must(t, err)
	defer c.close()
	rules, err := c.rules(&nftables.Table{Name: "veth-host-" + network, Family: nftables.TableFamilyINet}, "nodeport")
	must(t, err)
	all := rules["nodeport"]
	return fmt.Sprint(binary.BigEndian.Uint64(all[len(all)-1].handle))
}

// TestTransactionFails: what is refused is an errno, and the socket is good for more.
func TestTransactionFails(t *testing.T) {
	c, err := connect(newNamespace(t))
	must(t, err)
	defer c.close()
	somebody := &nftables.Table{Name: "somebody", Family: nftables.TableFamilyINet}
	commit := func(queue func(*transaction)) error {
		var tx transaction
		queue(&tx)
		return tx.commit(c)
	}
	create := func(tx *transaction) { tx.addTable(somebody, unix.NLM_F_EXCL) }
	remove := func(tx *transaction) { tx.deleteTable(somebody) }
	if err := commit(remove); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete what is not there: %v", err)
	}
	must(t, commit(create))
	if err := commit(create); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create what is there: %v", err)
	}
	if _, err := c.policy(somebody, "nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a chain that is not there: %v", err)
	}
	tables, err := c.tables()
	must(t, err)
	if len(tables) != 1 || *tables[0] != *somebody {
		t.Errorf("tables: %v", tables)
	}
	must(t, commit(remove))
}

// TestAttributes: a path is found in a message, and nothing in one that is cut off anywhere.
func TestAttributes(t *testing.T) {
	whole := nestedAttr(1, numberAttr(2, 7), nestedAttr(3, textAttr(4, "x"), textAttr(5, "here"))).Serialize()
	if got := textOf(whole, 1, 3, 5); got != "here" {
		t.Errorf("got %q", got)
	}
	for _, path := range [][]int{{9}, {1, 9}, {1, 3, 5, 9}, {1, 2, 4}} {
		if got := attribute(whole, path...); got != nil {
			t.Errorf("%v: got %v", path, got)
		}
	}
	for size := range whole {
		if got := attribute(whole[:size], 1, 3, 5); got != nil {
			t.Errorf("%d bytes: got %v", size, got)
		}
	}
}
