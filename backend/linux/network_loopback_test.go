//go:build linux && (amd64 || arm64)

package linux_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/backend/linux"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Server and client at once, over TCP and UDP, at each address.
	"converse": func(hosts []string) error {
		for _, host := range hosts {
			if err := converseTCP(host); err != nil {
				return err
			}
			if err := converseUDP(host); err != nil {
				return err
			}
		}
		return nil
	},
	// Answers at an address with a name until told, and then asks there itself.
	"answer-at": victim.Two(func(address, name string) error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, name)
				c.Close()
			}
		}()
		os.Stdout.WriteString("ready\n")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		got, err := ask(address)
		if err == nil {
			fmt.Println("answered by", got)
		}
		return err
	}),
	"addresses": func([]string) error {
		b, err := os.ReadFile("/proc/self/net/fib_trie")
		os.Stdout.Write(b)
		return err
	},
	"ask": victim.One(func(address string) error {
		got, err := ask(address)
		fmt.Print(got)
		return err
	}),
})

// ask connects and reads to the end.
func ask(address string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

func converseTCP(host string) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "tcp "+c.RemoteAddr().(*net.TCPAddr).IP.String())
			c.Close()
		}
	}()
	got, err := ask(l.Addr().String())
	fmt.Println(got)
	return err
}

func converseUDP(host string) error {
	l, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("udp", l.LocalAddr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "udp"); err != nil {
		return err
	}
	b := make([]byte, 10)
	n, from, err := l.ReadFrom(b)
	if err != nil {
		return err
	}
	fmt.Println(string(b[:n]), from.(*net.UDPAddr).IP)
	return nil
}

func loopback(s *spec.Spec) { s.Capabilities.Network.Loopback = true }

// ownAddresses are those of a loopback on this host: without IPv6 there is one.
func ownAddresses() []string {
	own := []string{"127.0.0.1"}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		own = append(own, "::1")
	}
	return own
}

// Programs inside reach each other at the addresses that the report names.
func TestLoopbackServesItself(t *testing.T) {
	hosts := ownAddresses()
	control := control(t, "converse", hosts...).succeeds(t).Stdout
	// The control without the grant: the same act is denied.
	run(t, nil, "converse", hosts...).denied(t, plan.NetworkDenyAll, unix.EACCES)
	o := run(t, mods{loopback}, "converse", hosts...).succeeds(t)
	if want := 2 * len(hosts); o.Stdout != control || strings.Count(o.Stdout, "\n") != want {
		t.Errorf("inside was said %q, outside %q, expected %d lines", o.Stdout, control, want)
	}
	o.heldBy(t, plan.NetworkLoopback)
	o.heldBy(t, plan.NetworkNamespace)
	n := o.Report.Posture.Network
	if n == nil || !slices.Equal(n.Interfaces, []string{"lo"}) || !slices.Equal(n.Addresses, hosts) || len(n.Routes) != 0 {
		t.Errorf("the report says of the network %+v, expected lo and %q", n, hosts)
	}
	if n := run(t, nil, "exit", "0").Report.Posture.Network; n != nil {
		t.Errorf("without a loopback the report says of the network %+v", n)
	}
}

// Nothing inside can give itself more than what is there, and from the host
// there is nothing more to be seen. The control, which owns its namespace, does
// the same and gets through.
func TestLoopbackIsAllThereIs(t *testing.T) {
	elsewhere := net.IPv4(192, 0, 2, 1) // TEST-NET-1 (RFC 5737)
	ifreq := func(name string, rest []byte) []byte {
		b := make([]byte, 40)
		copy(b, name)
		copy(b[unix.IFNAMSIZ:], rest)
		return b
	}
	c := newCalls()
	lo := ifreq("lo", binary.NativeEndian.AppendUint16(nil, unix.IFF_UP))
	fd := c.try("socket", unix.SYS_SOCKET, num(unix.AF_INET), num(unix.SOCK_DGRAM), num(0))
	c.try("raise", unix.SYS_IOCTL, fd, num(unix.SIOCSIFFLAGS), c.Bytes(lo, "lo"))
	c.try("address", unix.SYS_IOCTL, fd, num(unix.SIOCSIFADDR), c.Bytes(ifreq("lo:1", inet(unix.AF_INET, elsewhere, 0)), "lo:1"))
	for _, to := range []struct {
		name         string
		family, kind int
		ip           net.IP
	}{
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, elsewhere},
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, elsewhere},
		{"tcp6", unix.AF_INET6, unix.SOCK_STREAM, net.ParseIP("2001:db8::1")}, // RFC 3849
	} {
		s, at := c.try(to.name+": socket", unix.SYS_SOCKET, num(to.family), num(to.kind), num(0)), inet(to.family, to.ip, 9)
		c.try(to.name, unix.SYS_CONNECT, s, c.Bytes(at, to.name), num(len(at)))
	}
	without, within, o := c.both(t, true, loopback)
	for name, want := range map[string]unix.Errno{"raise": 0, "address": 0, "udp": 0, "tcp": unix.ECONNREFUSED} {
		if without[name] != -int64(want) {
			t.Errorf("control: %s gave %v, expected %v", name, unix.Errno(-without[name]), want)
		}
	}
	for name, want := range map[string]unix.Errno{"raise": unix.EPERM, "address": unix.EPERM, "udp": unix.ENETUNREACH, "tcp": unix.ENETUNREACH, "tcp6": unix.ENETUNREACH} {
		if within[name] != -int64(want) {
			t.Errorf("confined: %s gave %d (%v), expected %v", name, within[name], unix.Errno(-within[name]), want)
		}
	}
	o.heldBy(t, plan.NetworkLoopback)

	l := start(t, t.Context(), mods{loopback}, "hold")
	if got := interfacesIn(readText(t, fmt.Sprintf("/proc/%d/net/dev", l.pid))); !slices.Equal(got, []string{"lo"}) {
		t.Errorf("the host sees the interfaces %q, expected lo alone", got)
	}
	if routes := readText(t, fmt.Sprintf("/proc/%d/net/route", l.pid)); strings.Count(routes, "\n") != 1 {
		t.Errorf("the host sees routes:\n%s", routes)
	}
	if trie := readText(t, fmt.Sprintf("/proc/%d/net/fib_trie", l.pid)); strings.Count(trie, "/32 host LOCAL") != 2 || !strings.Contains(trie, "|-- 127.0.0.1\n") {
		t.Errorf("the host sees other addresses than 127.0.0.1, in both tables:\n%s", trie)
	}
	if namespace(t, l.pid, "net") == namespace(t, os.Getpid(), "net") {
		t.Error("the workload is in the supervisor's network namespace")
	}
	l.release()
}

