package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// checks say whether a report is true to itself, in the order they are made: a
// later one may rely on the earlier ones. Digests are taken over the bytes of
// the payload.
var checks = []struct {
	name string
	run  func(*Sealed) (string, *CheckError)
}{
	{"form", checkForm},
	{"profile", checkProfile},
	{"plan", checkPlan},
	{"refusal", checkRefusal},
	{"executable", checkExecutable},
	{"descriptors", checkDescriptors},
	{"subjects", checkSubjects},
	{"accepted", checkAccepted},
	{"outcome", checkOutcome},
	{"transcript", checkTranscript},
	{"budgets", checkBudgets},
	{"streams", checkStreams},
	{"artifacts", checkArtifacts},
	{"leases", checkLeases},
	{"denied", checkDenied},
	{"times", checkTimes},
}

// ran holds the outcomes that only a workload which started can have. A
// deadline or a kill can come before its exec.
var ran = map[Status]bool{Completed: true, Failed: true, Denied: true, BudgetExceeded: true}

func checkForm(s *Sealed) (string, *CheckError) {
	r := s.Report
	if !isHex(r.Identity.Attempt) {
		return "", mismatch("identity.attempt", "lower-case hex", r.Identity.Attempt)
	}
	for _, d := range []struct {
		where, digest string
		optional      bool
	}{
		{"identity.plan", r.Identity.Plan, true},
		{"identity.profile", r.Identity.Profile, false},
		{"identity.program", r.Identity.Program, true},
		{"identity.descriptors", r.Identity.Descriptors, true},
		{"identity.executable", r.Identity.Executable, true},
	} {
		if !(d.optional && d.digest == "") && !isDigest(d.digest) {
			return "", mismatch(d.where, "a SHA-256 in lower-case hex", d.digest)
		}
	}
	if (r.Plan == nil) == (r.Refusal == nil) {
		return "", mismatch("plan, refusal", "exactly one of them", fmt.Sprintf("plan %t, refusal %t", r.Plan != nil, r.Refusal != nil))
	}
	if r.Tool.Name == "" || r.Tool.Version == "" {
		return "", mismatch("tool", "name and version", r.Tool.Name+" "+r.Tool.Version)
	}
	return "attempt " + r.Identity.Attempt, nil
}

func checkProfile(s *Sealed) (string, *CheckError) {
	raw := s.members["profile"]
	if found := digest(raw); found != s.Report.Identity.Profile {
		return "", mismatch("identity.profile", found+", the digest of the profile", s.Report.Identity.Profile)
	}
	p, err := plan.ParseProfile(raw)
	if err != nil {
		return "", &CheckError{Where: "profile", Expected: "a profile", Err: err}
	}
	s.Report.Profile = p
	return s.Report.Identity.Profile, nil
}

func checkPlan(s *Sealed) (string, *CheckError) {
	r := s.Report
	if r.Plan == nil {
		if r.Identity.Plan != "" {
			return "", mismatch("identity.plan", "", r.Identity.Plan)
		}
		return "none", nil
	}
	raw := s.members["plan"]
	if found := digest(raw); found != r.Identity.Plan {
		return "", mismatch("identity.plan", found+", the digest of the plan", r.Identity.Plan)
	}
	p, err := plan.Parse(raw)
	if err != nil {
		return "", &CheckError{Where: "plan", Expected: "a plan whose every requirement is held", Err: err}
	}
	s.Report.Plan = &p
	switch {
	case p.Profile != r.Identity.Profile:
		return "", mismatch("plan.profile", r.Identity.Profile, p.Profile)
	case p.Backend != r.Profile.Backend:
		return "", mismatch("plan.backend", r.Profile.Backend, p.Backend)
	case p.Resolved.Unresolved:
		return "", mismatch("plan.resolved.unresolved", "resolved paths: nothing can have run otherwise", "true")
	}
	return r.Identity.Plan, nil
}

func checkRefusal(s *Sealed) (string, *CheckError) {
	r := s.Report
	if (r.Outcome.Status == Refused) != (r.Refusal != nil) {
		return "", mismatch("refusal", "a refusal if and only if the outcome is "+string(Refused), fmt.Sprintf("outcome %s, refusal %t", r.Outcome.Status, r.Refusal != nil))
	}
	if r.Refusal == nil {
		return "none", nil
	}
	switch {
	case r.Refusal.Profile != r.Identity.Profile:
		return "", mismatch("refusal.profile", r.Identity.Profile, r.Refusal.Profile)
	case r.Refusal.Backend != r.Profile.Backend:
		return "", mismatch("refusal.backend", r.Profile.Backend, r.Refusal.Backend)
	case len(r.Refusal.Reasons) == 0:
		return "", mismatch("refusal.reasons", "at least one reason", "")
	}
	for _, m := range []string{"exit", "transcript", "posture", "descriptors", "denied", "budgets", "usage", "streams", "artifacts", "leases"} {
		if _, ok := s.members[m]; ok {
			return "", mismatch(m, "", "something, though nothing was started")
		}
	}
	if r.Identity.Program != "" {
		return "", mismatch("identity.program", "", r.Identity.Program)
	}
	return fmt.Sprintf("%d reasons", len(r.Refusal.Reasons)), nil
}

