package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A conn is an nfnetlink socket, by which nf_tables is asked and told. Package expr of google/nftables encodes the
// expressions of a rule; the messages are made, sent and received here, because over the socket of that library each
// system call starts a goroutine that waits for a cancellation, which wakes a thread: a quarter of an ADD was that.
//
// It has no deadline and needs none. The kernel has answered when it has taken a request, however long that takes (a
// transaction waits for those of others, and for modules to be loaded), and what it has answered is read until there is
// no more.
type conn struct {
	fd  int
	buf [32 << 10]byte // the kernel makes no larger messages
}

// connect opens a socket that belongs to the namespace from then on.
func connect(ns Namespace) (*conn, error) {
	c := &conn{fd: -1}
	err := ns.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
		return err
	})
	if err == nil {
		err = unix.Connect(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) // the kernel, and nobody else
		// An error without a copy of what was wrong, since Linux 4.3: a thousand of them fit in the buffer.
		_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	return c, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// exchange sends requests and calls each with the objects that the kernel answers. Of several errors it returns the first.
func (c *conn) exchange(requests []byte, each func(message []byte)) error {
	if len(requests) > 100<<10 { // the kernel takes no more than its buffer holds
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(requests))
	}
	if _, err := unix.Write(c.fd, requests); err != nil {
		return fmt.Errorf("send to nf_tables: %w", err)
	}
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for {
		n, err := unix.Read(c.fd, c.buf[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return first
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("receive from nf_tables: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(c.buf[:n])
		keep(err)
		for _, m := range messages {
			if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
				keep(ErrChanging)
			}
			switch m.Header.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE: // both begin with an errno, 0 for none
				if len(m.Data) < 4 {
					continue
				}
				if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
					keep(fmt.Errorf("nf_tables: %w", unix.Errno(errno)))
				}
			default:
				if len(m.Data) >= sizeofNfgenmsg {
					each(m.Data)
				}
			}
		}
	}
}

// An nfgenmsg begins every message, see linux/netfilter/nfnetlink.h.
type nfgenmsg struct{ family, subsystem byte }

const sizeofNfgenmsg = 4

func (nfgenmsg) Len() int            { return sizeofNfgenmsg }
func (m nfgenmsg) Serialize() []byte { return []byte{m.family, unix.NFNETLINK_V0, 0, m.subsystem} }

func message(kind, flags int, family nftables.TableFamily, attrs ...*nl.RtAttr) []byte {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags)
	req.AddData(nfgenmsg{family: byte(family)})
	for _, a := range attrs {
		req.AddData(a)
	}
	return req.Serialize()
}

func textAttr(kind int, value string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(value)) }

func numberAttr(kind int, value uint32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.BigEndian.AppendUint32(nil, value))
}

func nestedAttr(kind int, attrs ...*nl.RtAttr) *nl.RtAttr {
	parent := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
	for _, a := range attrs {
		parent.AddChild(a)
	}
	return parent
}

// attributes are those of a message, or of an attribute that has others in it.
func attributes(data []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(data) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(data))
			if size < unix.SizeofNlAttr || size > len(data) {
				return
			}
			kind := binary.NativeEndian.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(int(kind), data[unix.SizeofNlAttr:size]) {
				return
			}
			data = data[min(len(data), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		}
	}
}

// attribute goes down a path of attributes. It is nil where there is no such thing.
func attribute(data []byte, path ...int) []byte {
next:
	for _, want := range path {
		for kind, value := range attributes(data) {
			if kind == want {
				data = value
				continue next
			}
		}
		return nil
	}
	return data
}

// textOf is the text of the attribute that attribute finds, "" where there is none.
func textOf(data []byte, path ...int) string {
	value := attribute(data, path...)
	if len(value) == 0 {
		return ""
	}
	return nl.BytesToString(value)
}

// dump lists objects; restart is called before each attempt, to forget what came. It is ErrChanging where somebody keeps
// changing what is being listed: the kernel says so only between the messages of a list, so the generation is asked before and
// after. The question before has another use: from the first answer on the kernel knows how much is read at once, and
// makes messages of that size. A list of several ones can lose rules to a transaction that fails meanwhile, see rules.
func (c *conn) dump(kind int, family nftables.TableFamily, restart func(), each func(family nftables.TableFamily, attrs []byte), attrs ...*nl.RtAttr) (err error) {
	for range attempts {
		restart()
		var before, after uint32
		if before, err = c.generation(); err != nil {
			return err
		}
		err = c.exchange(message(kind, unix.NLM_F_DUMP, family, attrs...), func(m []byte) {
			each(nftables.TableFamily(m[0]), m[sizeofNfgenmsg:])
		})
		if err == nil {
			if after, err = c.generation(); err == nil && before != after {
				err = ErrChanging
			}
		}
		if !errors.Is(err, ErrChanging) {
			return err
		}
	}
	return err
}

