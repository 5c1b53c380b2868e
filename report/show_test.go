package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/plan"
)

func show(t testing.TB, r *Report, opts ShowOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := Show(&b, r, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShow(t *testing.T) {
	out := show(t, sample(t), ShowOptions{})
	at := -1
	for _, want := range []string{
		"completed\n", "exit status 0", "build --all 'a b'", "linux on linux/amd64 6.18.0",
		"WEAKENED", "! host-sys: the host's /sys is visible", "! host-uts-namespace:",
		"denied: 1 seen, the list is partial (attempts on paths were judged against the plan)",
		"read /etc/machine-id, by mount-namespace, at 2026-01-02T03:04:05Z, asked 2 times, first by /usr/bin/build", "allow with --read /etc/machine-id",
		"budgets", "wall ", "30s", "1.235s", "within", "256 MiB", "12 MiB", "processes  64", "not-observed",
		"streams", "stdout  12 bytes  whole", "stderr  9 bytes   kept 4 B",
		"held by", "filesystem", "enforced", "sample-filesystem(abi=7)", "budget.memory",
		"transcript", "namespaces  done", "not-required",
		"posture", "mode 2, filters 1", "own namespaces", "mnt", "shared namespaces", "uts", "stack 8388608/unlimited",
		"facts", "workload_launched", "pid=4711", "unobserved", "API_TOKEN from env:API_TOKEN",
		"identity", "0123456789abcdef", "bvisor 0.1.0",
	} {
		i := strings.Index(out[at+1:], want)
		if i < 0 {
			t.Fatalf("no %q, or not in its place:\n%s", want, out)
		}
		at += i
	}
	brief := show(t, sample(t), ShowOptions{Brief: true})
	for _, hidden := range []string{"transcript", "posture", "wall"} {
		if strings.Contains(brief, hidden) {
			t.Errorf("brief shows %q:\n%s", hidden, brief)
		}
	}
	for _, shown := range []string{"completed", "WEAKENED", "machine-id", "processes"} {
		if !strings.Contains(brief, shown) {
			t.Errorf("brief hides %q:\n%s", shown, brief)
		}
	}
	refused := show(t, sampleRefused(t), ShowOptions{Brief: true})
	for _, want := range []string{"refused: 1 requirement", "which were not enough", "nothing was started", "network-deny-all", "user.max_user_namespaces is 0", "sysctl -w"} {
		if !strings.Contains(refused, want) {
			t.Errorf("no %q:\n%s", want, refused)
		}
	}
	if c := show(t, sample(t), ShowOptions{Color: true}); !strings.HasPrefix(c, bold+green+"completed"+reset) {
		t.Errorf("colour: %q", c[:40])
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colour without being asked")
	}
}

// TestShowIsSafe plants a hostile string in every string of a report.
func TestShowIsSafe(t *testing.T) {
	const hostile = "\x1b]0;owned\x07\u202e\u200b\n\tX\u0301\u0301\u0301\u0301\u0301\\"
	for _, r := range []*Report{sample(t), sampleRefused(t)} {
		b, err := canonical.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		quoted, err := canonical.Marshal(hostile)
		if err != nil {
			t.Fatal(err)
		}
		b = everyString(b, quoted)
		var bad Report
		if err := canonical.Unmarshal(b, &bad); err != nil {
			t.Fatal(err)
		}
		out := show(t, &bad, ShowOptions{})
		if strings.Count(out, "owned") < 20 {
			t.Fatalf("control: the planted string is hardly shown:\n%s", out)
		}
		for _, c := range out {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Fatalf("%U is printed:\n%q", c, out)
			}
		}
	}
}

// everyString replaces each string value of canonical JSON but enforcements,
// which can only be what they are. Names are followed by a colon.
func everyString(b, with []byte) []byte {
	var out []byte
	for i := 0; i < len(b); {
		if b[i] != '"' {
			out = append(out, b[i])
			i++
			continue
		}
		j := i + 1
		for b[j] != '"' {
			if b[j] == '\\' {
				j++
			}
			j++
		}
		j++
		if (j < len(b) && b[j] == ':') || string(b[i:j]) == `"enforced"` {
			out = append(out, b[i:j]...)
		} else {
			out = append(out, with...)
		}
		i = j
	}
	return out
}

func TestShowOfAnEmptyReport(t *testing.T) {
	for _, r := range []*Report{{}, {Plan: &plan.Plan{}}, {Refusal: &plan.Refusal{}}, {Posture: &Posture{}}} {
		if out := show(t, r, ShowOptions{}); out == "" {
			t.Error("nothing is shown")
		}
	}
}
