package spec

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func grants(gs ...Grant) Spec {
	return Spec{Version: 1, Workload: Workload{Command: []string{"a"}}, Capabilities: Capabilities{Filesystem: gs}}
}

func TestExpandFillsDefaults(t *testing.T) {
	s := Expand(Spec{Version: 1, Workload: Workload{Command: []string{"a"}},
		Capabilities: Capabilities{Environment: []EnvEntry{{Name: "B"}, {Name: "A"}}, FDs: []int{5, 3},
			Network: Network{Allow: []string{"b:1", "a:1", "b:1"}}},
		Controls: Controls{
			Capture:   []Capture{{Stream: "stderr"}, {Stream: "stdout", Limit: 5}},
			Temp:      []Temp{{Path: "/z"}, {Path: "/tmp"}, {Path: "/z"}},
			Artifacts: &Artifacts{Paths: []string{"/b", "/a"}}},
		Budgets:  map[Dimension]Budget{Wall: {Limit: 1}},
		Evidence: []Claim{ProcessTree, TerminalOutcome, ProcessTree},
		Accept:   []Weakening{"host-sys", "core-dumps", "host-sys"}})
	want := Spec{Version: 1, Workload: Workload{Command: []string{"a"}},
		Capabilities: Capabilities{Environment: []EnvEntry{{Name: "A"}, {Name: "B"}}, FDs: []int{3, 5}, Spawn: SpawnNone,
			Network: Network{Allow: []string{"a:1", "b:1"}}},
		Controls: Controls{
			Capture:   []Capture{{"stdout", 5}, {"stderr", DefaultCapture}},
			Stdin:     Stdin{Mode: StdinNone},
			Temp:      []Temp{{"/tmp", "rw"}, {"/z", "rw"}},
			Artifacts: &Artifacts{[]string{"/a", "/b"}, "manual", "atomic"},
			Kill:      Kill{"atomic", DefaultGrace}},
		Budgets: map[Dimension]Budget{
			Wall:    {Limit: 1, Guarantee: Enforced, Origin: FromSpec},
			Storage: {Limit: DefaultStorage, Guarantee: Enforced, Origin: FromDefault}},
		Evidence: []Claim{TerminalOutcome, ProcessTree},
		Accept:   []Weakening{"core-dumps", "host-sys"}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got\n%+v\nwant\n%+v", s, want)
	}
}

func TestExpandCapturesATerminal(t *testing.T) {
	for _, tt := range []struct {
		yaml string
		want []Capture
	}{
		{"stdin: tty", []Capture{{StreamTTY, DefaultCapture}}},
		{"{stdin: tty, capture: [tty]}", []Capture{{StreamTTY, DefaultCapture}}},
		{"{stdin: tty, capture: {tty: 7}}", []Capture{{StreamTTY, 7}}},
		{"stdin: none", nil},
	} {
		s, err := Parse("x", []byte("version: 1\nworkload: {command: [a]}\ncontrols:\n  "+tt.yaml+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := Expand(s).Controls.Capture; !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.yaml, got, tt.want)
		}
	}
}

func TestExpandKeepsTheSpecsStorageBudget(t *testing.T) {
	s := grants()
	s.Budgets = map[Dimension]Budget{Storage: {Limit: 7}}
	if got := Expand(s).Budgets[Storage]; got.Limit != 7 || got.Origin != FromSpec {
		t.Errorf("got %+v", got)
	}
}

// fromOrigin lists "access path" of the grants of one origin.
func fromOrigin(s Spec, o Origin) []string {
	var out []string
	for _, g := range s.Capabilities.Filesystem {
		if g.Origin == o {
			for _, p := range g.Paths {
				out = append(out, string(g.Access)+" "+p)
			}
		}
	}
	return out
}

