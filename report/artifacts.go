package report

import (
	"fmt"
	"strconv"
	"strings"
)

// Artifacts is what a run wrote below one path of controls.artifacts, and what
// became of what was there. Nothing of it has reached the host.
//
// The manifest, in the quarantine, lists every change; the report repeats its
// beginning. A name is text in which a backslash stands as \\ and a byte that
// is not UTF-8 as \xHH.
type Artifacts struct {
	Path     string     `json:"path"`
	Manifest string     `json:"manifest,omitempty"` // SHA-256 of the manifest; empty when there is none
	Created  int64      `json:"created"`
	Changed  int64      `json:"changed"`
	Deleted  int64      `json:"deleted"`
	Refused  int64      `json:"refused"` // what is not kept: special files, what is beyond a bound
	Bytes    int64      `json:"bytes"`   // of contents that are kept
	Entries  []Artifact `json:"entries,omitempty"`
	Omitted  int64      `json:"omitted,omitempty"` // entries that stand in the manifest only
	Lost     string     `json:"lost,omitempty"`    // why there is no manifest: the changes are gone
}

// Artifact is one change below Artifacts.Path.
type Artifact struct {
	Path   string         `json:"path"`
	Act    string         `json:"act"`              // created, changed, deleted, refused
	Why    string         `json:"why,omitempty"`    // refused
	After  *ArtifactState `json:"after,omitempty"`  // as the run left it; none when it was deleted
	Before *ArtifactState `json:"before,omitempty"` // as the host had it; none when it was created
}

// ArtifactState is what one name led to.
type ArtifactState struct {
	Type   string `json:"type"`             // file, directory, link, other
	Mode   string `json:"mode"`             // octal, with set-id and sticky bits
	Size   int64  `json:"size,omitempty"`   // file
	SHA256 string `json:"sha256,omitempty"` // file; absent where the host's could not be read
	Target string `json:"target,omitempty"` // link
}

// What became of a name.
const (
	ArtifactCreated = "created"
	ArtifactChanged = "changed"
	ArtifactDeleted = "deleted"
	ArtifactRefused = "refused"
)

// Types of what a name leads to.
const (
	ArtifactFile      = "file"
	ArtifactDirectory = "directory"
	ArtifactLink      = "link"
	ArtifactOther     = "other" // a device, FIFO or socket
)

// SubjectArtifacts begins the names of subjects: with a path, of the manifest;
// SubjectArtifact with the path of a file, of its contents.
const (
	SubjectArtifacts = "artifacts:"
	SubjectArtifact  = "artifact:"
)

func artifactSubjects(r *Report, add func(name, digest string)) {
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		add(SubjectArtifacts+a.Path, a.Manifest)
		for k := range a.Entries {
			if e := &a.Entries[k]; e.After != nil && e.Act != ArtifactRefused {
				add(SubjectArtifact+strings.TrimSuffix(a.Path, "/")+"/"+e.Path, e.After.SHA256)
			}
		}
	}
}

func checkArtifacts(s *Sealed) (string, *CheckError) {
	r := s.Report
	var want []string
	if a := r.resolved().Spec.Controls.Artifacts; a != nil && r.Plan != nil {
		want = a.Paths
	}
	total := 0
	for i := range r.Artifacts {
		a, where := &r.Artifacts[i], fmt.Sprintf("artifacts[%d]", i)
		if i >= len(want) || a.Path != want[i] {
			return "", mismatch(where+".path", "a path of the plan's controls.artifacts, each once and in order", a.Path)
		}
		if bad := a.check(where); bad != nil {
			return "", bad
		}
		total += len(a.Entries)
	}
	if ran[r.Outcome.Status] && len(r.Artifacts) != len(want) {
		return "", mismatch("artifacts", fmt.Sprintf("one for each of the plan's %d paths", len(want)), strconv.Itoa(len(r.Artifacts)))
	}
	return fmt.Sprintf("%d paths, %d changes", len(r.Artifacts), total), nil
}

