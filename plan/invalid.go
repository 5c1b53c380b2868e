package plan

import (
	"slices"
	"strconv"

	"github.com/bvisor/bvisor/spec"
)

// invalid looks for what Make must not guess about. A spec that spec.Parse read
// has none of it; one that was built in Go may. An unknown name would
// otherwise be skipped, and what is skipped is not held.
func invalid(r *spec.Resolved, p *Profile, digest string) []Reason {
	c := checker{}
	c.profile(p, digest)
	c.workload(r, p)
	c.capabilities(r)
	c.controls(&r.Spec.Controls)
	c.budgets(&r.Spec)
	for _, name := range r.Spec.Accept {
		c.unless(knownWeakening(name), "accept", string(name), "one of the named weakenings")
	}
	for _, claim := range r.Spec.Evidence {
		c.unless(claimBit(claim) != 0, "evidence", string(claim), "one of the evidence claims")
	}
	return c.reasons
}

type checker struct{ reasons []Reason }

func (c *checker) unless(ok bool, field, value, expected string) {
	if ok {
		return
	}
	c.reasons = append(c.reasons, Reason{Code: codeSpecInvalid, Requirement: Launch, Origin: spec.FromSpec,
		Subject: field,
		Need:    field + ": " + expected,
		Fact:    "the value is " + strconv.Quote(value),
		Remedy:  "correct it; spec.Parse says where"})
}

func (c *checker) profile(p *Profile, digest string) {
	if p.Version != ProfileVersion {
		c.reasons = append(c.reasons, Reason{Code: codeProfileVersion, Requirement: Launch, Origin: spec.FromDefault,
			Need:   "a profile of version " + strconv.Itoa(ProfileVersion),
			Fact:   "it is of version " + strconv.Itoa(p.Version),
			Remedy: `take it again with "bvisor probe --json"`})
	}
	if digest == "" {
		c.reasons = append(c.reasons, Reason{Code: codeEncoding, Requirement: Launch, Origin: spec.FromDefault,
			Need:   "a profile that can be written down: text in UTF-8, numbers below 2^53",
			Fact:   "it has no canonical encoding",
			Remedy: `take it again with "bvisor probe --json"`})
	}
}

func (c *checker) workload(r *spec.Resolved, p *Profile) {
	w := &r.Spec.Workload
	c.unless(r.Spec.Version == spec.Version, "version", strconv.Itoa(r.Spec.Version), strconv.Itoa(spec.Version))
	c.unless((len(w.Command) > 0) != (w.Wasm != ""), "workload", w.Wasm, "either a command or a wasm module")
	refuse := func(kind Kind, need, fact, remedy string) {
		c.reasons = append(c.reasons, Reason{Code: codeUnsupported + string(kind), Requirement: Launch,
			Origin: spec.FromSpec, Need: need, Fact: fact, Remedy: remedy})
	}
	switch {
	case w.Wasm != "" && p.Backend != "wasm":
		refuse(workloadWasm, "the wasm backend", "the backend "+p.Backend+" does not run WebAssembly",
			"use --backend wasm, or workload.command")
	case len(w.Command) > 0 && p.Backend == "wasm":
		refuse(workloadCommand, "a backend that starts processes", "the backend wasm runs only WebAssembly modules",
			"use another backend, or workload.wasm")
	}
	for _, u := range r.Executable.Unfit {
		c.reasons = append(c.reasons, unfit(u))
	}
}

func (c *checker) capabilities(r *spec.Resolved) {
	for _, root := range roots(r) {
		switch root.Role {
		case spec.RoleGrant, spec.RoleExpose:
			c.unless(root.Access.Read() || root.Access.Write() || root.Access.Exec(), root.Dest, string(root.Access), "access out of r, w and x")
		case spec.RoleCarveOut:
			c.unless(root.Access == spec.AccessNone, root.Dest, string(root.Access), "access none")
		default:
			c.unless(false, root.Dest, string(root.Role), "a role out of grant, carve-out and expose")
		}
	}
	caps := &r.Spec.Capabilities
	c.oneOf("capabilities.spawn", string(caps.Spawn), "", string(spec.SpawnNone), string(spec.SpawnThreads), string(spec.SpawnProcesses))
	c.oneOf("capabilities.clock", string(caps.Clock), "", string(spec.ClockReal), string(spec.ClockMonotonic), string(spec.ClockFixed))
	c.oneOf("capabilities.random", string(caps.Random), "", string(spec.RandomReal), string(spec.RandomSeeded))
	c.unless(!caps.Network.Loopback || len(caps.Network.Allow) == 0, "capabilities.network", spec.NetworkLoopback, "either loopback or what may be reached")
	for _, fd := range caps.FDs {
		c.unless(fd >= 3, "capabilities.fds", strconv.Itoa(fd), "3 or more")
	}
}

func (c *checker) controls(k *spec.Controls) {
	c.unless(k.Stdin.Mode != spec.StdinTTY || len(k.Capture) == 1, "controls.capture", strconv.Itoa(len(k.Capture))+" streams", "tty, with stdin tty")
	for _, s := range k.Capture {
		if k.Stdin.Mode == spec.StdinTTY {
			c.unless(s.Stream == spec.StreamTTY, "controls.capture", s.Stream, "tty, with stdin tty")
		} else {
			c.oneOf("controls.capture", s.Stream, "stdout", "stderr")
		}
		c.unless(s.Limit > 0, "controls.capture."+s.Stream, strconv.FormatInt(s.Limit, 10), "more than 0 bytes")
	}
	c.oneOf("controls.stdin", k.Stdin.Mode, "", spec.StdinNone, spec.StdinInherit, spec.StdinFile, spec.StdinTTY)
	c.unless((k.Stdin.Mode == spec.StdinFile) == (k.Stdin.File != ""), "controls.stdin.file", k.Stdin.File, "a path, with mode file only")
	if a := k.Artifacts; a != nil {
		c.oneOf("controls.artifacts.commit", a.Commit, "manual", "on-success", "never")
		c.oneOf("controls.artifacts.durability", a.Durability, "atomic", "durable")
	}
	c.oneOf("controls.kill.tree", k.Kill.Tree, "", "atomic")
	c.unless(k.Kill.Grace >= 0, "controls.kill.grace", strconv.FormatInt(int64(k.Kill.Grace), 10), "0 or more")
}

func (c *checker) budgets(s *spec.Spec) {
	unknown := 0
	for d := range s.Budgets {
		if !slices.Contains(spec.Dimensions, d) {
			unknown++
		}
	}
	// Only the number: the order of a map must not show.
	c.unless(unknown == 0, "budgets", strconv.Itoa(unknown)+" unknown dimensions", "only the known dimensions")
	for _, d := range spec.Dimensions {
		b, asked := s.Budgets[d]
		if !asked {
			continue
		}
		field := "budgets." + string(d)
		c.unless(b.Limit >= 1 && b.Limit <= maxLimit, field, strconv.FormatInt(b.Limit, 10), "1 to 2^53-1")
		c.unless(b.Guarantee >= spec.Unsupported && b.Guarantee <= spec.Enforced, field+".guarantee",
			strconv.Itoa(int(b.Guarantee)), "mediated or enforced")
		for _, claim := range b.Evidence {
			c.unless(claimBit(claim) != 0, field+".evidence", string(claim), "one of the evidence claims")
		}
	}
}

func (c *checker) oneOf(field, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.unless(false, field, value, "one of the known words")
	}
}

func knownWeakening(name spec.Weakening) bool {
	for _, b := range Waivable {
		if b.Weakening == name {
			return true
		}
	}
	return false
}