func TestPresetGivesWay(t *testing.T) {
	const system Origin = "preset:system"
	for _, tt := range []struct {
		name          string
		grants        []Grant
		present, gone []string
	}{
		{"nothing of its own", nil, []string{"rx /usr", "r /etc/ssl/certs"}, nil},
		{"same path, more", []Grant{{Access: "rwx", Paths: []string{"/usr/"}}}, []string{"rx /bin"}, []string{"rx /usr"}},
		{"same path, less", []Grant{{Access: "r", Paths: []string{"/usr"}}}, []string{"rx /bin"}, []string{"rx /usr"}},
		{"same path, flat", []Grant{{Access: "r", Paths: []string{"/usr"}, NonRecursive: true}}, []string{"rx /bin"}, []string{"rx /usr"}},
		{"carve-out of the path", []Grant{{Access: "none", Paths: []string{"/usr"}}}, []string{"rx /bin"}, []string{"rx /usr"}},
		{"carve-out above", []Grant{{Access: "r", Paths: []string{"/etc"}}, {Access: "none", Paths: []string{"/etc/ssl"}}},
			[]string{"rx /usr"}, []string{"r /etc/ssl/certs", "r /etc/ssl/openssl.cnf", "r /etc/os-release"}},
		{"carve-out below", []Grant{{Access: "none", Paths: []string{"/usr/share"}}}, []string{"rx /usr"}, nil},
		{"more above", []Grant{{Access: "rwx", Paths: []string{"/"}}}, nil, []string{"rx /usr", "r /etc/os-release"}},
		{"less above", []Grant{{Access: "r", Paths: []string{"/"}}}, []string{"rx /usr"}, []string{"r /etc/os-release"}},
		{"flat above", []Grant{{Access: "rwx", Paths: []string{"/"}, NonRecursive: true}}, []string{"rx /usr", "r /etc/os-release"}, nil},
	} {
		s := grants(tt.grants...)
		s.Presets = []string{"system"}
		if err := Validate(s); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		checkExpand(t, s)
		got := fromOrigin(Expand(s), system)
		for _, p := range tt.present {
			if !slices.Contains(got, p) {
				t.Errorf("%s: %s is missing", tt.name, p)
			}
		}
		for _, p := range tt.gone {
			if slices.Contains(got, p) {
				t.Errorf("%s: %s is still there", tt.name, p)
			}
		}
	}
}

func TestPresetGivesWayToPlaces(t *testing.T) {
	s := grants()
	s.Presets = []string{"system"}
	s.Controls.Temp = []Temp{{Path: "/sbin/", Access: "rw"}}
	s.Controls.Expose = []Expose{{Source: "/srv/lib", Dest: "/lib", Access: "rx"}}
	if err := Validate(s); err != nil {
		t.Fatal(err)
	}
	checkExpand(t, s)
	got := fromOrigin(Expand(s), "preset:system")
	if slices.Contains(got, "rx /sbin") || slices.Contains(got, "rx /lib") || !slices.Contains(got, "rx /usr") {
		t.Errorf("granted %v: /sbin is private, and /lib is another directory", got)
	}
}

func TestPresetsHoldNothingOfUsers(t *testing.T) {
	never := []string{"/etc", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/hosts", "/etc/nsswitch.conf",
		"/etc/resolv.conf", "/etc/sudoers", "/etc/ssl/private", "/etc/pki/tls/private", "/home", "/root", "/var", "/run", "/proc", "/sys", "/dev", "/tmp", "/"}
	for _, p := range Presets() {
		for _, g := range p.Grants {
			if g.Origin != Origin("preset:"+p.Name) || g.Access.Write() || !g.Optional {
				t.Errorf("%s: grant %+v", p.Name, g)
			}
			for _, path := range never {
				if g.covers(path) {
					t.Errorf("%s: %v shows %s", p.Name, g.Paths, path)
				}
			}
			for _, path := range g.Paths {
				if strings.HasPrefix(path, "/var/") || strings.HasPrefix(path, "/run/") || strings.HasPrefix(path, "/home/") {
					t.Errorf("%s: shows %s", p.Name, path)
				}
			}
		}
	}
}

func TestDefault(t *testing.T) {
	for _, tt := range []struct{ cwd, grant, temp string }{
		{"/home/u/p", "rx /home/u/p", "/tmp"},
		{"/", "", "/tmp"},
		{"/tmp", "rx /tmp", "/var/tmp"},
		{"/tmp/x", "rx /tmp/x", "/tmp"},
		{"/usr", "rx /usr", "/tmp"},
	} {
		s := Default(tt.cwd, []string{"a"}, EnvEntry{Name: "TERM", Value: "dumb"}, EnvEntry{Name: "LANG", Value: "C"})
		if err := Validate(s); err != nil {
			t.Errorf("%s: %v", tt.cwd, err)
		}
		checkExpand(t, s)
		if got := strings.Join(fromOrigin(s, FromDefault), ","); got != tt.grant {
			t.Errorf("%s: granted %q, want %q", tt.cwd, got, tt.grant)
		}
		if got := s.Controls.Temp[0].Path; got != tt.temp {
			t.Errorf("%s: private directory %s, want %s", tt.cwd, got, tt.temp)
		}
		var env []string
		for _, e := range s.Capabilities.Environment {
			env = append(env, e.Name+"="+e.Value)
		}
		if got, want := strings.Join(env, " "), "HOME="+tt.temp+" LANG=C PATH=/usr/local/bin:/usr/bin:/bin TERM=dumb TMPDIR="+tt.temp; got != want {
			t.Errorf("%s: environment %s, want %s", tt.cwd, got, want)
		}
	}
}