// resolved is the request behind the report, whichever way it was decided.
func (r *Report) resolved() *spec.Resolved {
	if r.Plan != nil {
		return &r.Plan.Resolved
	}
	return &r.Refusal.Resolved
}

func checkExecutable(s *Sealed) (string, *CheckError) {
	want, found := s.Report.resolved().Executable.SHA256, s.Report.Identity.Executable
	if found != want {
		return "", mismatch("identity.executable", want, found)
	}
	return orNothing(found), nil
}

func checkDescriptors(s *Sealed) (string, *CheckError) {
	raw, ok := s.members["descriptors"]
	want := ""
	if ok {
		want = digest(raw)
	}
	if found := s.Report.Identity.Descriptors; found != want {
		return "", mismatch("identity.descriptors", want, found)
	}
	for i, d := range s.Report.Descriptors {
		for _, o := range s.Report.Descriptors[:i] {
			if d.Slot == o.Slot {
				return "", mismatch(fmt.Sprintf("descriptors[%d].slot", i), "each slot once", strconv.Itoa(d.Slot))
			}
		}
	}
	return orNothing(want), nil
}

func checkSubjects(s *Sealed) (string, *CheckError) {
	refusal := ""
	if raw, ok := s.members["refusal"]; ok {
		refusal = digest(raw)
	}
	want := subjects(s.Report, refusal)
	for i := range max(len(want), len(s.Subjects)) {
		var w, f string
		if i < len(want) {
			w = want[i].Name + " " + want[i].Digest.SHA256
		}
		if i < len(s.Subjects) {
			f = s.Subjects[i].Name + " " + s.Subjects[i].Digest.SHA256
		}
		if w != f {
			return "", mismatch(fmt.Sprintf("payload.subject[%d]", i), w, f)
		}
	}
	names := make([]string, len(want))
	for i := range want {
		names[i] = want[i].Name
	}
	return strings.Join(names, ", "), nil
}

func checkAccepted(s *Sealed) (string, *CheckError) {
	r := s.Report
	want := slices.Compact(slices.Sorted(slices.Values(r.resolved().Spec.Accept)))
	if r.Plan != nil && !slices.Equal(r.Plan.Accepted, want) {
		return "", mismatch("plan.accepted", words(want), words(r.Plan.Accepted))
	}
	if r.Refusal != nil && len(r.Accepted) == 0 {
		return "nothing was started", nil
	}
	if !slices.Equal(r.Accepted, want) {
		return "", mismatch("accepted", words(want), words(r.Accepted))
	}
	return orNothing(words(want)), nil
}

func words[S ~string](list []S) string {
	parts := make([]string, len(list))
	for i, w := range list {
		parts[i] = string(w)
	}
	return strings.Join(parts, ", ")
}

func checkOutcome(s *Sealed) (string, *CheckError) {
	r := s.Report
	o, e := r.Outcome, r.Exit
	if e != nil {
		most := 255
		if r.Profile.Backend == "wasm" {
			most = 1<<32 - 1 // proc_exit of WASI takes 32 bits
		}
		if t := e.Trap; t != nil && (t.Kind == "" || e.Code != 0 || e.Signal != 0) {
			return "", mismatch("exit.trap", "its kind, and neither a status nor a signal", e.String())
		}
		if e.Code < 0 || e.Code > most || e.Signal < 0 || e.Signal > 64 || (e.Signal != 0 && e.Code != 0) || (e.Core && e.Signal == 0) {
			return "", mismatch("exit", fmt.Sprintf("a status from 0 to %d or a signal from 1 to 64", most), e.String())
		}
	}
	switch o.Status {
	case Completed:
		if e == nil || e.Code != 0 || e.Signal != 0 || e.Trap != nil {
			return "", mismatch("exit", "status 0, as the outcome is completed", e.String())
		}
	case Failed:
		if e == nil || (e.Code == 0 && e.Signal == 0 && e.Trap == nil) {
			return "", mismatch("exit", "a status other than 0, a signal or a trap, as the outcome is failed", e.String())
		}
	case SetupFailed:
		if e != nil {
			return "", mismatch("exit", "", e.String()+", though the workload never ran")
		}
		fallthrough
	case SupervisorFault:
		if o.Reason == "" {
			return "", mismatch("outcome.reason", "what failed", "")
		}
	case Timeout:
		if r.budget(spec.Wall) == nil {
			return "", mismatch("plan.budgets", "a wall budget, as the outcome is timeout", "")
		}
	case BudgetExceeded:
		if r.budget(spec.Dimension(o.Reason)) == nil {
			return "", mismatch("outcome.reason", "a dimension of the plan's budgets", o.Reason)
		}
	case Denied, Killed, Refused:
	default:
		return "", mismatch("outcome.status", "a known outcome", string(o.Status))
	}
	detail := string(o.Status)
	if e != nil {
		detail += ", " + e.String()
	}
	return detail, nil
}

