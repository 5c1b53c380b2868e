package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mathrand "math/rand/v2"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/ledger"
)

// A run whose writes are held back, and committed when it succeeds, is killed at
// any moment: after recovery either nothing is left of it, or it is held back
// whole, or it is in place whole, as the ledger says.
func TestKilledWithHeldWrites(t *testing.T) {
	needsConfine(t)
	if err := canHoldBack(); err != nil {
		need.Missing(t, "overlay", err.Error())
	}
	const files = 50
	h := newHome(t)
	out := filepath.Join(h.dir, "out")
	log, err := ledger.OpenDir(filepath.Join(h.state, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	names := func(dir string) (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	var whole time.Duration
	ends := map[string]int{}
	for round := range need.Rounds(t, 30, 100) {
		before, err := log.Len()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		token := fmt.Sprintf("token%d", mathrand.Uint64())
		cmd := h.command("run", "--quiet", "--quarantine", "out", "--commit", "on-success", "--", "/bin/sh", "-c",
			fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i >out/$i; i=$((i+1)); done", files), token)
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if whole > 0 {
			time.Sleep(mathrand.N(whole)) // the moment
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); whole == 0 {
			if err != nil {
				t.Fatal(err)
			}
			whole = time.Since(began)
		}
		what := fmt.Sprintf("round %d", round)
		said := h.recover(what)
		eventuallyGone(t, what, token)

		attempt, has, phase := "", map[ledger.Kind]int{}, ""
		for e, read := range log.Walk(before) {
			if attempt = e.Attempt; e.Kind == ledger.Disposition {
				body, err := read()
				if err != nil {
					t.Fatal(err)
				}
				_, phase, _ = strings.Cut(string(body), `"phase":"`)
				phase, _, _ = strings.Cut(phase, `"`)
			}
			has[e.Kind]++
		}
		there, held := names(out), names(filepath.Join(h.state, "quarantine", attempt))
		if attempt == "" {
			held = nil
		}
		end := ""
		switch {
		case has[ledger.Report] == 0 && len(there) == 0 && len(held) == 0:
			end = "nothing is left"
		case has[ledger.Report] == 1 && phase == "" && len(there) == 0 && len(held) == 2:
			end = "held back"
		case has[ledger.Report] == 1 && phase == "applied" && has[ledger.Disposition] == 2 && len(there) == files && len(held) == 1:
			end = "in place"
		default:
			t.Fatalf("%s: the ledger has %v, %q; the host has %d files, and %q is held; recovery said %q", what, has, phase, len(there), held, said)
		}
		if n := has[ledger.Report] + has[ledger.Recovery]; n != has[ledger.Intent] {
			t.Fatalf("%s: the ledger has %v", what, has)
		}
		if strings.Contains(said, "finished") {
			end += ", by recovery"
		}
		ends[end]++
	}
	if out, err := h.command("ledger", "verify").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for end, n := range ends {
		t.Logf("%s: %d times", end, n)
	}
}
