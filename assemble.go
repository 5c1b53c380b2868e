package bvisor

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/recovery"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// intent is what is durable before a launch. held is where quarantines are.
func (a *attempt) intent(held string) ([]byte, error) {
	i := recovery.Intent{Version: recovery.IntentVersion, Attempt: a.id, Plan: a.plan.ID(), Profile: a.profile.Digest(),
		Started: stamp(a.started), Supervisor: recovery.Self(), Cgroup: recovery.Cgroup()}
	for _, b := range a.plan.Budgets {
		if b.Dimension == spec.Wall {
			i.Deadline = stamp(a.started.Add(time.Duration(b.Limit)))
		}
	}
	for _, r := range a.plan.Resolved.Roots {
		if r.Kind == spec.KindAbsent {
			i.Placeholders = append(i.Placeholders, r.Path)
		}
	}
	if a.plan.Resolved.Spec.Controls.Artifacts != nil {
		i.Quarantine = text(filepath.Join(held, a.id))
	}
	return canonical.Marshal(i)
}

// text makes words of the host fit for a report, whose strings are UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// report is what every report of the attempt holds.
func (a *attempt) report(o report.Outcome) *report.Report {
	o.Reason = text(o.Reason)
	r := &report.Report{
		Version:      report.Version,
		Identity:     report.Identity{Attempt: a.id, Profile: a.profile.Digest()},
		Outcome:      o,
		Profile:      a.profile,
		Completeness: report.Completeness{Level: "none", Why: "nothing was launched"},
		Times:        report.Times{Started: stamp(a.started), Ended: stamp(time.Now())},
		Tool:         report.Tool{Name: "bvisor", Version: Version},
	}
	resolved := a.plan.Resolved
	if a.refusal != nil {
		r.Refusal, resolved = a.refusal, a.refusal.Resolved
	} else {
		r.Plan, r.Identity.Plan, r.Accepted = &a.plan, a.plan.ID(), a.plan.Accepted
	}
	r.Identity.Executable = resolved.Executable.SHA256
	return r
}

func (a *attempt) refused() *report.Report {
	return a.report(report.Outcome{Status: report.Refused, Reason: a.refusal.Reasons[0].Code})
}

// noEnvironment is the report of an attempt whose leases do not resolve: the
// program never runs.
func (a *attempt) noEnvironment(err error) *report.Report {
	r := a.report(report.Outcome{Status: report.SetupFailed, Reason: "environment: " + err.Error()})
	r.Facts = []report.Fact{{Kind: report.EnvironmentLoweringFailed, Fields: []plan.Param{{Name: "why", Value: text(err.Error())}}}}
	for _, e := range secret.LeaseErrors(err) {
		r.Leases = append(r.Leases, report.Lease{Variable: e.Variable, Reference: e.Reference, Error: text(e.Err.Error())})
	}
	return r
}

// observed is the report of an attempt that was launched.
func (a *attempt) observed(o report.Observation, env []secret.Value) *report.Report {
	r := a.report(o.Outcome)
	r.Identity.Program = o.Program
	if len(o.Descriptors) > 0 {
		// A table of plain strings and numbers always encodes.
		r.Identity.Descriptors, _ = report.DescriptorsDigest(o.Descriptors)
	}
	r.Exit, r.Transcript, r.Posture, r.Descriptors = o.Exit, o.Transcript, o.Posture, o.Descriptors
	r.Facts, r.Denied, r.Completeness = o.Facts, o.Denied, o.Completeness
	r.Budgets, r.Usage, r.Streams, r.Artifacts = o.Budgets, o.Usage, o.Streams, o.Artifacts
	for _, v := range env {
		if v.Reference != "" {
			r.Leases = append(r.Leases, report.Lease{Variable: v.Name, Reference: v.Reference, Resolved: stamp(a.started)})
		}
	}
	r.Times.Prepared = o.Prepared
	r.Times.Setup, r.Times.Run, r.Times.Teardown = o.Setup, o.Run, o.Teardown
	a.output = o.Kept
	return r
}

// redact takes the values of leases out of what was kept of the streams, and of
// what was seen of denied attempts. Where one was found in a stream, the digest
// of the whole stream is left out too: a short secret could be guessed from it.
func redact(o *report.Observation, env []secret.Value) {
	if !slices.ContainsFunc(env, func(v secret.Value) bool { return v.Reference != "" }) {
		return
	}
	r := secret.NewRedactor(env)
	for i := range o.Streams {
		s := &o.Streams[i]
		clean, found := r.Redact(o.Kept[s.Name], s.Truncated)
		if len(found) == 0 {
			continue
		}
		o.Kept[s.Name] = clean
		sum := sha256.Sum256(clean)
		s.Kept, s.SHA256, s.KeptSHA = int64(len(clean)), "", hex.EncodeToString(sum[:])
		for _, f := range found {
			s.Redacted += f.Count
		}
		o.Facts = append(o.Facts, report.Fact{Kind: report.SecretRedacted, Fields: []plan.Param{{Name: "stream", Value: s.Name}}})
	}
	for i := range o.Denied {
		d := &o.Denied[i]
		for _, field := range []*string{&d.Act, &d.Path, &d.Allow, &d.Program} {
			clean, _ := r.Redact([]byte(*field), false) // a workload chooses these names
			*field = string(clean)
		}
	}
	for i := range o.Artifacts {
		// What the report leaves out of its list stands in the manifest, which is
		// the workload's own as the files are.
		a := &o.Artifacts[i]
		for k := range a.Entries {
			if named(r, &a.Entries[k]) {
				a.Omitted += int64(len(a.Entries) - k)
				a.Entries = a.Entries[:k]
				o.Facts = append(o.Facts, report.Fact{Kind: report.SecretRedacted, Fields: []plan.Param{{Name: "artifacts", Value: a.Path}}})
				break
			}
		}
	}
	for _, name := range r.Short() {
		o.Facts = append(o.Facts, report.Fact{Kind: report.Unobserved, Fields: []plan.Param{{Name: "what", Value: "the value of " + name + " is too short to be found in output"}}})
	}
}

// named says whether the value of a lease is part of a name that the workload
// chose.
func named(r *secret.Redactor, e *report.Artifact) bool {
	names := []string{e.Path}
	for _, s := range []*report.ArtifactState{e.After, e.Before} {
		if s != nil {
			names = append(names, s.Target)
		}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		_, found := r.Redact([]byte(name), false)
		return len(found) > 0
	})
}