func (r *Report) budget(d spec.Dimension) *plan.BudgetPlan {
	if r.Plan == nil {
		return nil
	}
	for i := range r.Plan.Budgets {
		if r.Plan.Budgets[i].Dimension == d {
			return &r.Plan.Budgets[i]
		}
	}
	return nil
}

// String names the end of a process; a nil Exit is one that was not seen.
func (e *Exit) String() string {
	switch {
	case e == nil:
		return "no exit"
	case e.Trap != nil:
		return "trap: " + e.Trap.Kind
	case e.Signal != 0:
		text := "signal " + strconv.Itoa(e.Signal)
		if e.Name != "" {
			text += " (" + e.Name + ")"
		}
		if e.Core {
			text += ", core dumped"
		}
		return text
	}
	return "exit status " + strconv.Itoa(e.Code)
}

// Phase statuses.
const (
	PhaseDone        = "done"
	PhaseFailed      = "failed"
	PhaseNotRequired = "not-required"
	PhaseNotReached  = "not-reached"
)

func checkTranscript(s *Sealed) (string, *CheckError) {
	r := s.Report
	stopped := false
	for i, p := range r.Transcript {
		where := fmt.Sprintf("transcript[%d].status", i)
		switch p.Status {
		case PhaseDone, PhaseNotRequired:
			if stopped {
				return "", mismatch(where, PhaseNotReached+", as an earlier phase is", p.Status)
			}
		case PhaseFailed, PhaseNotReached:
			if stopped && p.Status == PhaseFailed {
				return "", mismatch(where, PhaseNotReached+", as an earlier phase failed", p.Status)
			}
			stopped = true
		default:
			return "", mismatch(where, "a known status", p.Status)
		}
		if stopped && ran[r.Outcome.Status] {
			return "", mismatch(where, "a phase that was done, as the outcome is "+string(r.Outcome.Status), p.Status)
		}
	}
	if r.Outcome.Status == SetupFailed && len(r.Transcript) > 0 && !stopped {
		return "", mismatch("transcript", "a phase that was not done, as the outcome is "+string(SetupFailed), "all done")
	}
	return fmt.Sprintf("%d phases", len(r.Transcript)), nil
}

// Budget findings.
const (
	Within      = "within"
	Exceeded    = "exceeded"
	NotObserved = "not-observed"
)

func checkBudgets(s *Sealed) (string, *CheckError) {
	r := s.Report
	if r.Plan == nil {
		return "none", nil
	}
	next := 0
	for i, b := range r.Budgets {
		where := fmt.Sprintf("budgets[%d]", i)
		for next < len(r.Plan.Budgets) && r.Plan.Budgets[next].Dimension != b.Dimension {
			next++
		}
		if next == len(r.Plan.Budgets) {
			return "", mismatch(where+".dimension", "a dimension of the plan's budgets, each once and in order", string(b.Dimension))
		}
		if want := r.Plan.Budgets[next].Limit; b.Requested != want {
			return "", mismatch(where+".requested", strconv.FormatInt(want, 10), strconv.FormatInt(b.Requested, 10))
		}
		next++
		switch b.Finding {
		case Within, Exceeded:
		case NotObserved:
			for name, seen := range map[string]*int64{"used": b.Used, "peak": b.Peak} {
				if seen != nil {
					return "", mismatch(where+"."+name, "", strconv.FormatInt(*seen, 10)+", though the finding is "+NotObserved)
				}
			}
		default:
			return "", mismatch(where+".finding", "a known finding", b.Finding)
		}
		if r.Outcome.Status == BudgetExceeded && r.Outcome.Reason == string(b.Dimension) && b.Finding != Exceeded {
			return "", mismatch(where+".finding", Exceeded+", as the outcome says so", b.Finding)
		}
	}
	if ran[r.Outcome.Status] && len(r.Budgets) != len(r.Plan.Budgets) {
		return "", mismatch("budgets", fmt.Sprintf("a finding for each of the plan's %d budgets", len(r.Plan.Budgets)), strconv.Itoa(len(r.Budgets)))
	}
	return fmt.Sprintf("%d budgets", len(r.Budgets)), nil
}

