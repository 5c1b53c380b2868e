//go:build linux && (amd64 || arm64)

package linux_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/internal/victim"
	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

var _ = victim.Register(map[string]victim.Act{
	// Tells its environment, then waits.
	"environment": victim.One(func(string) error {
		b, err := os.ReadFile("/proc/self/environ")
		if err != nil {
			return err
		}
		os.Stdout.WriteString("ready\n")
		os.Stderr.Write(b)
		buf := make([]byte, 1)
		os.Stdin.Read(buf)
		return nil
	}),
	// Says what it was told to keep: as it is, and in two disguises.
	"tell": victim.One(func(name string) error {
		v := os.Getenv(name)
		fmt.Printf("plain %s\nbase64 %s\nhex %s\n", v, base64.StdEncoding.EncodeToString([]byte(v)), hex.EncodeToString([]byte(v)))
		if v == "" {
			return victim.ErrNothing
		}
		return nil
	}),
})

const leased = "k3ep-th1s-t0-yourself+and/me="

func lease(name, reference string) func(*spec.Spec) {
	return func(s *spec.Spec) {
		s.Capabilities.Environment = append(s.Capabilities.Environment, spec.EnvEntry{Name: name, Lease: reference})
	}
}

// withSecrets is the suite's supervisor with values of its own.
func withSecrets(t testing.TB, values secret.Map) *bvisor.Supervisor {
	t.Helper()
	s := another(t)
	s.Secrets = secret.NewRegistry()
	must(t, s.Secrets.Register("test", values))
	return s
}

// The host sees in /proc/PID/environ exactly what was admitted, and so does
// the workload; nothing of the supervisor's own environment is there.
func TestEnvironmentIsExact(t *testing.T) {
	t.Setenv("LEAKS", "if this is seen")
	l := start(t, t.Context(), mods{env("A", "1"), env("EMPTY", ""), env("WITH", "a=b c"), env("Z", "ü\x01")}, "environment")
	host, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", l.pid))
	must(t, err)
	const want = "A=1\x00EMPTY=\x00WITH=a=b c\x00Z=ü\x01\x00"
	if string(host) != want {
		t.Errorf("the host sees %q, expected %q", host, want)
	}
	o := l.release()
	if o.Stderr != want {
		t.Errorf("the workload sees %q, expected %q", o.Stderr, want)
	}
	o.heldBy(t, plan.Environment)
	if f := fact(o, report.EnvironmentLowered); f["variables"] != "4" || f["leases"] != "0" {
		t.Errorf("fact %v", f)
	}
	// The control: an unconfined child of this process has it.
	if self := os.Environ(); !slices.Contains(self, "LEAKS=if this is seen") {
		t.Error("control: the supervisor's own environment lacks the variable")
	}
}

// fact returns the fields of the first fact of a kind, nil when there is none.
func fact(o outcome, kind string) map[string]string {
	for _, f := range o.Report.Facts {
		if f.Kind == kind {
			m := map[string]string{}
			for _, p := range f.Fields {
				m[p.Name] = p.Value
			}
			return m
		}
	}
	return nil
}

// disguises are the forms of a value that are looked for.
func disguises(value string) [][]byte {
	return [][]byte{[]byte(value), []byte(base64.StdEncoding.EncodeToString([]byte(value))), []byte(base64.URLEncoding.EncodeToString([]byte(value))),
		[]byte(hex.EncodeToString([]byte(value))), []byte(strings.ToUpper(hex.EncodeToString([]byte(value))))}
}

