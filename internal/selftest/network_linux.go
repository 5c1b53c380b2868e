package selftest

import (
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bvisor/bvisor/plan"
)

const theListener = "the listener on the host"

func network() []Attack {
	off := []plan.Kind{plan.NetworkDenyAll, plan.NetworkNamespace}
	family := func(numbers ...int) func(*scene) (try, error) {
		return func(*scene) (try, error) {
			t := try{act: []string{"socket"}, apart: true}
			for _, n := range numbers {
				t.act = append(t.act, strconv.Itoa(n))
			}
			return t, nil
		}
	}
	return []Attack{
		{"connect-by-tcp", "connect to a TCP port of the host's loopback", off, func(s *scene) (try, error) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return try{}, err
			}
			return s.connecting(l, "tcp", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
		}},
		{"send-by-udp", "send a packet to a UDP port of the host's loopback", off, func(s *scene) (try, error) {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				return try{}, err
			}
			s.later(func() { c.Close() })
			return try{act: []string{"udp", strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)}, witness: theListener,
				through: func(ending) bool { return packets(c) > 0 }}, nil
		}},
		{"connect-to-an-abstract-socket", "connect to an abstract unix socket of the host", []plan.Kind{plan.NetworkNamespace, plan.LandlockScopes}, func(s *scene) (try, error) {
			name := "@bvisor-selftest-" + token()
			l, err := net.Listen("unix", name)
			if err != nil {
				return try{}, err
			}
			return s.connecting(l, "unix", name), nil
		}},
		{"connect-to-a-socket-file", "connect to a unix socket in a directory of the host", []plan.Kind{plan.MountNamespace}, func(s *scene) (try, error) {
			name := s.path("socket")
			l, err := net.Listen("unix", name)
			if err != nil {
				return try{}, err
			}
			t := s.connecting(l, "unix", name)
			t.allowed = granted(name, "")
			return t, nil
		}},
		{"open-a-netlink-socket", "ask the kernel about the network: a netlink socket", off, family(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)},
		{"open-a-packet-socket", "send packets of its own making: a packet socket", []plan.Kind{plan.CallFilter, plan.NoCapabilities}, family(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"open-a-raw-socket", "send packets of its own making: a raw socket", []plan.Kind{plan.CallFilter, plan.NoCapabilities}, family(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"use-multipath-tcp", "get past rules for TCP by multipath TCP", off, family(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)},
		{"use-kernel-ciphers", "open a socket of the kernel's cryptography", []plan.Kind{plan.CallFilter}, family(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
	}
}

// connecting is an act that connects to a listener, which is asked afterwards.
func (s *scene) connecting(l net.Listener, act, to string) try {
	s.later(func() { l.Close() })
	return try{act: []string{act, to}, witness: theListener, through: func(ending) bool { return connections(l) > 0 }}
}

// patience is for what is certain to come, so that a defect is not a hang.
const patience = 10 * time.Second

const ours = "ours"

// connections counts those that came in before one of our own, which comes
// last: a listener hands them out in the order in which they came.
func connections(l net.Listener) int {
	own, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		return -1
	}
	defer own.Close()
	io.WriteString(own, ours)
	for n := 0; ; n++ {
		if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
			d.SetDeadline(time.Now().Add(patience))
		}
		c, err := l.Accept()
		if err != nil {
			return n
		}
		c.SetDeadline(time.Now().Add(patience))
		first := make([]byte, len(ours))
		_, err = io.ReadFull(c, first)
		c.Close()
		if err == nil && string(first) == ours {
			return n
		}
	}
}

// packets counts those that came in before one of our own.
func packets(c *net.UDPConn) int {
	own, err := net.Dial("udp4", c.LocalAddr().String())
	if err != nil {
		return -1
	}
	defer own.Close()
	io.WriteString(own, ours)
	buf := make([]byte, 64)
	for n := 0; ; n++ {
		c.SetReadDeadline(time.Now().Add(patience))
		m, _, err := c.ReadFrom(buf)
		if err != nil || string(buf[:m]) == ours {
			return n
		}
	}
}
