package procfs

import (
	"net"
	"os"
	"slices"
	"testing"
)

// netlink is the other way to ask the kernel for the same.
func TestNetwork(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got, err := p.Network()
	if err != nil {
		t.Fatal(err)
	}
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names, addresses []string
	for _, i := range all {
		names = append(names, i.Name)
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			addresses = append(addresses, a.(*net.IPNet).IP.String())
		}
	}
	for _, list := range [][]string{names, addresses, got.Interfaces, got.Addresses} {
		slices.Sort(list)
	}
	if !slices.Equal(got.Interfaces, names) || !slices.Equal(got.Addresses, slices.Compact(addresses)) {
		t.Errorf("got %+v, netlink says %q and %q", got, names, addresses)
	}
}

// Routes as the kernel writes them; those by lo lead nowhere.
func TestRoutes(t *testing.T) {
	var n Network
	if err := n.routes4([]byte(`Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010011AC	0003	0	0	0	00000000	0	0	0
eth0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
lo	0000007F	00000000	0001	0	0	0	000000FF	0	0	0
`)); err != nil {
		t.Fatal(err)
	}
	if err := n.routes6([]byte(`00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
`)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0.0.0.0/0.0.0.0 eth0", "172.17.0.0/255.255.0.0 eth0", "fe80::/64 eth0"}; !slices.Equal(n.Routes, want) {
		t.Errorf("got %q, want %q", n.Routes, want)
	}
	for name, bad := range map[string]func() error{
		"short line":    func() error { return n.routes4([]byte("heading\neth0 0 0\n")) },
		"no number":     func() error { return n.routes4([]byte("heading\neth0 x 0 0 0 0 0 0 0 0 0\n")) },
		"short line 6":  func() error { return n.routes6([]byte("00 80 lo\n")) },
		"short address": func() error { return n.addresses6([]byte("01 01 80 10 80 lo\n")) },
		"no address":    func() error { return n.addresses4([]byte("|-- 1.2.3\n")) },
	} {
		if bad() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
