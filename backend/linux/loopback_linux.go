//go:build amd64 || arm64

package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/internal/launcher"
	"github.com/bvisor/bvisor/internal/procfs"
	"github.com/bvisor/bvisor/internal/seccomp"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

// This file is all of network: loopback: how it is tried, offered, made,
// filtered and read back.

// loopbackFamilies are what sockets on it need. Netlink is none of them:
// getaddrinfo(3) does without, and with it AI_ADDRCONFIG would find no address,
// since it does not count those of loopback. What is lost is listing interfaces
// (getifaddrs(3)), and what stays closed is the largest part of the network
// code that takes requests from anybody.
var loopbackFamilies = []uint16{seccomp.AFUnix, seccomp.AFInet, seccomp.AFInet6}

// loopbackFacts are what it takes.
var loopbackFacts = []string{"launcher", "namespace.net", "seccomp.filter", "seccomp.effect", "loopback.up", "loopback.alone", "loopback.ipv4"}

const loopbackRemedy = namespaceRemedy + "; where the kernel puts tunnels into every network namespace, set sysctl net.core.fb_tunnels_only_for_init_net=1"

// The addresses of the interface lo. The kernel gives it both when it comes up
// (inetdev_event in net/ipv4/devinet.c, init_loopback in net/ipv6/addrconf.c);
// the second only where it has IPv6.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// datagram opens a socket, which is what ioctls on interfaces are made through.
func datagram(p *launcher.Program, family int, name string) (socket launcher.Arg, opened launcher.Op) {
	socket = p.Var("socket")
	return socket, p.Call("socket", unix.SYS_SOCKET, launcher.Flag(family, name),
		launcher.Flag(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), launcher.Int(0)).To(launcher.Addr(socket))
}

// interfaceCall is an ioctl on an interface of the socket's network namespace
// (netdevice(7)). value stands behind the name in struct ifreq.
func interfaceCall(p *launcher.Program, socket launcher.Arg, request uintptr, name, device string, value uint32, text string) launcher.Op {
	ifreq := make([]byte, 40)
	copy(ifreq, device)
	binary.NativeEndian.PutUint32(ifreq[unix.IFNAMSIZ:], value)
	return p.Call("ioctl", unix.SYS_IOCTL, socket, launcher.Flag(request, name), p.Bytes(ifreq, text))
}

// raise brings lo up, for which the namespace must be the caller's
// (CAP_NET_ADMIN).
func raise(p *launcher.Program, socket launcher.Arg) launcher.Op {
	return interfaceCall(p, socket, unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", "lo", unix.IFF_UP, "{lo, IFF_UP}")
}

// raiseLoopback stands before the namespace is handed over: nothing that can
// look at it ever sees it down.
func (l *lowering) raiseLoopback() {
	if !l.has(plan.NetworkLoopback) {
		return
	}
	socket, _ := datagram(l.Program, unix.AF_INET, "AF_INET")
	raise(l.Program, socket)
	l.Call("close", unix.SYS_CLOSE, socket)
}

// tryLoopback exercises it in the namespace that the probe's child just made: a
// datagram socket connects only where there is a route. lo is the first
// interface of a namespace; where modules for tunnels are loaded, the kernel may
// put more into each (net.core.fb_tunnels_only_for_init_net).
func tryLoopback(p *launcher.Program, try tryFunc, expect func(int64)) {
	socket, opened := datagram(p, unix.AF_INET, "AF_INET")
	opened.Ignore()
	try("loopback.up", "ioctl(SIOCSIFFLAGS, {lo, IFF_UP})", raise(p, socket))
	try("loopback.alone", "ioctl(SIOCGIFNAME, {2})", interfaceCall(p, socket, unix.SIOCGIFNAME, "SIOCGIFNAME", "", 2, "{2}"))
	expect(-int64(unix.ENODEV))
	// Family, port 9, for IPv6 the flow, then the address (ip(7), ipv6(7)).
	address := func(family int, rest []byte, a netip.Addr) []byte {
		b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, uint16(family)), 9)
		return append(append(append(b, rest...), a.AsSlice()...), make([]byte, 8)...)
	}
	connect := func(fact string, a netip.Addr, to []byte) {
		try(fact, "connect("+a.String()+") of a datagram socket", p.Call("connect", unix.SYS_CONNECT, socket, p.Bytes(to, a.String()), launcher.Int(len(to))))
		p.Call("close", unix.SYS_CLOSE, socket).Ignore()
	}
	connect("loopback.ipv4", loopback4, address(unix.AF_INET, nil, loopback4))
	socket, opened = datagram(p, unix.AF_INET6, "AF_INET6")
	opened.Ignore()
	connect("loopback.ipv6", loopback6, address(unix.AF_INET6, make([]byte, 4), loopback6))
}

// loopback are the addresses that the probe could reach.
func (h *host) loopback() []plan.Param {
	addresses := []plan.Param{param("address", loopback4)}
	if h.has("loopback.ipv6") {
		addresses = append(addresses, param("address", loopback6))
	}
	return addresses
}

// readNetwork is what the kernel says of a process's network namespace.
func readNetwork(pid int) (*report.PostureNetwork, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	n, err := p.Network()
	if err != nil {
		return nil, err
	}
	return &report.PostureNetwork{Interfaces: n.Interfaces, Addresses: n.Addresses, Routes: n.Routes}, nil
}

// lackingLoopback compares that with the plan.
func lackingLoopback(r plan.Requirement, got *report.PostureNetwork) []string {
	var want, lacks []string
	for _, m := range r.Mechanisms {
		for _, p := range m.Params {
			if p.Name == "address" {
				want = append(want, p.Value)
			}
		}
	}
	if !slices.Equal(got.Interfaces, []string{"lo"}) {
		lacks = append(lacks, fmt.Sprintf("its interfaces are %s, expected lo", words(got.Interfaces)))
	}
	if !slices.Equal(got.Addresses, want) {
		lacks = append(lacks, fmt.Sprintf("its own addresses are %s, expected %s", words(got.Addresses), words(want)))
	}
	if len(got.Routes) > 0 {
		lacks = append(lacks, "there are routes to elsewhere: "+words(got.Routes))
	}
	return lacks
}

func words(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
