//go:build linux && (amd64 || arm64)

package linux_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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
	// Tells which interfaces and routes it sees.
	"interfaces": func([]string) error {
		for _, name := range []string{"dev", "route", "if_inet6", "ipv6_route"} {
			b, err := os.ReadFile("/proc/self/net/" + name)
			if err != nil {
				return err
			}
			fmt.Printf("%s\n%s", name, b)
		}
		return nil
	},
})

// interfacesIn are the names in a /proc/PID/net/dev.
func interfacesIn(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// Seen from the host and from inside, there is one interface, which is down,
// and no route.
func TestNetworkHasOnlyADeadLoopback(t *testing.T) {
	l := start(t, t.Context(), nil, "hold")
	dev, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", l.pid))
	must(t, err)
	if got := interfacesIn(string(dev)); !slices.Equal(got, []string{"lo"}) {
		t.Errorf("the host sees the interfaces %q, expected lo alone", got)
	}
	for _, name := range []string{"route", "if_inet6", "fib_trie"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", l.pid, name))
		must(t, err)
		if routes := strings.TrimSpace(string(b)); routes != "" && (strings.Contains(routes, "\n") || !strings.HasPrefix(routes, "Iface")) {
			t.Errorf("/proc/PID/net/%s holds more than a heading:\n%s", name, b)
		}
	}
	if own := namespace(t, os.Getpid(), "net"); namespace(t, l.pid, "net") == own {
		t.Error("the workload is in the supervisor's network namespace")
	}
	id := strings.Trim(strings.TrimPrefix(namespace(t, l.pid, "net"), "net:"), "[]")
	o := l.release()
	if f := fact(o, report.NetworkLowered); f["namespace"] != id || f["own"] != "true" {
		t.Errorf("fact %v, the namespace is %s", f, id)
	}
	o.heldBy(t, plan.NetworkDenyAll)
	o.heldBy(t, plan.NetworkNamespace)

	inside := run(t, nil, "interfaces").succeeds(t).Stdout
	if got := interfacesIn(strings.Split(inside, "route")[0]); !slices.Equal(got, []string{"lo"}) {
		t.Errorf("the workload sees the interfaces %q", got)
	}
	// The control: this host has routes or more than lo, or a netless machine
	// would make all this true.
	outside := control(t, "interfaces").succeeds(t).Stdout
	if outside == inside {
		t.Error("control: the host's own network looks the same")
	}
}

func inet(family int, ip net.IP, port int) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(family))
	b = binary.BigEndian.AppendUint16(b, uint16(port))
	if family == unix.AF_INET {
		return append(append(b, ip.To4()...), make([]byte, 8)...)
	}
	b = append(b, 0, 0, 0, 0)
	return append(append(b, ip.To16()...), 0, 0, 0, 0)
}

func unixAddress(name string) []byte {
	return append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), name...)
}

// The host listens everywhere it can; nothing arrives from inside.
func TestNothingIsReachable(t *testing.T) {
	var arrived atomic.Int64
	serve := func(l net.Listener, err error) net.Listener {
		t.Helper()
		must(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				arrived.Add(1)
				c.Close()
			}
		}()
		return l
	}
	dir := tree(t, "sockets/")
	os.Chmod(filepath.Join(dir, "sockets"), 0o777)
	path := filepath.Join(dir, "sockets", "s")
	abstract := "\x00bvisor-" + token()
	tcp4 := serve(net.Listen("tcp4", "127.0.0.1:0")).Addr().(*net.TCPAddr)
	serve(net.Listen("unix", path))
	os.Chmod(path, 0o777)
	serve(net.Listen("unix", abstract))
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer udp.Close()
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: abstract + "-d", Net: "unixgram"})
	must(t, err)
	defer gram.Close()

	c := newCalls()
	send := func(name string, family, kind int, address []byte) {
		fd := c.try(name+": socket", unix.SYS_SOCKET, num(family), num(kind), num(0))
		at := c.Bytes(address, name)
		if kind == unix.SOCK_DGRAM {
			c.try(name+": send", unix.SYS_SENDTO, fd, c.Str("x"), num(1), num(0), at, num(len(address)))
		} else {
			c.try(name+": connect", unix.SYS_CONNECT, fd, at, num(len(address)))
		}
	}
	send("tcp", unix.AF_INET, unix.SOCK_STREAM, inet(unix.AF_INET, tcp4.IP, tcp4.Port))
	send("udp", unix.AF_INET, unix.SOCK_DGRAM, inet(unix.AF_INET, net.IPv4(127, 0, 0, 1), udp.LocalAddr().(*net.UDPAddr).Port))
	send("path", unix.AF_UNIX, unix.SOCK_STREAM, unixAddress(path+"\x00"))
	send("abstract", unix.AF_UNIX, unix.SOCK_STREAM, unixAddress(abstract))
	send("abstract gram", unix.AF_UNIX, unix.SOCK_DGRAM, unixAddress(abstract+"-d"))
	without, within, o := c.both(t, false)
	eventually(t, "control: three connections", func() bool { return arrived.Load() == 3 })
	buf := make([]byte, 10)
	for _, packets := range []net.PacketConn{udp, gram} {
		if n, _, err := packets.ReadFrom(buf); err != nil || n != 1 {
			t.Errorf("control: read %d, %v", n, err)
		}
	}
	for name, result := range without {
		if result < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-result))
		}
	}
	for name, want := range map[string]unix.Errno{"tcp: socket": unix.EACCES, "udp: socket": unix.EACCES, "path: connect": unix.ENOENT,
		"abstract: connect": unix.ECONNREFUSED, "abstract gram: send": unix.ECONNREFUSED} {
		if within[name] != -int64(want) {
			t.Errorf("confined: %s gave %d (%v), expected %v", name, within[name], unix.Errno(-within[name]), want)
		}
	}
	if n := arrived.Load(); n != 3 {
		t.Errorf("%d connections arrived, 3 are the control's", n)
	}
	o.heldBy(t, plan.NetworkDenyAll)
	o.heldBy(t, plan.LandlockScopes)
	o.reports(t, report.Completed, "")
	// Nothing more came in than the control's one packet each: the next one is ours.
	for _, p := range []struct {
		to   net.PacketConn
		kind string
	}{{udp, "udp4"}, {gram, "unixgram"}} {
		conn, err := net.Dial(p.kind, p.to.LocalAddr().String())
		must(t, err)
		_, err = conn.Write([]byte("ours"))
		must(t, err)
		conn.Close()
		if n, _, err := p.to.ReadFrom(buf); err != nil || string(buf[:n]) != "ours" {
			t.Errorf("%s: got %q, %v; expected our own packet", p.kind, buf[:n], err)
		}
	}
}

