package spec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// accepted are specs that Parse takes, and what it makes of them.
var accepted = []struct {
	name, in string
	want     Spec
}{
	{"least", "version: 1\nworkload: {command: [a]}", Spec{Version: 1, Workload: Workload{Command: []string{"a"}}}},
	{"wasm", "version: 1\nworkload: {wasm: m.wasm, args: ['1', \"no\"], dir: /d}",
		Spec{Version: 1, Workload: Workload{Wasm: "m.wasm", Args: []string{"1", "no"}, Dir: "/d"}}},
	{"loopback", "version: 1\nworkload: {command: [a]}\ncapabilities: {network: loopback}",
		Spec{Version: 1, Workload: Workload{Command: []string{"a"}}, Capabilities: Capabilities{Network: Network{Loopback: true}}}},
	{"json", "{\"version\": 1,\n\t\"workload\": {\"command\": [\"\\u0061\\/\"]}}",
		Spec{Version: 1, Workload: Workload{Command: []string{"a/"}}}},
	{"everything", `
version: 1
workload: {command: [make, -j4, "010"], dir: .}
presets: [system]
capabilities:
  filesystem:
    - {access: xr, paths: [/opt/tool]}
    - {access: rwx, paths: [., ../x], recursive: false, optional: true}
    - {access: none, paths: [/opt/tool/a b]}
  network: {allow: ["API.Example.com:443", "10.0.0.0/8:5432/tcp", "*.Bücher.example:443", "[2001:DB8::0]:80", "[::/0]:1"]}
  environment:
    Z: ""
    A: {lease: "env:X"}
  spawn: threads
  fds: [9, 3]
controls:
  capture: {stderr: 4kB, stdout: 7}
  stdin: {file: in.txt}
  temp: [/tmp, {path: /var/tmp, access: xwr}, {path: /t}]
  expose: [{source: data, dest: /data, access: r}]
  artifacts: {paths: [out], commit: on-success, durability: durable}
  kill: {tree: atomic, grace: 1.5s}
budgets:
  wall: 1h30m
  memory: {limit: 256MiB, guarantee: mediated, evidence: [resource-usage]}
  processes: 64
  storage: 1000
evidence: [process-tree, terminal-outcome]
accept: [core-dumps]
`, Spec{
		Version:  1,
		Workload: Workload{Command: []string{"make", "-j4", "010"}, Dir: "."},
		Presets:  []string{"system"},
		Capabilities: Capabilities{
			Filesystem: []Grant{
				{Access: "rx", Paths: []string{"/opt/tool"}, Origin: FromSpec},
				{Access: "rwx", Paths: []string{".", "../x"}, NonRecursive: true, Optional: true, Origin: FromSpec},
				{Access: "none", Paths: []string{"/opt/tool/a b"}, Origin: FromSpec},
			},
			Network: Network{Allow: []string{"api.example.com:443", "10.0.0.0/8:5432/tcp", "*.xn--bcher-kva.example:443",
				"[2001:db8::]:80", "[::/0]:1"}},
			Environment: []EnvEntry{{Name: "A", Lease: "env:X"}, {Name: "Z"}},
			Spawn:       SpawnThreads,
			FDs:         []int{3, 9},
		},
		Controls: Controls{
			Capture:   []Capture{{"stderr", 4000}, {"stdout", 7}},
			Stdin:     Stdin{StdinFile, "in.txt"},
			Temp:      []Temp{{"/tmp", "rw"}, {"/var/tmp", "rwx"}, {"/t", "rw"}},
			Expose:    []Expose{{"data", "/data", "r"}},
			Artifacts: &Artifacts{[]string{"out"}, "on-success", "durable"},
			Kill:      Kill{"atomic", 1500 * time.Millisecond},
		},
		Budgets: map[Dimension]Budget{
			Wall:      {Limit: int64(90 * time.Minute), Guarantee: Enforced, Origin: FromSpec},
			Memory:    {Limit: 256 << 20, Guarantee: Mediated, Evidence: []Claim{ResourceUsage}, Origin: FromSpec},
			Processes: {Limit: 64, Guarantee: Enforced, Origin: FromSpec},
			Storage:   {Limit: 1000, Guarantee: Enforced, Origin: FromSpec},
		},
		Evidence: []Claim{ProcessTree, TerminalOutcome},
		Accept:   []Weakening{"core-dumps"},
	}},
	{"closed words", "version: 1\nworkload: {command: [a]}\ncapabilities: {network: none, spawn: none, fds: [], filesystem: []}\ncontrols: {stdin: none, capture: [], temp: []}",
		Spec{Version: 1, Workload: Workload{Command: []string{"a"}}, Capabilities: Capabilities{Spawn: SpawnNone}, Controls: Controls{Stdin: Stdin{Mode: StdinNone}}}},
	{"carve-out in a preset", "version: 1\nworkload: {command: [a]}\npresets: [system]\ncapabilities: {filesystem: [{access: none, paths: [/usr/share/doc]}]}",
		Spec{Version: 1, Workload: Workload{Command: []string{"a"}}, Presets: []string{"system"},
			Capabilities: Capabilities{Filesystem: []Grant{{Access: "none", Paths: []string{"/usr/share/doc"}, Origin: FromSpec}}}}},
	{"same grant twice", "version: 1\nworkload: {command: [a]}\ncapabilities: {filesystem: [{access: r, paths: [/a, /a/]}]}",
		Spec{Version: 1, Workload: Workload{Command: []string{"a"}},
			Capabilities: Capabilities{Filesystem: []Grant{{Access: "r", Paths: []string{"/a", "/a/"}, Origin: FromSpec}}}}},
}