// generation is a number that every transaction in the namespace changes.
func (c *conn) generation() (id uint32, err error) {
	err = c.exchange(message(unix.NFT_MSG_GETGEN, 0, nftables.TableFamilyUnspecified), func(m []byte) {
		if value := attribute(m[sizeofNfgenmsg:], unix.NFTA_GEN_ID); len(value) == 4 {
			id = binary.BigEndian.Uint32(value)
		}
	})
	return id, err
}

// tables are all of the namespace.
func (c *conn) tables() (all []*nftables.Table, err error) {
	err = c.dump(unix.NFT_MSG_GETTABLE, nftables.TableFamilyUnspecified, func() { all = nil }, func(family nftables.TableFamily, attrs []byte) {
		all = append(all, &nftables.Table{Name: textOf(attrs, unix.NFTA_TABLE_NAME), Family: family})
	})
	return all, err
}

// holds is how many chains, sets and other objects a table has, without rules. It is fs.ErrNotExist where there is no such table.
func (c *conn) holds(t *nftables.Table) (count int, err error) {
	err = c.exchange(message(unix.NFT_MSG_GETTABLE, 0, t.Family, textAttr(unix.NFTA_TABLE_NAME, t.Name)), func(m []byte) {
		if value := attribute(m[sizeofNfgenmsg:], unix.NFTA_TABLE_USE); len(value) == 4 {
			count = int(binary.BigEndian.Uint32(value))
		}
	})
	return count, err
}

// policy is the policy of a chain, accept if it has none. It is fs.ErrNotExist where there is no such chain.
func (c *conn) policy(t *nftables.Table, chain string) (policy nftables.ChainPolicy, err error) {
	policy = nftables.ChainPolicyAccept
	ask := message(unix.NFT_MSG_GETCHAIN, 0, t.Family, textAttr(unix.NFTA_CHAIN_TABLE, t.Name), textAttr(unix.NFTA_CHAIN_NAME, chain))
	err = c.exchange(ask, func(m []byte) {
		if value := attribute(m[sizeofNfgenmsg:], unix.NFTA_CHAIN_POLICY); len(value) == 4 {
			policy = nftables.ChainPolicy(binary.BigEndian.Uint32(value))
		}
	})
	return policy, err
}

// A kernelRule is a rule as the kernel has it.
type kernelRule struct {
	handle []byte
	data   []byte // of the user
	target string // the chain that it jumps or goes to, if any
}

// rules are those of a table by their chains, in their order; of one chain if it is named. A table or a chain that is not
// there has none. The kernel goes on with a list, and makes sure that it has come to the end, by a count in which the rules
// of a transaction that fails meanwhile are counted (__nf_tables_dump_rules): it may tell a rule twice.
func (c *conn) rules(t *nftables.Table, chain string) (rules map[string][]kernelRule, err error) {
	of := []*nl.RtAttr{textAttr(unix.NFTA_RULE_TABLE, t.Name)}
	if chain != "" {
		of = append(of, textAttr(unix.NFTA_RULE_CHAIN, chain))
	}
	var told map[string]bool // by the handle
	restart := func() { rules, told = map[string][]kernelRule{}, map[string]bool{} }
	err = c.dump(unix.NFT_MSG_GETRULE, t.Family, restart, func(_ nftables.TableFamily, attrs []byte) {
		in := textOf(attrs, unix.NFTA_RULE_CHAIN)
		if textOf(attrs, unix.NFTA_RULE_TABLE) != t.Name || chain != "" && in != chain {
			return
		}
		r := kernelRule{
			handle: append([]byte(nil), attribute(attrs, unix.NFTA_RULE_HANDLE)...),
			data:   append([]byte(nil), attribute(attrs, unix.NFTA_RULE_USERDATA)...),
		}
		if told[string(r.handle)] {
			return
		}
		told[string(r.handle)] = true
		for _, e := range attributes(attribute(attrs, unix.NFTA_RULE_EXPRESSIONS)) {
			to := textOf(e, unix.NFTA_EXPR_DATA, unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT, unix.NFTA_VERDICT_CHAIN)
			if textOf(e, unix.NFTA_EXPR_NAME) == "immediate" && to != "" {
				r.target = to
			}
		}
		rules[in] = append(rules[in], r)
	}, of...)
	return rules, err
}

// A transaction is made as a whole or not at all.
type transaction struct {
	messages []byte
	sets     uint32
	err      error
}

func (tx *transaction) add(kind, flags int, t *nftables.Table, attrs ...*nl.RtAttr) {
	tx.messages = append(tx.messages, message(kind, flags, t.Family, attrs...)...)
}

// commit makes it. It is fs.ErrExist or fs.ErrNotExist where what is to be created is there, or what is to be deleted is
// not.
func (tx *transaction) commit(c *conn) error {
	if tx.err != nil {
		return tx.err
	}
	frame := func(kind int) []byte {
		req := nl.NewNetlinkRequest(kind, 0)
		req.AddData(nfgenmsg{subsystem: unix.NFNL_SUBSYS_NFTABLES})
		return req.Serialize()
	}
	all := append(frame(unix.NFNL_MSG_BATCH_BEGIN), tx.messages...)
	return c.exchange(append(all, frame(unix.NFNL_MSG_BATCH_END)...), func([]byte) {})
}