// A lease's value is in the workload and nowhere else: in no file of the state
// directory and in no other process's arguments or environment.
func TestLeaseIsOnlyInTheWorkload(t *testing.T) {
	sup := withSecrets(t, secret.Map{"key": leased})
	inside := ""
	var others []string
	look := func() {
		for _, pid := range processes() {
			for _, name := range []string{"cmdline", "environ"} {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
				if err != nil {
					continue
				}
				for _, d := range disguises(leased) {
					if bytes.Contains(b, d) {
						argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
						if bytes.Contains(argv, []byte(victim.Word)) && name == "environ" {
							inside = string(b)
						} else {
							others = append(others, fmt.Sprintf("/proc/%d/%s of %q", pid, name, argv))
						}
					}
				}
			}
		}
	}
	said := &lines{to: make(chan string, 10)}
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	req := request(mods{stdin(spec.StdinInherit), lease("TOKEN", "test:key"), env("PLAIN", "x")}, "environment", token())
	req.Stdin, req.Stdout = read, said
	type answer struct {
		o   outcome
		err error
	}
	ended := make(chan answer)
	go func() {
		o, err := attemptWith(t, sup, context.Background(), req)
		ended <- answer{o, err}
	}()
	<-said.to
	look()
	write.Close()
	a := <-ended
	must(t, a.err)
	if inside != "PLAIN=x\x00TOKEN="+leased+"\x00" {
		t.Errorf("the workload's environment is %q", inside)
	}
	for _, o := range others {
		t.Errorf("the value is in %s", o)
	}
	files := 0
	must(t, filepath.WalkDir(states.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		for _, v := range disguises(leased) {
			if bytes.Contains(b, v) {
				t.Errorf("the value is in %s", path)
			}
		}
		return err
	}))
	if files < 3 {
		t.Errorf("the state directory has %d files, expected a key, an intent and a report at least", files)
	}
	r := a.o.Report
	if len(r.Leases) != 1 || r.Leases[0].Variable != "TOKEN" || r.Leases[0].Reference != "test:key" || r.Leases[0].Resolved == "" || r.Leases[0].Error != "" {
		t.Errorf("leases %+v", r.Leases)
	}
	if e := r.Plan.Resolved.Spec.Capabilities.Environment; !slices.Contains(e, spec.EnvEntry{Name: "TOKEN", Lease: "test:key"}) {
		t.Errorf("the plan's environment is %+v", e)
	}
	if f := fact(a.o, report.EnvironmentLowered); f["leases"] != "1" || f["variables"] != "2" {
		t.Errorf("fact %v", f)
	}
}

// What the workload prints of a lease's value does not come out.
func TestLeaseIsRedactedFromOutput(t *testing.T) {
	sup := withSecrets(t, secret.Map{"key": leased})
	o, err := attemptWith(t, sup, t.Context(), request(mods{lease("TOKEN", "test:key")}, "tell", "TOKEN"))
	must(t, err)
	if o.Code != 0 {
		t.Fatalf("the workload did not see the value: %d %s", o.Code, o.Stderr)
	}
	for _, d := range disguises(leased) {
		if strings.Contains(o.Stdout, string(d)) {
			t.Errorf("output holds %q", d)
		}
	}
	for _, word := range []string{"plain ", "base64 ", "hex "} { // the control: the rest is there
		if !strings.Contains(o.Stdout, word) {
			t.Errorf("output lacks %q: %q", word, o.Stdout)
		}
	}
	if fact(o, report.SecretRedacted)["stream"] != "stdout" {
		t.Errorf("no fact says that something was taken out: %+v", o.Report.Facts)
	}
	for _, s := range o.Report.Streams {
		if s.Name == "stdout" && (s.Redacted != 3 || s.SHA256 != "") {
			t.Errorf("stream %+v, expected three places and no digest of the whole", s)
		}
	}
	// The control: a literal is no secret.
	o = run(t, mods{env("TOKEN", leased)}, "tell", "TOKEN").succeeds(t)
	if !strings.Contains(o.Stdout, "plain "+leased) {
		t.Errorf("output of a literal is %q", o.Stdout)
	}
}

// A lease that does not resolve starts nothing.
func TestUnresolvedLeaseStartsNothing(t *testing.T) {
	marked := token()
	for reference, want := range map[string]string{"test:absent": "not in the map", "nosuch:thing": "scheme", "env:BVISOR_TEST_NOT_SET": "", "file:/nonexistent/file": ""} {
		sup := withSecrets(t, secret.Map{"key": leased})
		o, err := attemptWith(t, sup, t.Context(), request(mods{lease("GOOD", "test:key"), lease("TOKEN", reference)}, "hold", marked))
		must(t, err)
		r := o.Report
		if r.Outcome.Status != report.SetupFailed || !strings.Contains(r.Outcome.Reason, "environment") {
			t.Errorf("%s: %+v", reference, r.Outcome)
		}
		if f := fact(o, report.EnvironmentLoweringFailed); !strings.Contains(f["why"], want) || f["why"] == "" {
			t.Errorf("%s: fact %v, expected %q", reference, f, want)
		}
		if r.Exit != nil || r.Posture != nil || len(r.Transcript) > 0 || len(withToken(marked)) > 0 || fact(o, report.WorkloadLaunched) != nil {
			t.Errorf("%s: something was launched: %+v", reference, r)
		}
	}
}

// A name that is given twice is an error before anything is planned.
func TestDuplicateVariable(t *testing.T) {
	for name, change := range map[string]mods{
		"literals": {env("A", "1"), env("A", "2")}, "with a lease": {env("A", "1"), lease("A", "test:key")}} {
		err := refused(t, change, "hold", "x")
		if codes := problems(t, err); len(codes) != 1 {
			t.Errorf("%s: problems %v: %v", name, codes, err)
		}
	}
}
