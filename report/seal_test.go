package report

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

func TestSealVerify(t *testing.T) {
	k := fixedKey(t, 1)
	for name, r := range map[string]*Report{"completed": sample(t), "refused": sampleRefused(t), "compact": compact(t), "small": small(t)} {
		env := seal(t, r, k)
		if again := seal(t, r, k); !bytes.Equal(env, again) {
			t.Errorf("%s: sealing twice gives two envelopes", name)
		}
		v, err := Verify(env, []PublicKey{fixedKey(t, 2).Public(), k.Public()})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v.Key.ID() != k.ID() || v.KeyID != k.ID() || len(v.Checks) != len(checks)+4 {
			t.Errorf("%s: key %s, %d checks", name, v.Key.ID(), len(v.Checks))
		}
		got, err := canonical.Marshal(v.Report)
		if err != nil {
			t.Fatal(err)
		}
		want, err := canonical.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: came back as %s", name, got)
		}
		p, err := Parse(env)
		if err != nil || !bytes.Equal(p.Payload, v.Payload) || p.Digest() != digest(v.Payload) {
			t.Errorf("%s: Parse: %v", name, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	v, err := Verify(seal(t, sample(t), fixedKey(t, 1)), []PublicKey{fixedKey(t, 1).Public()})
	if err != nil {
		t.Fatal(err)
	}
	want := []Subject{
		{"executable", Digest{hash("build")}}, {"plan", Digest{v.Report.Plan.ID()}},
		{"stdout", Digest{hash("hello world\n")}},
		{"stderr", Digest{hash("warning!\n")}}, {"stderr.kept", Digest{hash("warn")}},
	}
	if !reflect.DeepEqual(v.Subjects, want) {
		t.Errorf("got %v, want %v", v.Subjects, want)
	}
}

// TestVerifyFindsContradictions seals reports that are not true to themselves
// with a trusted key: the check named must find each.
func TestVerifyFindsContradictions(t *testing.T) {
	k := fixedKey(t, 1)
	for _, c := range []struct {
		name, check, where string
		change             func(*Report)
	}{
		{"attempt", "form", "identity.attempt", func(r *Report) { r.Identity.Attempt = "XYZ" }},
		{"digest spelling", "form", "identity.program", func(r *Report) { r.Identity.Program = strings.ToUpper(r.Identity.Program) }},
		{"no plan", "form", "plan, refusal", func(r *Report) { r.Plan = nil }},
		{"no tool", "form", "tool", func(r *Report) { r.Tool = Tool{} }},
		{"profile digest", "profile", "identity.profile", func(r *Report) { r.Identity.Profile = hash("x") }},
		{"profile changed", "profile", "identity.profile", func(r *Report) {
			p := r.Profile
			r.Profile = plan.Profile{Version: p.Version, Backend: p.Backend, Host: plan.Host{OS: "linux", Arch: "arm64"}, Facts: p.Facts, Offers: p.Offers, Evidence: p.Evidence}
		}},
		{"plan id", "plan", "identity.plan", func(r *Report) { r.Identity.Plan = hash("x") }},
		{"plan changed", "plan", "identity.plan", func(r *Report) {
			q := sampleResolved()
			q.Spec.Workload.Command = []string{"other"}
			p, _ := plan.Make(q, r.Profile)
			r.Plan = &p
		}},
		{"plan of another profile", "plan", "plan.profile", func(r *Report) {
			q := r.Profile
			q, _ = plan.Profile{Version: q.Version, Backend: q.Backend, Host: plan.Host{OS: "linux", Arch: "arm64"}, Facts: q.Facts, Offers: q.Offers, Evidence: q.Evidence}.Seal()
			p, _ := plan.Make(sampleResolved(), q)
			r.Plan, r.Identity.Plan = &p, p.ID()
		}},
		{"unresolved plan", "plan", "plan.resolved.unresolved", func(r *Report) {
			q := sampleResolved()
			q.Unresolved = true
			p, _ := plan.Make(q, r.Profile)
			r.Plan, r.Identity.Plan = &p, p.ID()
		}},
		{"refused with a plan", "refusal", "refusal", func(r *Report) { r.Outcome.Status = Refused }},
		{"executable", "executable", "identity.executable", func(r *Report) { r.Identity.Executable = hash("x") }},
		{"descriptor added", "descriptors", "identity.descriptors", func(r *Report) { r.Descriptors = append(r.Descriptors, Descriptor{9, "passed", "file", true}) }},
		{"descriptor twice", "descriptors", "descriptors[1].slot", func(r *Report) {
			r.Descriptors = []Descriptor{r.Descriptors[0], r.Descriptors[0]}
			r.Identity.Descriptors, _ = DescriptorsDigest(r.Descriptors)
		}},
		{"weakening hidden", "accepted", "accepted", func(r *Report) { r.Accepted = r.Accepted[:1] }},
		{"weakening added", "accepted", "accepted", func(r *Report) { r.Accepted = append([]spec.Weakening{"core-dumps"}, r.Accepted...) }},
		{"completed with status 1", "outcome", "exit", func(r *Report) { r.Exit.Code = 1 }},
		{"completed by a signal", "outcome", "exit", func(r *Report) { r.Exit.Signal = 9 }},
		{"completed unseen", "outcome", "exit", func(r *Report) { r.Exit = nil }},
		{"failed with status 0", "outcome", "exit", func(r *Report) { r.Outcome.Status = Failed }},
		{"status and signal", "outcome", "exit", func(r *Report) { r.Outcome.Status = Failed; r.Exit = &Exit{Code: 1, Signal: 9} }},
		{"setup failed and exited", "outcome", "exit", func(r *Report) { r.Outcome = Outcome{SetupFailed, "mounts"} }},
		{"setup failed for no reason", "outcome", "outcome.reason", func(r *Report) { r.Outcome.Status = SetupFailed; r.Exit = nil }},
		{"fault for no reason", "outcome", "outcome.reason", func(r *Report) { r.Outcome.Status = SupervisorFault }},
		{"unknown outcome", "outcome", "outcome.status", func(r *Report) { r.Outcome.Status = "fine" }},
		{"exceeded what was not asked", "outcome", "outcome.reason", func(r *Report) { r.Outcome = Outcome{BudgetExceeded, "network"} }},
		{"completed without exec", "transcript", "transcript[3].status", func(r *Report) { r.Transcript[3].Status = PhaseNotReached }},
		{"done after failed", "transcript", "transcript[1].status", func(r *Report) {
			r.Outcome, r.Exit = Outcome{SetupFailed, "namespaces"}, nil
			r.Transcript[0].Status = PhaseFailed
		}},
		{"setup failed, all done", "transcript", "transcript", func(r *Report) { r.Outcome, r.Exit = Outcome{SetupFailed, "mounts"}, nil }},
		{"unknown phase status", "transcript", "transcript[0].status", func(r *Report) { r.Transcript[0].Status = "ok" }},
		{"budget left out", "budgets", "budgets", func(r *Report) { r.Budgets = r.Budgets[:2] }},
		{"budget twice", "budgets", "budgets[1].dimension", func(r *Report) { r.Budgets[1] = r.Budgets[0] }},
		{"budget invented", "budgets", "budgets[3].dimension", func(r *Report) {
			r.Budgets = append(r.Budgets, BudgetResult{Dimension: spec.Output, Requested: 1, Set: 1, Finding: Within})
		}},
		{"budget limit", "budgets", "budgets[0].requested", func(r *Report) { r.Budgets[0].Requested++ }},
		{"budget finding", "budgets", "budgets[0].finding", func(r *Report) { r.Budgets[0].Finding = "fine" }},
		{"not observed but used", "budgets", "budgets[0].used", func(r *Report) { r.Budgets[0].Finding = NotObserved }},
		{"exceeded but within", "budgets", "budgets[1].finding", func(r *Report) { r.Outcome = Outcome{BudgetExceeded, "memory"}; r.Exit = &Exit{Signal: 9} }},
		{"stream not captured", "streams", "streams[0].name", func(r *Report) { r.Streams[0].Name = "stdlog" }},
		{"stream twice", "streams", "streams[1].name", func(r *Report) { r.Streams[1] = r.Streams[0] }},
		{"kept too much", "streams", "streams[1].kept", func(r *Report) { r.Streams[1].Kept = 5 }},
		{"cut unsaid", "streams", "streams[1].truncated", func(r *Report) { r.Streams[1].Truncated = false }},
		{"whole but different", "streams", "streams[0].kept_sha256", func(r *Report) { r.Streams[0].KeptSHA = hash("x") }},
		{"digest of a secret", "streams", "streams[0].sha256", func(r *Report) { r.Streams[0].Redacted = 1 }},
		{"no digest", "streams", "streams[0].sha256", func(r *Report) { r.Streams[0].SHA256 = "" }},
		{"stream digest", "streams", "streams[0].kept_sha256", func(r *Report) { r.Streams[0].SHA256 = "abc"; r.Streams[0].KeptSHA = "abc" }},
		{"lease invented", "leases", "leases[0].variable", func(r *Report) { r.Leases[0].Variable = "PATH" }},
		{"lease of something else", "leases", "leases[0].reference", func(r *Report) { r.Leases[0].Reference = "file:/etc/shadow" }},
		{"denials from nowhere", "denied", "denied_completeness.level", func(r *Report) { r.Completeness.Level = LevelNone }},
		{"unknown level", "denied", "denied_completeness.level", func(r *Report) { r.Completeness.Level = "all" }},
		{"local time", "times", "times.started", func(r *Report) { r.Times.Started = "2026-01-02T03:04:05+01:00" }},
		{"no time", "times", "times.ended", func(r *Report) { r.Times.Ended = "" }},
		{"negative duration", "times", "times.run", func(r *Report) { r.Times.Run = -1 }},
		{"prepared at no time", "times", "times.prepared.at", func(r *Report) { r.Times.Prepared = &Prepared{} }},
		{"prepared in negative time", "times", "times.prepared.took", func(r *Report) { r.Times.Prepared = &Prepared{At: r.Times.Started, Took: -1} }},
	} {
		r := sample(t)
		c.change(r)
		_, err := Verify(seal(t, r, k), []PublicKey{k.Public()})
		var bad *CheckError
		if !errors.As(err, &bad) || bad.Check != c.check || bad.Where != c.where {
			t.Errorf("%s: got %v, want check %s at %s to fail", c.name, err, c.check, c.where)
		} else if len(bad.Passed) == 0 || bad.Error() == "" {
			t.Errorf("%s: %d checks passed before", c.name, len(bad.Passed))
		}
	}
}

func TestVerifyFindsContradictionsInRefusals(t *testing.T) {
	k := fixedKey(t, 1)
	for _, c := range []struct {
		check, where string
		change       func(*Report)
	}{
		{"form", "plan, refusal", func(r *Report) { r.Refusal = nil }},
		{"plan", "identity.plan", func(r *Report) { r.Identity.Plan = hash("x") }},
		{"refusal", "refusal", func(r *Report) { r.Outcome.Status = Failed }},
		{"refusal", "refusal.profile", func(r *Report) { r.Refusal.Profile = hash("x") }},
		{"refusal", "refusal.backend", func(r *Report) { r.Refusal.Backend = "wasm" }},
		{"refusal", "refusal.reasons", func(r *Report) { r.Refusal.Reasons = nil }},
		{"refusal", "exit", func(r *Report) { r.Exit = &Exit{} }},
		{"refusal", "streams", func(r *Report) { r.Streams = sample(t).Streams }},
		{"refusal", "identity.program", func(r *Report) { r.Identity.Program = hash("x") }},
		{"executable", "identity.executable", func(r *Report) { r.Identity.Executable = "" }},
		{"accepted", "accepted", func(r *Report) { r.Accepted = []spec.Weakening{"core-dumps"} }},
	} {
		r := sampleRefused(t)
		c.change(r)
		_, err := Verify(seal(t, r, k), []PublicKey{k.Public()})
		var bad *CheckError
		if !errors.As(err, &bad) || bad.Check != c.check || bad.Where != c.where {
			t.Errorf("got %v, want check %s at %s to fail", err, c.check, c.where)
		}
	}
}

func TestTruthfulVariantsVerify(t *testing.T) {
	k := fixedKey(t, 1)
	for name, change := range map[string]func(*Report){
		"failed":          func(r *Report) { r.Outcome.Status = Failed; r.Exit.Code = 7 },
		"killed by bug":   func(r *Report) { r.Outcome.Status = Failed; r.Exit = &Exit{Signal: 11, Name: "SIGSEGV", Core: true} },
		"timeout":         func(r *Report) { r.Outcome.Status = Timeout; r.Exit = nil; r.Budgets[0].Finding = Exceeded },
		"killed":          func(r *Report) { r.Outcome.Status = Killed; r.Exit = &Exit{Signal: 15} },
		"memory":          func(r *Report) { r.Outcome = Outcome{BudgetExceeded, "memory"}; r.Budgets[1].Finding = Exceeded },
		"denied":          func(r *Report) { r.Outcome.Status = Denied; r.Exit = &Exit{Signal: 31, Name: "SIGSYS"} },
		"cap was touched": func(r *Report) { r.Budgets[2].Finding = Exceeded },
		"redacted": func(r *Report) {
			r.Streams[0].Redacted = 1
			r.Streams[0].Kept = 20
			r.Streams[0].SHA256 = ""
			r.Streams[0].KeptSHA = hash("r")
		},
		"setup failed": func(r *Report) {
			r.Outcome, r.Exit, r.Posture, r.Usage, r.Streams, r.Budgets = Outcome{SetupFailed, "mounts"}, nil, nil, nil, nil, nil
			r.Transcript = []Phase{{Name: "namespaces", Status: PhaseDone}, {Name: "mounts", Status: PhaseFailed, Step: 12, Call: "mount", Errno: "EPERM"}, {Name: "exec", Status: PhaseNotReached}}
		},
		"fault": func(r *Report) {
			r.Outcome = Outcome{SupervisorFault, "lost the control channel"}
			r.Exit = nil
			r.Budgets = nil
		},
		"clock set back":        func(r *Report) { r.Times.Ended = "2025-01-01T00:00:00Z" },
		"prepared":              func(r *Report) { r.Times.Prepared = &Prepared{At: r.Times.Started, Took: 1_500_000} },
		"no table, no evidence": func(r *Report) { r.Descriptors, r.Identity.Descriptors, r.Posture = nil, "", nil },
	} {
		r := sample(t)
		change(r)
		if _, err := Verify(seal(t, r, k), []PublicKey{k.Public()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	r := sample(t)
	r.Denied[0].Act = "open \xff"
	if _, err := Seal(r, fixedKey(t, 1)); err == nil || !strings.Contains(err.Error(), "denied[0].act") {
		t.Errorf("bytes that are no text: %v", err)
	}
	if _, err := Seal(sample(t), nil); err == nil {
		t.Error("no key: sealed")
	}
}

// FuzzReportHasOneEncoding: without it two different files could claim the
// same digest.
func FuzzReportHasOneEncoding(f *testing.F) {
	for _, r := range []*Report{compact(f), small(f)} {
		b, err := canonical.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Report
		if canonical.Unmarshal(in, &r) != nil {
			return
		}
		out, err := canonical.Marshal(&r)
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("accepted %q but writes %q, %v", in, out, err)
		}
	})
}

// FuzzParse: whatever is read reads as one thing, and checks never panic, not
// even over what a trusted key sealed.
func FuzzParse(f *testing.F) {
	k := fixedKey(f, 1)
	for _, r := range []*Report{compact(f), small(f)} {
		s, err := Parse(seal(f, r, k))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		env, err := k.envelope(payload)
		if err != nil {
			t.Skip("more bytes than an envelope holds: " + err.Error())
		}
		s, err := Parse(env)
		v, verr := Verify(env, []PublicKey{k.Public()})
		if verr == nil && err != nil {
			t.Fatalf("verifies but does not parse: %v", err)
		}
		if err != nil {
			return
		}
		if verr == nil {
			s = &v.Sealed
		}
		out, err := canonical.Marshal(&statement{StatementType, s.Subjects, PredicateType, s.Report})
		if err != nil || !bytes.Equal(out, payload) {
			t.Errorf("accepted %q but writes %q, %v", payload, out, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r, k := sample(b), fixedKey(b, 1)
	env := seal(b, r, k)
	b.SetBytes(int64(len(env)))
	for b.Loop() {
		if _, err := Seal(r, k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := fixedKey(b, 1)
	env := seal(b, sample(b), k)
	keys := []PublicKey{k.Public()}
	b.SetBytes(int64(len(env)))
	for b.Loop() {
		if _, err := Verify(env, keys); err != nil {
			b.Fatal(err)
		}
	}
}