func checkStreams(s *Sealed) (string, *CheckError) {
	r := s.Report
	captures := make(map[string]int64)
	for _, c := range r.resolved().Spec.Controls.Capture {
		captures[c.Stream] = c.Limit
	}
	for i, st := range r.Streams {
		where := fmt.Sprintf("streams[%d]", i)
		limit, ok := captures[st.Name]
		if !ok {
			return "", mismatch(where+".name", "a captured stream of the plan, each once", st.Name)
		}
		delete(captures, st.Name)
		if !isDigest(st.KeptSHA) {
			return "", mismatch(where+".kept_sha256", "a SHA-256 in lower-case hex", st.KeptSHA)
		}
		if st.Bytes < 0 || st.Kept < 0 || st.Redacted < 0 {
			return "", mismatch(where, "counts of 0 or more", fmt.Sprintf("%d, %d, %d", st.Bytes, st.Kept, st.Redacted))
		}
		if st.Redacted > 0 {
			// A short secret could be guessed from the digest of what held it.
			// Lengths say nothing: what stands in place of a value has its own.
			if st.SHA256 != "" {
				return "", mismatch(where+".sha256", "", st.SHA256+", though a secret was taken out")
			}
			continue
		}
		if !isDigest(st.SHA256) {
			return "", mismatch(where+".sha256", "a SHA-256 in lower-case hex", st.SHA256)
		}
		if st.Kept > st.Bytes || st.Kept > limit {
			return "", mismatch(where+".kept", fmt.Sprintf("at most %d", min(st.Bytes, limit)), strconv.FormatInt(st.Kept, 10))
		}
		if st.Truncated != (st.Kept < st.Bytes) {
			return "", mismatch(where+".truncated", strconv.FormatBool(st.Kept < st.Bytes), strconv.FormatBool(st.Truncated))
		}
		if !st.Truncated && st.KeptSHA != st.SHA256 {
			return "", mismatch(where+".kept_sha256", st.SHA256, st.KeptSHA)
		}
	}
	return fmt.Sprintf("%d streams", len(r.Streams)), nil
}

func checkLeases(s *Sealed) (string, *CheckError) {
	r := s.Report
	asked := make(map[string]string)
	for _, e := range r.resolved().Spec.Capabilities.Environment {
		if e.Lease != "" {
			asked[e.Name] = e.Lease
		}
	}
	for i, l := range r.Leases {
		want, ok := asked[l.Variable]
		if !ok {
			return "", mismatch(fmt.Sprintf("leases[%d].variable", i), "a leased variable of the plan, each once", l.Variable)
		}
		delete(asked, l.Variable)
		if l.Reference != want {
			return "", mismatch(fmt.Sprintf("leases[%d].reference", i), want, l.Reference)
		}
	}
	return fmt.Sprintf("%d leases", len(r.Leases)), nil
}

// Levels of Completeness.
const (
	LevelComplete = "complete"
	LevelPartial  = "partial"
	LevelNone     = "none"
)

func checkDenied(s *Sealed) (string, *CheckError) {
	r := s.Report
	switch r.Completeness.Level {
	case LevelComplete, LevelPartial:
	case LevelNone:
		if len(r.Denied) > 0 {
			return "", mismatch("denied_completeness.level", LevelPartial+" or "+LevelComplete+", as denials were seen", LevelNone)
		}
	default:
		return "", mismatch("denied_completeness.level", "a known level", r.Completeness.Level)
	}
	return fmt.Sprintf("%d denied, %s", len(r.Denied), r.Completeness.Level), nil
}

// checkTimes does not compare start and end: a wall clock may be set back.
func checkTimes(s *Sealed) (string, *CheckError) {
	t := s.Report.Times
	for _, c := range []struct{ where, text string }{{"times.started", t.Started}, {"times.ended", t.Ended}} {
		if _, err := time.Parse(time.RFC3339Nano, c.text); err != nil || !strings.HasSuffix(c.text, "Z") {
			return "", mismatch(c.where, "a time in RFC 3339, in UTC", c.text)
		}
	}
	for _, c := range []struct {
		where string
		n     int64
	}{{"times.setup", t.Setup}, {"times.run", t.Run}, {"times.teardown", t.Teardown}} {
		if c.n < 0 {
			return "", mismatch(c.where, "a duration of 0 or more", strconv.FormatInt(c.n, 10))
		}
	}
	if p := t.Prepared; p != nil {
		if _, err := time.Parse(time.RFC3339Nano, p.At); err != nil || !strings.HasSuffix(p.At, "Z") {
			return "", mismatch("times.prepared.at", "a time in RFC 3339, in UTC", p.At)
		}
		if p.Took < 0 {
			return "", mismatch("times.prepared.took", "a duration of 0 or more", strconv.FormatInt(p.Took, 10))
		}
	}
	return t.Started, nil
}