func TestParseAccepts(t *testing.T) {
	for _, tt := range accepted {
		got, err := Parse("x.yaml", []byte(tt.in))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", tt.name, got, tt.want)
		}
	}
}

// asJSON is a YAML document as JSON, made by other code than ours.
func asJSON(tb testing.TB, in []byte) []byte {
	tb.Helper()
	var v any
	if err := yaml.Load(in, &v); err != nil {
		tb.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestJSONAndYAMLAgree(t *testing.T) {
	for _, tt := range append(accepted, struct {
		name, in string
		want     Spec
	}{name: "example", in: string(Example())}) {
		fromYAML, err := Parse("x.yaml", []byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		j := asJSON(t, []byte(tt.in))
		fromJSON, err := Parse("x.json", j)
		if err != nil {
			t.Errorf("%s: %v\n%s", tt.name, err, j)
			continue
		}
		// Maps lose their order in JSON; only captured streams keep it.
		if !reflect.DeepEqual(Expand(fromYAML), Expand(fromJSON)) {
			t.Errorf("%s: YAML gives\n%+v\nJSON gives\n%+v", tt.name, fromYAML, fromJSON)
		}
	}
}

func TestTooManyEnvironmentEntries(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("version: 1\nworkload: {command: [a]}\ncapabilities:\n  environment:\n")
	for i := range MaxEnvEntries + 1 {
		b.WriteString("    V" + strings.Repeat("x", i) + ": v\n")
	}
	wantRefusal(t, b.String(), CodeLimit, "257 variables, expected at most 256")
}

func TestTooLargeEnvironment(t *testing.T) {
	in := "version: 1\nworkload: {command: [a]}\ncapabilities: {environment: {A: " + strings.Repeat("x", MaxEnvBytes-3) + "}}"
	if _, err := Parse("x", []byte(in)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	wantRefusal(t, strings.Replace(in, "A: x", "A: xx", 1), CodeLimit, "the environment has 131073 bytes, expected at most 131072")
}

func TestTooManyArgumentBytes(t *testing.T) {
	in := "version: 1\nworkload: {command: [a, " + strings.Repeat("x", MaxArgBytes-3) + "]}"
	if _, err := Parse("x", []byte(in)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	wantRefusal(t, strings.Replace(in, ", x", ", xx", 1), CodeLimit, "the arguments have 131073 bytes, expected at most 131072")
}

func TestPathsAreBounded(t *testing.T) {
	wantRefusal(t, "version: 1\nworkload: {command: [a], dir: "+strings.Repeat("/", MaxPath+1)+"}", CodeLimit, "path has 4096 bytes, expected at most 4095")
}

func TestProblemsAreBounded(t *testing.T) {
	_, err := Parse("x", []byte("version: 1\nworkload: {command: [a]}\nevidence: ["+strings.Repeat("x, ", 5000)+"]"))
	e, ok := err.(*Error)
	if !ok || len(e.Problems) != 101 || e.Problems[100].Code != CodeTooMany {
		t.Fatalf("got %d problems, want 100 and the note that there are more", len(e.Problems))
	}
}

func wantRefusal(t *testing.T, in, code, message string) {
	t.Helper()
	_, err := Parse("x", []byte(in))
	e, ok := err.(*Error)
	if !ok || len(e.Problems) != 1 || e.Problems[0].Code != code || e.Problems[0].Message != message {
		t.Errorf("got %v, want one problem %s: %s", err, code, message)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range accepted {
		f.Add([]byte(tt.in))
	}
	f.Add(Example())
	corpus(f, func(_ string, data []byte, _ *section) {
		if len(data)%7 == 0 { // a seventh of the refused ones is variety enough
			f.Add(data)
		}
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := Parse("x", in)
		if err != nil {
			e, ok := err.(*Error)
			if !ok || len(e.Problems) == 0 || strings.Count(err.Error(), "\n") != len(e.Problems)-1 {
				t.Fatalf("not one line per problem: %q", err)
			}
			return
		}
		if err := Validate(s); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
		checkExpand(t, s)
		checkExpand(t, s.Rebase("/base/dir"))
	})
}

// checkExpand checks what must hold of Expand for every valid spec.
func checkExpand(t *testing.T, s Spec) {
	t.Helper()
	if Validate(s) != nil {
		return // Rebase made two paths comparable that contradict each other
	}
	before, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	once := Expand(s)
	if err := Validate(once); err != nil {
		t.Fatalf("expanded, but not valid: %v", err)
	}
	if twice := Expand(once); !reflect.DeepEqual(once, twice) {
		t.Fatalf("expanding twice differs:\n%+v\n%+v", once, twice)
	}
	if after, _ := json.Marshal(s); !bytes.Equal(before, after) {
		t.Fatalf("Expand changed its argument:\n%s\n%s", before, after)
	}
}