// Two runs at once have the same port, each its own.
func TestLoopbackOfTwoRuns(t *testing.T) {
	address := freeAddress(t)
	first := start(t, t.Context(), mods{loopback}, "answer-at", address)
	second := start(t, t.Context(), mods{loopback}, "answer-at", address)
	if a, b := namespace(t, first.pid, "net"), namespace(t, second.pid, "net"); a == b {
		t.Errorf("both are in %s", a)
	}
	for _, l := range []*live{first, second} {
		if o := l.release().succeeds(t); !strings.Contains(o.Stdout, "answered by "+l.token+"\n") {
			t.Errorf("the answer was %q, expected its own, %s", o.Stdout, l.token)
		}
	}
	// The control: on one network the second gets no such port.
	held, err := net.Listen("tcp", address)
	must(t, err)
	defer held.Close()
	if o := control(t, "answer-at", address, "second"); unix.Errno(o.Code) != unix.EADDRINUSE {
		t.Errorf("control: the second ended with %v, expected EADDRINUSE", unix.Errno(o.Code))
	}
}

// freeAddress is a port of this host that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// A launcher begins before the plan is known, as the last plan wanted it. Runs
// with and without a loopback take turns, and each has what its own plan says.
func TestLoopbackIsNotLeftToTheNextRun(t *testing.T) {
	up := func(o outcome) bool { return strings.Contains(o.Stdout, "127.0.0.1\n") }
	for range 3 {
		if o := run(t, mods{loopback}, "addresses").succeeds(t); !up(o) {
			t.Errorf("with a loopback it sees\n%s", o.Stdout)
		}
		if o := run(t, nil, "addresses").succeeds(t); up(o) {
			t.Errorf("without one it sees\n%s", o.Stdout)
		}
	}
	a := prepared(t, supervisor(t), 2, mods{loopback}, place.exe, victim.Word, "converse", "127.0.0.1")
	for range 3 {
		o := a.once(bvisor.Request{})
		o.wasPrepared(t, true)
		if n := o.Report.Posture.Network; n == nil || !slices.Equal(n.Addresses, ownAddresses()) {
			t.Errorf("the report says of the network %+v", n)
		}
	}
}

// Neither side's 127.0.0.1 is the other's.
func TestLoopbackAndTheHost(t *testing.T) {
	var arrived atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			arrived.Add(1)
			io.WriteString(c, "host")
			c.Close()
		}
	}()
	if o := control(t, "ask", l.Addr().String()).succeeds(t); o.Stdout != "host" {
		t.Errorf("control: the answer was %q", o.Stdout)
	}
	run(t, mods{loopback}, "ask", l.Addr().String()).denied(t, plan.NetworkLoopback, unix.ECONNREFUSED)
	if n := arrived.Load(); n != 1 {
		t.Errorf("%d connections arrived, one is the control's", n)
	}

	address := freeAddress(t)
	inside := start(t, t.Context(), mods{loopback}, "answer-at", address)
	if got, err := ask(address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the host asked at the boundary's port and got %q, %v", got, err)
	}
	inside.release().succeeds(t)
	// The control: a server without a boundary answers there.
	served, err := net.Listen("tcp", address)
	must(t, err)
	go func() {
		if c, err := served.Accept(); err == nil {
			io.WriteString(c, "control")
			c.Close()
		}
	}()
	if got, err := ask(address); got != "control" {
		t.Errorf("control: got %q, %v", got, err)
	}
	served.Close()
}