func (a *Artifacts) check(where string) *CheckError {
	if a.Lost != "" {
		if a.Manifest != "" || len(a.Entries) > 0 || a.Omitted != 0 || a.count() != 0 || a.Bytes != 0 {
			return mismatch(where, "nothing, as the changes are lost", "some")
		}
		return nil
	}
	if !isDigest(a.Manifest) {
		return mismatch(where+".manifest", "a SHA-256 in lower-case hex", a.Manifest)
	}
	for _, n := range []int64{a.Created, a.Changed, a.Deleted, a.Refused, a.Bytes, a.Omitted} {
		if n < 0 {
			return mismatch(where, "counts of 0 or more", strconv.FormatInt(n, 10))
		}
	}
	found := map[string]int64{}
	last := ""
	for i := range a.Entries {
		e, at := &a.Entries[i], fmt.Sprintf("%s.entries[%d]", where, i)
		if bad := e.check(at); bad != nil {
			return bad
		}
		if i > 0 && !before(last, e.Path) {
			return mismatch(at+".path", "paths in order, each once", e.Path)
		}
		last = e.Path
		found[e.Act]++
	}
	if n := int64(len(a.Entries)) + a.Omitted; n != a.count() {
		return mismatch(where+".omitted", fmt.Sprintf("%d entries in all", a.count()), strconv.FormatInt(n, 10))
	}
	for _, c := range []struct {
		act string
		n   int64
	}{{ArtifactCreated, a.Created}, {ArtifactChanged, a.Changed}, {ArtifactDeleted, a.Deleted}, {ArtifactRefused, a.Refused}} {
		if found[c.act] > c.n || a.Omitted == 0 && found[c.act] != c.n {
			return mismatch(where+"."+c.act, strconv.FormatInt(found[c.act], 10)+", as the entries say", strconv.FormatInt(c.n, 10))
		}
	}
	return nil
}

func (a *Artifacts) count() int64 { return a.Created + a.Changed + a.Deleted + a.Refused }

// before orders paths as a walk does: by components, not by their text.
func before(a, b string) bool {
	parts := func(p string) []string {
		if p == "." {
			return nil // the directory itself
		}
		return strings.Split(p, "/")
	}
	x, y := parts(a), parts(b)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return len(x) < len(y)
}

func (e *Artifact) check(where string) *CheckError {
	for _, part := range strings.Split(e.Path, "/") {
		if part == "" || part == ".." || part == "." && e.Path != "." || strings.ContainsRune(part, 0) {
			return mismatch(where+".path", "a relative path without empty parts and dots", e.Path)
		}
	}
	wantAfter, wantBefore := false, false
	switch e.Act {
	case ArtifactCreated:
		wantAfter = true
	case ArtifactChanged:
		wantAfter, wantBefore = true, true
	case ArtifactDeleted:
		wantBefore = true
	case ArtifactRefused:
		if e.Why == "" {
			return mismatch(where+".why", "why it is refused", "")
		}
		return nil
	default:
		return mismatch(where+".act", "created, changed, deleted or refused", e.Act)
	}
	if (e.After != nil) != wantAfter || (e.Before != nil) != wantBefore {
		return mismatch(where, "a state after for created and changed, one before for changed and deleted", e.Act)
	}
	if e.After != nil && e.After.Type == ArtifactFile && !isDigest(e.After.SHA256) {
		return mismatch(where+".after.sha256", "a SHA-256 in lower-case hex", e.After.SHA256)
	}
	for _, st := range []*ArtifactState{e.After, e.Before} {
		if st != nil {
			if bad := st.check(where, st == e.Before); bad != nil {
				return bad
			}
		}
	}
	return nil
}

func (s *ArtifactState) check(where string, host bool) *CheckError {
	switch {
	case s.Type == ArtifactFile, s.Type == ArtifactDirectory, s.Type == ArtifactLink, s.Type == ArtifactOther && host:
	default:
		return mismatch(where, "file, directory or link", s.Type)
	}
	if _, err := strconv.ParseUint(s.Mode, 8, 12); err != nil || s.Size < 0 {
		return mismatch(where, "an octal mode and a size of 0 or more", s.Mode)
	}
	if s.SHA256 != "" && (s.Type != ArtifactFile || !isDigest(s.SHA256)) {
		return mismatch(where, "a SHA-256 of a file", s.SHA256)
	}
	return nil
}

// HasArtifacts says whether what the evidence claims of files promise was
// observed.
func (r *Report) HasArtifacts() bool {
	var want []string
	if a := r.resolved().Spec.Controls.Artifacts; a != nil {
		want = a.Paths
	}
	for i := range r.Artifacts {
		if r.Artifacts[i].Lost != "" {
			return false
		}
	}
	return len(want) > 0 && len(r.Artifacts) == len(want)
}