// A flag over the working directory is no contradiction to the default.
func TestDefaultGivesWay(t *testing.T) {
	s := Default("/w", []string{"a"})
	s.Capabilities.Filesystem = append(s.Capabilities.Filesystem,
		Grant{Access: "rw", Paths: []string{"/w"}, Origin: FromSpec}, Grant{Access: "none", Paths: []string{"/w/.git"}, Origin: FromSpec})
	if err := Validate(s); err != nil {
		t.Fatal(err)
	}
	checkExpand(t, s)
	if got := fromOrigin(Expand(s), FromDefault); len(got) != 0 {
		t.Errorf("the default is still there: %v", got)
	}
}

func TestCarveOutOfTheDefaultIsRefused(t *testing.T) {
	s := Default("/w", []string{"a"})
	s.Capabilities.Filesystem = append(s.Capabilities.Filesystem, Grant{Access: "none", Paths: []string{"/w"}, Origin: FromSpec})
	var e *Error
	if err := Validate(s); !errors.As(err, &e) || e.Problems[0].Code != CodeContradiction {
		t.Errorf("got %v", err)
	}
}

func TestRebase(t *testing.T) {
	s := Spec{
		Workload: Workload{Command: []string{"./bin/a", "./x"}, Dir: ".", Wasm: "m/../n.wasm"},
		Capabilities: Capabilities{Filesystem: []Grant{
			{Access: "r", Paths: []string{".", "../x/", "/abs//y/../z"}}}},
		Controls: Controls{Stdin: Stdin{StdinFile, "in"}, Temp: []Temp{{Path: "/tmp/"}},
			Expose: []Expose{{Source: "d", Dest: "/d//e"}}, Artifacts: &Artifacts{Paths: []string{"out"}}},
	}
	want := Spec{
		Workload: Workload{Command: []string{"/b/c/bin/a", "./x"}, Dir: "/b/c", Wasm: "/b/c/n.wasm"},
		Capabilities: Capabilities{Filesystem: []Grant{
			{Access: "r", Paths: []string{"/b/c", "/b/x", "/abs/z"}}}},
		Controls: Controls{Stdin: Stdin{StdinFile, "/b/c/in"}, Temp: []Temp{{Path: "/tmp"}},
			Expose: []Expose{{Source: "/b/c/d", Dest: "/d/e"}}, Artifacts: &Artifacts{Paths: []string{"/b/c/out"}}},
	}
	got := s.Rebase("/b/c")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if s.Workload.Command[0] != "./bin/a" || s.Capabilities.Filesystem[0].Paths[0] != "." || s.Controls.Artifacts.Paths[0] != "out" {
		t.Error("Rebase changed its receiver")
	}
	if again := got.Rebase("/other"); !reflect.DeepEqual(again, got) {
		t.Error("an absolute spec moved")
	}
	empty := Spec{Workload: Workload{Command: []string{"make"}}}
	if r := empty.Rebase("/b"); r.Workload.Command[0] != "make" || r.Workload.Dir != "" || r.Workload.Wasm != "" || r.Controls.Stdin.File != "" {
		t.Errorf("got %+v", r)
	}
}

