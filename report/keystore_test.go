package report

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be one of many processes that come first.
func TestMain(m *testing.M) {
	if dir := os.Getenv("REPORT_TEST_KEY_DIR"); dir != "" {
		k, err := LoadOrCreateKey(dir)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(k.ID())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "keys")
	k, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(dir)
	if err != nil || again.ID() != k.ID() || !bytes.Equal(again.halves().private, k.halves().private) {
		t.Fatalf("second use: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, k); text != "key "+k.ID() {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}

func TestManyProcessesGetOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	type result struct {
		id  string
		err error
	}
	results := make(chan result)
	const n = 8
	for range n {
		go func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "REPORT_TEST_KEY_DIR="+dir)
			out, err := cmd.Output()
			results <- result{strings.TrimSpace(string(out)), err}
		}()
	}
	ids := make(map[string]int)
	for range n {
		r := <-results
		if r.err != nil {
			t.Errorf("%v: %s", r.err, r.id)
		}
		ids[r.id]++
	}
	k, err := LoadOrCreateKey(dir)
	if err != nil || len(ids) != 1 || ids[k.ID()] != n {
		t.Errorf("keys %v, kept is %v, %v", ids, k, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestRotateKeepsOldReportsVerifiable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if keys, err := TrustedKeys(dir); err != nil || len(keys) != 0 {
		t.Fatalf("before the first use: %v, %v", keys, err)
	}
	old, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	env := seal(t, sample(t), old)
	fresh, err := Rotate(dir)
	if err != nil || fresh.ID() == old.ID() {
		t.Fatalf("%v, %v", fresh, err)
	}
	if kept, err := LoadOrCreateKey(dir); err != nil || kept.ID() != fresh.ID() {
		t.Errorf("after rotation the kept key is %v, %v; want %v", kept, err, fresh)
	}
	keys, err := TrustedKeys(dir)
	if err != nil || len(keys) != 2 || keys[0].ID() != fresh.ID() {
		t.Fatalf("trusted: %v, %v", keys, err)
	}
	for _, e := range [][]byte{env, seal(t, sample(t), fresh)} {
		if _, err := Verify(e, keys); err != nil {
			t.Error(err)
		}
	}
	guest := fixedKey(t, 9)
	wantCheck(t, seal(t, sample(t), guest), keys, "key", ErrUntrustedKey)
	if err := Trust(dir, guest.Public()); err != nil {
		t.Fatal(err)
	}
	if keys, err = TrustedKeys(dir); err != nil || len(keys) != 3 {
		t.Fatalf("trusted: %v, %v", keys, err)
	}
	if _, err := Verify(seal(t, sample(t), guest), keys); err != nil {
		t.Error(err)
	}
}

func TestDamagedKeysAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{nil, text[:len(text)/2], append(bytes.Clone(text), "x"...), k.Public().PEM()} {
		if err := os.WriteFile(filepath.Join(dir, "key.pem"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), "key.pem") {
			t.Errorf("%q: %v, %v", b, got, err)
		}
		if _, err := TrustedKeys(dir); err == nil {
			t.Errorf("%q: trusted", b)
		}
		if _, err := Rotate(dir); err == nil {
			t.Errorf("%q: rotated, and the damaged key is gone", b)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "trusted"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trusted", "notes.txt"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := TrustedKeys(dir); err != nil || len(keys) != 1 {
		t.Errorf("with a file that is no key: %v, %v", keys, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trusted", "x.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := TrustedKeys(dir); err == nil || !strings.Contains(err.Error(), "x.pem") {
		t.Errorf("a private key as a trusted one: %v", err)
	}
}