// addTable adds a table, with unix.NLM_F_EXCL only where there is none of the name.
func (tx *transaction) addTable(t *nftables.Table, flags int) {
	tx.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|flags, t, textAttr(unix.NFTA_TABLE_NAME, t.Name))
}

func (tx *transaction) deleteTable(t *nftables.Table) {
	tx.add(unix.NFT_MSG_DELTABLE, 0, t, textAttr(unix.NFTA_TABLE_NAME, t.Name))
}

func (tx *transaction) addChain(t *nftables.Table, ch chain) {
	attrs := []*nl.RtAttr{textAttr(unix.NFTA_CHAIN_TABLE, t.Name), textAttr(unix.NFTA_CHAIN_NAME, ch.name)}
	if ch.hook != nil {
		attrs = append(attrs,
			nestedAttr(unix.NFTA_CHAIN_HOOK, numberAttr(unix.NFTA_HOOK_HOOKNUM, uint32(*ch.hook)), numberAttr(unix.NFTA_HOOK_PRIORITY, uint32(ch.priority))),
			numberAttr(unix.NFTA_CHAIN_POLICY, uint32(nftables.ChainPolicyAccept)), textAttr(unix.NFTA_CHAIN_TYPE, string(ch.kind)))
	}
	tx.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t, attrs...)
}

// deleteChain deletes a chain; its rules have to go before.
func (tx *transaction) deleteChain(t *nftables.Table, chain string) {
	tx.add(unix.NFT_MSG_DELCHAIN, 0, t, textAttr(unix.NFTA_CHAIN_TABLE, t.Name), textAttr(unix.NFTA_CHAIN_NAME, chain))
}

// addRule appends a rule to a chain.
func (tx *transaction) addRule(t *nftables.Table, chain string, r rule, data []byte) {
	exprs := nl.NewRtAttr(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, nil)
	add := func(e expr.Any) {
		encoded, err := expr.Marshal(byte(t.Family), e)
		tx.err = errors.Join(tx.err, err)
		exprs.AddRtAttr(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, encoded)
	}
	for _, term := range r.terms {
		for _, e := range term.exprs {
			add(e)
		}
		if len(term.set) > 0 {
			add(tx.addSet(t, term.set))
		}
	}
	tx.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t,
		textAttr(unix.NFTA_RULE_TABLE, t.Name), textAttr(unix.NFTA_RULE_CHAIN, chain), exprs, nl.NewRtAttr(unix.NFTA_RULE_USERDATA, data))
}

// addSet adds an anonymous set of protocols, and returns the expression that looks a register up in it.
func (tx *transaction) addSet(t *nftables.Table, protocols []byte) expr.Any {
	const template = "__set%d" // the kernel puts a number in
	tx.sets++
	var elements []*nl.RtAttr
	for _, p := range protocols {
		elements = append(elements, nestedAttr(unix.NFTA_LIST_ELEM, nestedAttr(unix.NFTA_SET_ELEM_KEY, nl.NewRtAttr(unix.NFTA_DATA_VALUE, []byte{p}))))
	}
	const inetProto, byteOrder = 12, 2 // what nft(8) calls the type of the keys, and big endian
	tx.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t,
		textAttr(unix.NFTA_SET_TABLE, t.Name), textAttr(unix.NFTA_SET_NAME, template), numberAttr(unix.NFTA_SET_ID, tx.sets),
		numberAttr(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT),
		numberAttr(unix.NFTA_SET_KEY_TYPE, inetProto), numberAttr(unix.NFTA_SET_KEY_LEN, 1),
		nestedAttr(unix.NFTA_SET_DESC, numberAttr(unix.NFTA_SET_DESC_SIZE, uint32(len(protocols)))),
		nl.NewRtAttr(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, byteOrder)))
	tx.add(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, t,
		textAttr(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name), textAttr(unix.NFTA_SET_ELEM_LIST_SET, template), numberAttr(unix.NFTA_SET_ELEM_LIST_SET_ID, tx.sets),
		nestedAttr(unix.NFTA_SET_ELEM_LIST_ELEMENTS, elements...))
	return &expr.Lookup{SourceRegister: reg, SetName: template, SetID: tx.sets}
}

// deleteRule deletes a rule of a chain, or without one all of the chain's.
func (tx *transaction) deleteRule(t *nftables.Table, chain string, r *kernelRule) {
	attrs := []*nl.RtAttr{textAttr(unix.NFTA_RULE_TABLE, t.Name), textAttr(unix.NFTA_RULE_CHAIN, chain)}
	if r != nil {
		attrs = append(attrs, nl.NewRtAttr(unix.NFTA_RULE_HANDLE, r.handle))
	}
	tx.add(unix.NFT_MSG_DELRULE, 0, t, attrs...)
}