// Hand-made specs skip the decoder; Validate must not rely on it.
func TestValidateOfHandMadeSpecs(t *testing.T) {
	base := func(change func(*Spec)) Spec {
		s := grants(Grant{Access: "r", Paths: []string{"/a"}})
		change(&s)
		return s
	}
	for _, tt := range []struct {
		field string
		s     Spec
	}{
		{"version", base(func(s *Spec) { s.Version = 0 })},
		{"workload", base(func(s *Spec) { s.Workload = Workload{} })},
		{"workload.command[1]", base(func(s *Spec) { s.Workload.Command = []string{"a", "b\x00"} })},
		{"workload.dir", base(func(s *Spec) { s.Workload.Dir = "a\x00b" })},
		{"presets[0]", base(func(s *Spec) { s.Presets = []string{"all"} })},
		{"capabilities.filesystem[0].access", base(func(s *Spec) { s.Capabilities.Filesystem[0].Access = "xr" })},
		{"capabilities.filesystem[0].access", base(func(s *Spec) { s.Capabilities.Filesystem[0].Access = "" })},
		{"capabilities.filesystem[0].paths", base(func(s *Spec) { s.Capabilities.Filesystem[0].Paths = nil })},
		{"capabilities.filesystem[0].paths[0]", base(func(s *Spec) { s.Capabilities.Filesystem[0].Paths[0] = "" })},
		{"capabilities.network.allow[0]", base(func(s *Spec) { s.Capabilities.Network.Allow = []string{"A.example:1"} })},
		{"capabilities.network", base(func(s *Spec) { s.Capabilities.Network = Network{Allow: []string{"a.example:1"}, Loopback: true} })},
		{"capabilities.environment.A", base(func(s *Spec) { s.Capabilities.Environment = []EnvEntry{{Name: "A"}, {Name: "A"}} })},
		{`capabilities.environment["A=B"]`, base(func(s *Spec) { s.Capabilities.Environment = []EnvEntry{{Name: "A=B"}} })},
		{"capabilities.environment.A", base(func(s *Spec) { s.Capabilities.Environment = []EnvEntry{{Name: "A", Value: "\x00"}} })},
		{"capabilities.environment.A", base(func(s *Spec) { s.Capabilities.Environment = []EnvEntry{{Name: "A", Value: "v", Lease: "env:A"}} })},
		{"capabilities.environment.A", base(func(s *Spec) { s.Capabilities.Environment = []EnvEntry{{Name: "A", Lease: "A"}} })},
		{"capabilities.spawn", base(func(s *Spec) { s.Capabilities.Spawn = "all" })},
		{"capabilities.fds[0]", base(func(s *Spec) { s.Capabilities.FDs = []int{0} })},
		{"controls.capture[0]", base(func(s *Spec) { s.Controls.Capture = []Capture{{"stdin", 1}} })},
		{"controls.capture[0]", base(func(s *Spec) { s.Controls.Capture = []Capture{{"stdout", -1}} })},
		{"controls.stdin", base(func(s *Spec) { s.Controls.Stdin.Mode = "all" })},
		{"controls.stdin", base(func(s *Spec) { s.Controls.Stdin.File = "x" })},
		{"controls.stdin.file", base(func(s *Spec) { s.Controls.Stdin.Mode = StdinFile })},
		{"controls.temp[0].path", base(func(s *Spec) { s.Controls.Temp = []Temp{{Path: "/proc"}} })},
		{"controls.temp[0].access", base(func(s *Spec) { s.Controls.Temp = []Temp{{Path: "/t", Access: "none"}} })},
		{"controls.expose[0].source", base(func(s *Spec) { s.Controls.Expose = []Expose{{Dest: "/d", Access: "r"}} })},
		{"controls.artifacts.paths", base(func(s *Spec) { s.Controls.Artifacts = &Artifacts{} })},
		{"controls.artifacts.commit", base(func(s *Spec) { s.Controls.Artifacts = &Artifacts{Paths: []string{"/o"}, Commit: "x"} })},
		{"controls.kill.tree", base(func(s *Spec) { s.Controls.Kill.Tree = "x" })},
		{"controls.kill.grace", base(func(s *Spec) { s.Controls.Kill.Grace = -1 })},
		{"budgets.ram", base(func(s *Spec) { s.Budgets = map[Dimension]Budget{"ram": {Limit: 1}} })},
		{"budgets.wall", base(func(s *Spec) { s.Budgets = map[Dimension]Budget{Wall: {}} })},
		{"budgets.wall", base(func(s *Spec) { s.Budgets = map[Dimension]Budget{Wall: {Limit: MaxLimit + 1}} })},
		{"budgets.wall", base(func(s *Spec) { s.Budgets = map[Dimension]Budget{Wall: {Limit: 1, Guarantee: 7}} })},
		{"budgets.wall.evidence[0]", base(func(s *Spec) { s.Budgets = map[Dimension]Budget{Wall: {Limit: 1, Evidence: []Claim{"x"}}} })},
		{"evidence[0]", base(func(s *Spec) { s.Evidence = []Claim{"x"} })},
		{"accept[0]", base(func(s *Spec) { s.Accept = []Weakening{"x"} })},
	} {
		var e *Error
		if err := Validate(tt.s); !errors.As(err, &e) || len(e.Problems) != 1 || e.Problems[0].Field != tt.field || e.Problems[0].Line != 0 {
			t.Errorf("want one problem of %s, got %v", tt.field, err)
		}
	}
	if err := Validate(base(func(*Spec) {})); err != nil {
		t.Errorf("control: %v", err)
	}
}