// Families and types of sockets that no grant gives.
func TestSocketKinds(t *testing.T) {
	c := newCalls()
	open := func(name string, family, kind, protocol int) {
		c.try(name, unix.SYS_SOCKET, num(family), num(kind), num(protocol))
	}
	open("inet", unix.AF_INET, unix.SOCK_STREAM, 0)
	open("inet6", unix.AF_INET6, unix.SOCK_STREAM, 0)
	open("mptcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	open("sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	open("raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	open("ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	open("netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	open("audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
	open("packet", unix.AF_PACKET, unix.SOCK_RAW, 0)
	open("vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	open("alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	open("key", unix.AF_KEY, unix.SOCK_RAW, 2)
	open("tipc", unix.AF_TIPC, unix.SOCK_STREAM, 0)
	open("bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1)
	open("can", unix.AF_CAN, unix.SOCK_RAW, 1)
	open("xdp", unix.AF_XDP, unix.SOCK_RAW, 0)
	c.try("inet with high bits", unix.SYS_SOCKET, word(1<<32|unix.AF_INET), num(unix.SOCK_STREAM), num(0))
	c.try("unix", unix.SYS_SOCKET, num(unix.AF_UNIX), num(unix.SOCK_STREAM), num(0))
	c.try("io_uring_setup", unix.SYS_IO_URING_SETUP, num(1), c.Bytes(make([]byte, 120), "params"))
	without, within, o := c.both(t, true) // apart: there the superuser may open raw sockets
	for _, name := range []string{"inet", "inet6", "raw", "netlink", "packet", "unix"} {
		if without[name] < 0 {
			t.Errorf("control: %s gave %v", name, unix.Errno(-without[name]))
		}
	}
	for _, name := range c.names {
		want := -int64(unix.EACCES)
		switch name {
		case "unix":
			if within[name] < 0 {
				t.Errorf("a unix socket gave %v", unix.Errno(-within[name]))
			}
			continue
		case "io_uring_setup":
			want = -int64(unix.ENOSYS)
		}
		if within[name] != want {
			t.Errorf("confined: %s gave %d (%v), expected %v", name, within[name], unix.Errno(-within[name]), unix.Errno(-want))
		}
	}
	o.heldBy(t, plan.CallFilter)
}

// without is the suite's supervisor on a host that cannot do some kinds.
func without(t testing.TB, fact string, gone ...plan.Kind) *bvisor.Supervisor {
	t.Helper()
	s := another(t)
	p, err := s.Backend.Probe(t.Context())
	must(t, err)
	p.Facts, p.Offers = slices.Clone(p.Facts), slices.Clone(p.Offers)
	for i := range p.Facts {
		if p.Facts[i].Name == fact {
			p.Facts[i].Value = "unavailable"
		}
	}
	for i := range p.Offers {
		if slices.Contains(gone, p.Offers[i].Kind) {
			p.Offers[i].Ways, p.Offers[i].Fact, p.Offers[i].Need, p.Offers[i].Remedy = nil, fact+" is unavailable", "x", "y"
		}
	}
	p, err = p.Seal()
	must(t, err)
	b := linux.New()
	b.Assume(p)
	s.Backend = b
	return s
}

// Where there are no network namespaces, nothing runs.
func TestNoNetworkNamespaceIsRefused(t *testing.T) {
	sup := without(t, "namespace.net", plan.NetworkNamespace, plan.NetworkDenyAll)
	marked := token()
	o, err := attemptWith(t, sup, t.Context(), request(nil, "hold", marked))
	must(t, err)
	if got := reasons(t, o); !slices.Equal(got, []string{"unsupported.network-deny-all", "unsupported.network-namespace"}) {
		t.Errorf("refused for %q", got)
	}
	if len(withToken(marked)) > 0 || len(o.Report.Transcript) > 0 || o.Report.Exit != nil {
		t.Error("something was launched")
	}
}

// An allow-list needs a network stack that this backend does not have.
func TestAllowListIsRefused(t *testing.T) {
	o, err := attempt(t, request(mods{func(s *spec.Spec) { s.Capabilities.Network.Allow = []string{"example.com:443"} }}, "hold", "x"))
	must(t, err)
	if got := reasons(t, o); !slices.Equal(got, []string{"unsupported.network-allow-list"}) {
		t.Errorf("refused for %q", got)
	}
}
