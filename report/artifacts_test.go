package report

import (
	"errors"
	"slices"
	"testing"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

// sampleHeld is the sample with something held back.
func sampleHeld(t testing.TB) *Report {
	t.Helper()
	r := sample(t)
	profile := r.Profile
	for _, k := range []plan.Kind{plan.CommitArtifact, plan.DiscardArtifact, plan.ListOutputs} {
		profile.Offers = append(profile.Offers, plan.Offer{Kind: k, Ways: []plan.Way{{Mechanisms: []plan.Mechanism{{Name: "overlayfs", Enforcement: spec.Enforced}}}}})
	}
	slices.SortFunc(profile.Offers, func(a, b plan.Offer) int {
		if a.Kind < b.Kind {
			return -1
		}
		return 1
	})
	profile, err := plan.Profile{Version: profile.Version, Backend: profile.Backend, Host: profile.Host, Facts: profile.Facts, Offers: profile.Offers, Evidence: profile.Evidence}.Seal()
	if err != nil {
		t.Fatal(err)
	}
	resolved := sampleResolved()
	resolved.Spec.Controls.Artifacts = &spec.Artifacts{Paths: []string{"/tree/a", "/tree/b"}, Commit: "manual", Durability: "atomic"}
	p, refusal := plan.Make(resolved, profile)
	if refusal != nil {
		t.Fatalf("refused: %+v", refusal.Reasons)
	}
	r.Profile, r.Plan = profile, &p
	r.Identity.Profile, r.Identity.Plan = profile.Digest(), p.ID()
	file := func(text string) *ArtifactState {
		return &ArtifactState{Type: ArtifactFile, Mode: "0644", Size: int64(len(text)), SHA256: hash(text)}
	}
	r.Artifacts = []Artifacts{{
		Path: "/tree/a", Manifest: hash("manifest"), Created: 2, Changed: 1, Deleted: 1, Refused: 1, Bytes: 6, Omitted: 1,
		Entries: []Artifact{
			{Path: ".", Act: ArtifactChanged, After: &ArtifactState{Type: ArtifactDirectory, Mode: "0700"}, Before: &ArtifactState{Type: ArtifactDirectory, Mode: "0755"}},
			{Path: "!", Act: ArtifactCreated, After: file("x")},
			{Path: "d", Act: ArtifactRefused, Why: "a FIFO"},
			{Path: "d!", Act: ArtifactDeleted, Before: &ArtifactState{Type: ArtifactOther, Mode: "0600"}},
		},
	}, {Path: "/tree/b", Lost: "no space left on device"}}
	return r
}

func TestArtifactsAreSubjects(t *testing.T) {
	k := fixedKey(t, 1)
	v, err := Verify(seal(t, sampleHeld(t), k), []PublicKey{k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for name, digest := range map[string]string{"artifacts:/tree/a": hash("manifest"), "artifact:/tree/a/!": hash("x")} {
		if !slices.Contains(v.Subjects, Subject{name, Digest{digest}}) {
			t.Errorf("%s is no subject: %+v", name, v.Subjects)
		}
	}
	if v.Report.HasArtifacts() {
		t.Error("what is lost counts as there")
	}
}

// A report that was sealed with something untrue about its artifacts does not verify.
func TestArtifactsThatAreNotTrue(t *testing.T) {
	k := fixedKey(t, 1)
	for name, change := range map[string]func(r *Report){
		"no manifest":           func(r *Report) { r.Artifacts[0].Manifest = "" },
		"another path":          func(r *Report) { r.Artifacts[0].Path = "/tree/c" },
		"out of order":          func(r *Report) { slices.Reverse(r.Artifacts) },
		"one too few":           func(r *Report) { r.Artifacts = r.Artifacts[:1] },
		"one too many":          func(r *Report) { r.Artifacts = append(r.Artifacts, r.Artifacts[1]) },
		"a wrong count":         func(r *Report) { r.Artifacts[0].Created = 3 },
		"a count below zero":    func(r *Report) { r.Artifacts[0].Bytes = -1 },
		"more entries than all": func(r *Report) { r.Artifacts[0].Omitted = 0; r.Artifacts[0].Deleted = 0 },
		"lost and yet there":    func(r *Report) { r.Artifacts[1].Created = 1 },
		"entries out of order":  func(r *Report) { e := r.Artifacts[0].Entries; e[1], e[2] = e[2], e[1] },
		"an entry twice":        func(r *Report) { e := r.Artifacts[0].Entries; e[2].Path = "!" },
		"a path that climbs":    func(r *Report) { r.Artifacts[0].Entries[3].Path = "x/../y" },
		"an absolute path":      func(r *Report) { r.Artifacts[0].Entries[3].Path = "/etc" },
		"an unknown act":        func(r *Report) { r.Artifacts[0].Entries[1].Act = "moved" },
		"created without after": func(r *Report) { r.Artifacts[0].Entries[1].After = nil },
		"deleted with after":    func(r *Report) { r.Artifacts[0].Entries[3].After = r.Artifacts[0].Entries[1].After },
		"refused without why":   func(r *Report) { r.Artifacts[0].Entries[2].Why = "" },
		"a file without digest": func(r *Report) { r.Artifacts[0].Entries[1].After.SHA256 = "" },
		"a device afterwards":   func(r *Report) { r.Artifacts[0].Entries[0].After.Type = ArtifactOther },
		"a mode that is none":   func(r *Report) { r.Artifacts[0].Entries[0].After.Mode = "0999" },
	} {
		r := sampleHeld(t)
		change(r)
		_, err := Verify(seal(t, r, k), []PublicKey{k.Public()})
		if bad, ok := errors.AsType[*CheckError](err); !ok || bad.Check != "artifacts" {
			t.Errorf("%s: got %v, want the check of artifacts to fail", name, err)
		}
	}
}
