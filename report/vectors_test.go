package report

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
)

var golden = flag.Bool("golden", false, "rewrite the vectors instead of comparing with them")

const vectors = "testdata/vectors"

// TestVectors holds the format still: what is committed must come out byte for
// byte, and must be judged as the file names say.
func TestVectors(t *testing.T) {
	k := fixedKey(t, 1)
	private, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"private.pem": private, "public.pem": k.Public().PEM()}
	for name, r := range map[string]*Report{"completed": sample(t), "refused": sampleRefused(t), "small": small(t)} {
		env := seal(t, r, k)
		s, err := Parse(env)
		if err != nil {
			t.Fatal(err)
		}
		files[name+".envelope.json"], files[name+".payload.json"] = env, s.Payload
	}
	for name, b := range badVectors(t, k) {
		files[filepath.Join("bad", name)] = b
	}
	if *golden {
		for name, b := range files {
			path := filepath.Join(vectors, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}

	public, err := os.ReadFile(filepath.Join(vectors, "public.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(vectors, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		found++
		name, _ := filepath.Rel(vectors, path)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, ok := files[name]; !ok || !bytes.Equal(b, want) {
			t.Errorf("%s: what is committed is not what comes out now", name)
		}
		_, verr := Verify(b, []PublicKey{key})
		check, _, bad := strings.Cut(filepath.Base(name), ".")
		switch {
		case filepath.Dir(name) == "bad":
			var ce *CheckError
			if !bad || !errors.As(verr, &ce) || ce.Check != check {
				t.Errorf("%s: got %v, want check %s to fail", name, verr, check)
			}
		case strings.HasSuffix(name, ".envelope.json") && verr != nil:
			t.Errorf("%s: %v", name, verr)
		}
		return nil
	})
	if err != nil || found != len(files) {
		t.Errorf("%d files, want %d: %v", found, len(files), err)
	}
}

// badVectors are named CHECK.WHAT.json after the check that must fail.
func badVectors(t *testing.T, k *Key) map[string][]byte {
	t.Helper()
	good := seal(t, small(t), k)
	s, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	sig := signature{s.KeyID, s.Signature}
	form := func(sigs ...signature) []byte {
		b, err := canonical.Marshal(&envelope{s.Payload, PayloadType, sigs})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	resealed := func(old, new string) []byte {
		payload := strings.Replace(string(s.Payload), old, new, 1)
		if payload == string(s.Payload) {
			t.Fatalf("%s does not occur", old)
		}
		b, err := k.envelope([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	changed := func(change func(*Report)) []byte {
		r := small(t)
		change(r)
		return seal(t, r, k)
	}
	return map[string][]byte{
		"envelope.no-signature.json":   form(),
		"envelope.two-signatures.json": form(sig, sig),
		"envelope.line-feed.json":      append(bytes.Clone(good), '\n'),
		"envelope.duplicate.json":      bytes.Replace(good, []byte(`,"payloadType"`), []byte(`,"payload":"e30=","payloadType"`), 1),
		"key.unknown.json":             seal(t, small(t), fixedKey(t, 2)),
		"signature.other-key.json":     bytes.Replace(seal(t, small(t), fixedKey(t, 2)), []byte(fixedKey(t, 2).ID()), []byte(k.ID()), 1),
		"signature.empty.json":         form(signature{s.KeyID, nil}),
		"statement.float.json":         resealed(`"total":1`, `"total":1.0`),
		"statement.reordered.json":     resealed(`"name":"bvisor","version":"0.1.0"`, `"version":"0.1.0","name":"bvisor"`),
		"statement.null.json":          resealed(`"total":1`, `"total":null`),
		"statement.predicate.json":     resealed(PredicateType, "https://slsa.dev/provenance/v1"),
		"statement.white-space.json":   resealed(`"total":1`, `"total": 1`),
		"profile.changed.json": changed(func(r *Report) {
			r.Profile = plan.Profile{Version: 1, Backend: "inert", Host: plan.Host{OS: "linux", Arch: "arm64"}}
		}),
		"refusal.outcome.json":  changed(func(r *Report) { r.Outcome.Status = Completed; r.Exit = &Exit{} }),
		"subjects.refusal.json": resealed(`"fact":""`, `"fact":"none"`),
		"times.local.json":      changed(func(r *Report) { r.Times.Ended = "2026-01-02T03:04:05+01:00" }),
	}
}
