package procfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Network is what /proc/PID/net says of the process's network namespace.
type Network struct {
	Interfaces []string // all of them, up or down
	Addresses  []string // its own; the kernel keeps them where the interface is up
	Routes     []string // by another interface than lo: "PREFIX INTERFACE"
}

// Network reads /proc/PID/net (proc_pid_net(5)). Of IPv6 there is nothing where
// the kernel has none.
func (p *Process) Network() (Network, error) {
	n := Network{Interfaces: []string{}, Addresses: []string{}, Routes: []string{}}
	for _, f := range []struct {
		name  string
		parse func(*Network, []byte) error
		v6    bool
	}{
		{"dev", (*Network).interfaces, false},
		{"fib_trie", (*Network).addresses4, false},
		{"route", (*Network).routes4, false},
		{"if_inet6", (*Network).addresses6, true},
		{"ipv6_route", (*Network).routes6, true},
	} {
		text, err := p.read("net/" + f.name)
		if f.v6 && errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = f.parse(&n, text)
		}
		if err != nil {
			return Network{}, fmt.Errorf("/proc/PID/net/%s: %w", f.name, err)
		}
	}
	return n, nil
}

// interfaces reads net/dev: two lines of headings, then "NAME: counters".
func (n *Network) interfaces(text []byte) error {
	for line := range bytes.Lines(text) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok {
			n.Interfaces = append(n.Interfaces, string(bytes.TrimSpace(name)))
		}
	}
	return nil
}

// addresses4 reads net/fib_trie, a tree of addresses, each with what it is in
// the lines below it: "/32 host LOCAL" is an address of this namespace. The
// local table and the main one show the same tree until there are rules.
func (n *Network) addresses4(text []byte) error {
	var leaf netip.Addr
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		switch {
		case len(f) == 2 && string(f[0]) == "|--":
			var err error
			if leaf, err = netip.ParseAddr(string(f[1])); err != nil {
				return err
			}
		case len(f) == 3 && string(f[0]) == "/32" && string(f[2]) == "LOCAL":
			if a := leaf.String(); !slices.Contains(n.Addresses, a) {
				n.Addresses = append(n.Addresses, a)
			}
		}
	}
	return nil
}

// addresses6 reads net/if_inet6: the address in hex, then five more fields.
func (n *Network) addresses6(text []byte) error {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 6 {
			return fmt.Errorf("line %q has %d fields, expected 6", line, len(f))
		}
		a, err := address6(f[0])
		if err != nil {
			return err
		}
		n.Addresses = append(n.Addresses, a.String())
	}
	return nil
}

// routes4 reads net/route, the main table: a heading, then lines of eleven
// fields. Addresses are 32-bit numbers as they lie in memory.
func (n *Network) routes4(text []byte) error {
	heading := true
	for line := range bytes.Lines(text) {
		if heading {
			heading = false
			continue
		}
		f := bytes.Fields(line)
		if len(f) < 8 {
			return fmt.Errorf("line %q has %d fields, expected 11", line, len(f))
		}
		var words [2][4]byte // destination and mask
		for i, at := range []int{1, 7} {
			w, err := strconv.ParseUint(string(f[at]), 16, 32)
			if err != nil {
				return err
			}
			binary.NativeEndian.PutUint32(words[i][:], uint32(w))
		}
		n.route(fmt.Sprintf("%s/%s", netip.AddrFrom4(words[0]), netip.AddrFrom4(words[1])), f[0])
	}
	return nil
}

// routes6 reads net/ipv6_route, lines of ten fields: the destination and the
// bits of its prefix in hex, and last the interface.
func (n *Network) routes6(text []byte) error {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 10 {
			return fmt.Errorf("line %q has %d fields, expected 10", line, len(f))
		}
		a, err := address6(f[0])
		if err != nil {
			return err
		}
		bits, err := strconv.ParseUint(string(f[1]), 16, 8)
		if err != nil {
			return err
		}
		n.route(fmt.Sprintf("%s/%d", a, bits), f[9])
	}
	return nil
}

func (n *Network) route(prefix string, device []byte) {
	if string(device) != "lo" {
		n.Routes = append(n.Routes, prefix+" "+string(device))
	}
}

func address6(text []byte) (netip.Addr, error) {
	var a [16]byte
	if len(text) != 32 {
		return netip.Addr{}, fmt.Errorf("%q is no IPv6 address in hex", text)
	}
	if _, err := hex.Decode(a[:], text); err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom16(a), nil
}
