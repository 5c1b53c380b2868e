package plan

import (
	"fmt"

	"github.com/bvisor/bvisor/spec"
)

// source gives choices out of fuzzed bytes, and zeros when they are used up.
type source struct{ data []byte }

func (s *source) below(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

func (s *source) yes() bool { return s.below(4) == 1 }

func pick[T any](s *source, list ...T) T { return list[s.below(len(list))] }

func some[T any](s *source, list ...T) []T {
	var chosen []T
	for _, v := range list {
		if s.yes() {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

// generate makes a valid request and a profile out of bytes. All zeros are a
// small request on a capable host.
func generate(data []byte) (spec.Resolved, Profile) {
	s := &source{data}
	return s.request(), s.profile()
}

func (s *source) request() spec.Resolved {
	r := small()
	if s.below(16) == 1 {
		r.Spec.Workload = spec.Workload{Wasm: "/m.wasm"}
		for _, code := range some(s, spec.UnfitCodes...) {
			r.Executable.Unfit = append(r.Executable.Unfit, spec.Unfit{Code: code, Fact: "so it is"})
		}
	}
	for i := range s.below(5) {
		r.Roots = append(r.Roots, spec.Root{
			Path: fmt.Sprintf("/r%d", i), Dest: fmt.Sprintf("/r%d", i), Named: fmt.Sprintf("/n%d", i),
			Access: pick[spec.Access](s, "r", "rx", "rwx", "x", "w", "wx", "rw"), Kind: pick(s, spec.KindDirectory, spec.KindFile, spec.KindDevice, spec.KindOther),
			NonRecursive: s.yes(), Role: pick(s, spec.RoleGrant, spec.RoleExpose), Origin: pick[spec.Origin](s, "spec", "preset:system"),
		})
	}
	for i := range s.below(3) {
		r.Roots = append(r.Roots, spec.Root{
			Path: fmt.Sprintf("/r%d/c", i), Dest: fmt.Sprintf("/r%d/c", i), Access: spec.AccessNone,
			Kind: pick(s, spec.KindAbsent, spec.KindFile, spec.KindDirectory), Role: spec.RoleCarveOut, Origin: spec.FromSpec,
		})
	}
	c := &r.Spec.Capabilities
	if c.Network.Loopback = s.yes(); !c.Network.Loopback {
		c.Network.Allow = some(s, "example.com:443", "10.0.0.1:80/tcp")
	}
	c.Spawn = pick(s, "", spec.SpawnNone, spec.SpawnThreads, spec.SpawnProcesses)
	if s.yes() {
		c.Environment = []spec.EnvEntry{{Name: "A", Value: "1"}, {Name: "B", Lease: "env:B"}}
	}
	c.Clock = pick(s, "", spec.ClockReal, spec.ClockMonotonic, spec.ClockFixed)
	c.Random = pick(s, "", spec.RandomReal, spec.RandomSeeded)
	c.FDs = some(s, 3, 7)
	k := &r.Spec.Controls
	k.Stdin.Mode = pick(s, "", spec.StdinNone, spec.StdinInherit, spec.StdinTTY)
	streams := some(s, "stdout", "stderr")
	if k.Stdin.Mode == spec.StdinTTY {
		streams = []string{spec.StreamTTY}
	}
	for _, stream := range streams {
		k.Capture = append(k.Capture, spec.Capture{Stream: stream, Limit: 100})
	}
	for _, path := range some(s, "/tmp", "/var/tmp") {
		k.Temp = append(k.Temp, spec.Temp{Path: path, Access: "rw"})
	}
	if s.yes() {
		k.Artifacts = &spec.Artifacts{Paths: []string{"/out"}, Commit: "manual", Durability: "atomic"}
	}
	for _, d := range some(s, spec.Dimensions...) {
		if r.Spec.Budgets == nil {
			r.Spec.Budgets = map[spec.Dimension]spec.Budget{}
		}
		r.Spec.Budgets[d] = spec.Budget{
			Limit:     pick[int64](s, 100<<20, 1, 2, 5, 1000, 65535, 65536, 1e6, 1<<40, 1<<53-1),
			Guarantee: pick(s, spec.Enforced, spec.Mediated, spec.Unsupported),
			Evidence:  some(s, spec.ResourceUsage, spec.NetworkActivity),
			Origin:    spec.FromSpec,
		}
		if b := r.Spec.Budgets[d]; d == spec.CPU && s.yes() {
			b.Rate = 500
			r.Spec.Budgets[d] = b
		}
	}
	r.Spec.Evidence = some(s, spec.Claims...)
	for _, b := range Waivable {
		if s.below(16) == 1 {
			r.Spec.Accept = append(r.Spec.Accept, b.Weakening)
		}
	}
	return r
}

func (s *source) profile() Profile {
	p := capable()
	if s.below(16) == 1 {
		p.Backend = "wasm"
	}
	kept := p.Offers[:0]
	for _, o := range p.Offers {
		switch s.below(10) {
		case 1:
			continue
		case 2:
			o = Offer{Kind: o.Kind, Fact: "the kernel is too old", Need: "a newer one", Remedy: "use Linux 7.0"}
		case 3, 4, 5:
			o.Ways = nil
			for range s.below(3) + 1 {
				o.Ways = append(o.Ways, s.way())
			}
		}
		kept = append(kept, o)
	}
	p.Offers = kept
	for range s.below(3) {
		p.Evidence = append(p.Evidence, EvidenceSource{Claim: pick(s, spec.Claims...), By: "a source",
			Needs: some(s, Launch, CaptureStreams, BudgetKind(spec.Memory), PIDNamespace)})
	}
	return p
}

func (s *source) way() Way {
	w := Way{
		Capacity: pick[int64](s, 0, 0, 1000, 1<<30),
		Lacks: some(s, FeatureExecWithoutRead, FeatureWriteWithoutRead, FeatureNonRecursive, FeatureFileRoot, FeatureOtherRoot, FeatureDescendants,
			FeatureWithSupervisor, FeatureRate, FeatureSubSecond),
		Requires: some(s, UserNamespace, MountNamespace, PIDNamespace, NetworkNamespace, LandlockDomain, OwnProcess),
	}
	for i := range pick(s, 1, 2, 3, 0) {
		w.Mechanisms = append(w.Mechanisms, Mechanism{
			Name:        fmt.Sprintf("m%d", i),
			Enforcement: pick(s, spec.Enforced, spec.Enforced, spec.Mediated, spec.Unsupported),
			Evidence:    some(s, spec.Claims...),
		})
	}
	return w
}