// Of the internet families TCP and UDP, and no other family but unix.
func TestLoopbackSocketKinds(t *testing.T) {
	c := newCalls()
	var open []string
	socket := func(name string, opened bool, family, kind, protocol int) {
		c.try(name, unix.SYS_SOCKET, num(family), num(kind), num(protocol))
		if opened {
			open = append(open, name)
		}
	}
	for family, name := range map[int]string{unix.AF_INET: "inet", unix.AF_INET6: "inet6"} {
		socket(name+" stream", true, family, unix.SOCK_STREAM, 0)
		socket(name+" tcp", true, family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		socket(name+" udp", true, family, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
		socket(name+" mptcp", false, family, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		socket(name+" sctp", false, family, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
		socket(name+" udplite", false, family, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
		socket(name+" raw", false, family, unix.SOCK_RAW, unix.IPPROTO_UDP)
		socket(name+" raw with tcp's number", false, family, unix.SOCK_RAW, unix.IPPROTO_TCP)
		socket(name+" packet", false, family, unix.SOCK_PACKET, 0)
	}
	socket("ping", false, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	socket("netlink route", false, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	socket("netlink audit", false, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
	socket("packet", false, unix.AF_PACKET, unix.SOCK_RAW, 0)
	socket("packet dgram", false, unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	socket("vsock", false, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	socket("alg", false, unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	socket("xdp", false, unix.AF_XDP, unix.SOCK_RAW, 0)
	socket("unix", true, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	without, within, o := c.both(t, true, loopback)
	for _, name := range append([]string{"inet raw", "packet", "netlink route", "netlink audit"}, open...) {
		if without[name] < 0 && !strings.HasPrefix(name, "inet6") {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
	}
	for _, name := range c.names {
		switch {
		case slices.Contains(open, name):
			if within[name] < 0 && without[name] >= 0 {
				t.Errorf("confined: %s gave %v", name, unix.Errno(-within[name]))
			}
		case within[name] != -int64(unix.EACCES):
			t.Errorf("confined: %s gave %d (%v), expected EACCES", name, within[name], unix.Errno(-within[name]))
		}
	}
	o.heldBy(t, plan.CallFilter)
}

// What is read back decides: a plan that names another address does not start.
func TestLoopbackPostureIsRead(t *testing.T) {
	s := another(t)
	p, err := s.Backend.Probe(t.Context())
	must(t, err)
	p.Offers = slices.Clone(p.Offers)
	for i, o := range p.Offers {
		if o.Kind != plan.NetworkLoopback {
			continue
		}
		m := slices.Clone(o.Ways[0].Mechanisms)
		for k := range m {
			if m[k].Name == "loopback-interface" {
				m[k].Params = []plan.Param{{Name: "address", Value: "127.0.0.2"}}
			}
		}
		p.Offers[i].Ways = []plan.Way{{Mechanisms: m, Requires: o.Ways[0].Requires}}
	}
	p, err = p.Seal()
	must(t, err)
	b := linux.New()
	b.Assume(p)
	s.Backend = b
	made := filepath.Join(tree(t, "d/"), "d", "made")
	must(t, os.Chmod(filepath.Dir(made), 0o777))
	req := request(mods{loopback, grant("rw", filepath.Dir(made))}, "create", made)
	o, err := attemptWith(t, s, t.Context(), req)
	must(t, err)
	want := "posture: its own addresses are " + strings.Join(ownAddresses(), ", ") + ", expected 127.0.0.2"
	if got := o.Report.Outcome; got.Status != report.SetupFailed || got.Reason != want {
		t.Errorf("the report says %+v, expected %q", got, want)
	}
	holds(t, made, "")
	// The control: with the profile as it was taken the same act leaves its mark.
	if o, err := attempt(t, bvisor.Request{Spec: req.Spec}); err != nil || o.Code != 0 {
		t.Errorf("control: ended with %d, %v", o.Code, err)
	}
	if _, err := os.Stat(made); err != nil {
		t.Error(err)
	}
}

// Where lo cannot be brought up, or the host's network is wanted as well,
// nothing runs.
func TestNoLoopbackIsRefused(t *testing.T) {
	marked := token()
	for name, c := range map[string]struct {
		sup    *bvisor.Supervisor
		change mods
		want   string
	}{
		"no interface": {without(t, "loopback.up", plan.NetworkLoopback), mods{loopback}, "unsupported.network-loopback"},
		"host network": {supervisor(t), mods{loopback, accept("host-network")}, "weakening.conflict"},
	} {
		o, err := attemptWith(t, c.sup, t.Context(), request(c.change, "hold", marked))
		must(t, err)
		if got := reasons(t, o); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: refused for %q, expected %s", name, got, c.want)
		}
	}
	if len(withToken(marked)) > 0 {
		t.Error("something was launched")
	}
	// The control: without a loopback the host that has none runs it.
	if o, err := attemptWith(t, without(t, "loopback.up", plan.NetworkLoopback), t.Context(), request(nil, "exit", strconv.Itoa(0))); err != nil || o.Code != 0 {
		t.Errorf("control: %d, %v", o.Code, err)
	}
}
