//go:build amd64 || arm64

package linux

import (
	"slices"
	"testing"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
)

// Each thing that may be read back otherwise than planned keeps the barrier shut.
func TestNetworkThatLacksSomething(t *testing.T) {
	r := plan.Requirement{Kind: plan.NetworkLoopback, Mechanisms: []plan.Mechanism{
		mechanism("network-namespace"), mechanism("loopback-interface", param("address", loopback4), param("address", loopback6))}}
	both, lo := []string{"127.0.0.1", "::1"}, []string{"lo"}
	for name, c := range map[string]struct {
		got  report.PostureNetwork
		want []string
	}{
		"as planned":     {report.PostureNetwork{Interfaces: lo, Addresses: both}, nil},
		"down":           {report.PostureNetwork{Interfaces: lo}, []string{"its own addresses are none, expected 127.0.0.1, ::1"}},
		"another one":    {report.PostureNetwork{Interfaces: []string{"lo", "eth0"}, Addresses: both}, []string{"its interfaces are lo, eth0, expected lo"}},
		"more addresses": {report.PostureNetwork{Interfaces: lo, Addresses: append(both, "192.0.2.1")}, []string{"its own addresses are 127.0.0.1, ::1, 192.0.2.1, expected 127.0.0.1, ::1"}},
		"a way out":      {report.PostureNetwork{Interfaces: lo, Addresses: both, Routes: []string{"0.0.0.0/0.0.0.0 eth0"}}, []string{"there are routes to elsewhere: 0.0.0.0/0.0.0.0 eth0"}},
	} {
		if got := lackingLoopback(r, &c.got); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
