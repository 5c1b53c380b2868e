package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const least = "version: 1\nworkload: {command: [a]}\n"

// minimal is a spec with more lines of YAML.
func minimal(t *testing.T, more string) Spec {
	t.Helper()
	s, err := Parse("x", []byte(least+more))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lines(list []Difference) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

func files(list string) string { return "capabilities: {filesystem: [" + list + "]}" }

// differing are pairs of specs, by what they say beyond the least.
var differing = []struct {
	name, a, b string
	want       []string
}{
	{"nothing", "", "", nil},
	{"words for what is closed anyway", "", "capabilities: {network: none, spawn: none, fds: []}\ncontrols: {stdin: none, kill: {grace: 0.5s}}\nbudgets: {storage: 1GiB}", nil},
	{"order and repetition", files("{access: r, paths: [/a, /b]}"), files("{access: r, paths: [/b/]}, {access: r, paths: [/a]}, {access: r, paths: [/a/../a]}"), nil},

	{"grant", "", files("{access: rw, paths: [/a]}"), []string{"+ capabilities.filesystem: /a may be read and written"}},
	{"lost grant", files("{access: rwx, paths: [/a]}"), "", []string{"- capabilities.filesystem: /a may no longer be read, written or executed"}},
	{"write added", files("{access: r, paths: [/a]}"), files("{access: rw, paths: [/a]}"), []string{"+ capabilities.filesystem: /a may be written"}},
	{"grant inside a wider one", files("{access: rw, paths: [/a]}"), files("{access: rw, paths: [/a, /a/b]}, {access: r, paths: [/a/c]}"),
		[]string{"- capabilities.filesystem: /a/c may no longer be written"}},
	{"relative path", files("{access: r, paths: [.]}"), files("{access: r, paths: [., /base/dir/x, ../y]}"), []string{"+ capabilities.filesystem: /base/y may be read"}},
	{"lost carve-out", files("{access: r, paths: [/a]}, {access: none, paths: [/a/b]}"), files("{access: r, paths: [/a]}"), []string{"+ capabilities.filesystem: /a/b may be read"}},
	{"grant around another", files("{access: r, paths: [/a/b]}"), files("{access: r, paths: [/a]}"), []string{"+ capabilities.filesystem: /a may be read, with /a/b as before"}},
	{"less of a tree", files("{access: r, paths: [/a]}"), files("{access: r, paths: [/a/b]}"), []string{"- capabilities.filesystem: /a may no longer be read, with /a/b as before"}},
	{"recursive", files("{access: r, paths: [/a], recursive: false}"), files("{access: r, paths: [/a]}"),
		[]string{"+ capabilities.filesystem: /a (what lies deeper than directly in it) may be read"}},
	{"flat grant around a directory", files("{access: r, paths: [/a], recursive: false}"), files("{access: r, paths: [/a/b]}"), []string{
		"- capabilities.filesystem: /a (without what lies deeper than directly in it) may no longer be read, with /a/b (itself) as before",
		"+ capabilities.filesystem: /a/b (what lies in it) may be read"}},
	{"everything is not the boundary's own", files("{access: r, paths: [/]}"), files("{access: r, paths: [/, /dev/sda]}"), []string{"+ capabilities.filesystem: /dev/sda may be read"}},
	{"need not exist", files("{access: r, paths: [/a]}"), files("{access: r, paths: [/a], optional: true}"), []string{"+ capabilities.filesystem: /a may be absent"}},
	{"name that says something", "", files(`{access: r, paths: ["/a may be read\n- /b"]}`), []string{`+ capabilities.filesystem: "/a may be read\n- /b" may be read`}},
	{"preset written out", "presets: [system]", files("{access: r, paths: [/etc/alternatives, /etc/crypto-policies, /etc/ld.so.cache, /etc/localtime, /etc/os-release, /etc/pki, /etc/ssl], optional: true}, {access: rx, paths: [/usr, /bin, /sbin, /lib, /lib32, /lib64], optional: true}"), []string{
		"+ capabilities.filesystem: /etc/pki may be read, with /etc/pki/ca-trust/extracted, /etc/pki/tls/certs as before",
		"+ capabilities.filesystem: /etc/ssl may be read, with /etc/ssl/certs, /etc/ssl/openssl.cnf as before",
		"- capabilities.filesystem: /libx32 may no longer be read or executed (preset:system)"}},

	{"private directory", "", "controls: {temp: [/t, {path: /x, access: rwx}]}", []string{
		"+ controls.temp: /t as a private directory may be read and written",
		"+ controls.temp: /x as a private directory may be read, written and executed"}},
	{"what a private directory hid", files("{access: rw, paths: [/a]}") + "\ncontrols: {temp: [/a/t]}", files("{access: rw, paths: [/a]}"), []string{
		"+ capabilities.filesystem: /a/t may be read and written",
		"- controls.temp: /a/t as a private directory may no longer be read or written"}},
	{"exposed path", files("{access: r, paths: [/d]}"), files("{access: r, paths: [/d]}") + "\ncontrols: {expose: [{source: /d, dest: /e, access: r}]}", []string{
		"+ controls.expose: /e showing /d may be read"}},
	{"another exposed path", "controls: {expose: [{source: /c, dest: /e, access: r}]}", "controls: {expose: [{source: /d, dest: /e, access: r}]}", []string{
		"+ controls.expose: /e showing /d may be read", "- controls.expose: /e showing /c may no longer be read"}},

	{"network", "", `capabilities: {network: {allow: ["a.example:443"]}}`, []string{"+ capabilities.network.allow: a.example:443 may be reached"}},
	{"network inside", `capabilities: {network: {allow: ["10.0.0.0/8:1", "*.example:443"]}}`, `capabilities: {network: {allow: ["10.1.0.0/16:1", "a.example:443", "10.1.0.1:2"]}}`, []string{
		"- capabilities.network.allow: *.example:443 may no longer be reached",
		"- capabilities.network.allow: 10.0.0.0/8:1 may no longer be reached",
		"+ capabilities.network.allow: 10.1.0.1:2 may be reached"}},
	{"network around another rule", "", `capabilities: {network: {allow: ["10.0.0.0/24:1", "10.0.0.1:1", "10.0.0.2/31:1", "a.example:1", "*.example:1"]}}`, []string{
		"+ capabilities.network.allow: *.example:1 may be reached", "+ capabilities.network.allow: 10.0.0.0/24:1 may be reached"}},
	{"network in parts", `capabilities: {network: {allow: ["[2001:db8::]:1", "[2001:db8::1/128]:1", "10.0.0.0/25:1", "10.0.0.128/26:1", "10.0.0.192/26:1"]}}`,
		`capabilities: {network: {allow: ["[2001:db8::/127]:1", "10.0.0.0/24:1"]}}`, nil},

	{"environment", "capabilities: {environment: {A: a, B: b}}", `capabilities: {environment: {A: c, T: {lease: "env:T"}}}`, []string{
		`+ capabilities.environment: A is set to "c"`, `- capabilities.environment: A is no longer set to "a"`,
		`- capabilities.environment: B is no longer set to "b"`, `+ capabilities.environment: T is set to the secret "env:T"`}},
	{"spawn", "", "capabilities: {spawn: threads}", []string{"+ capabilities.spawn: threads, was none"}},
	{"descriptors", "capabilities: {fds: [3, 4]}", "capabilities: {fds: [4, 5]}", []string{"- capabilities.fds: 3 is no longer handed over", "+ capabilities.fds: 5 is handed over"}},
	{"capture", "controls: {capture: {stderr: 2MiB}}", "controls: {capture: [stdout, stderr]}", []string{
		"- controls.capture: stderr is relayed and 1MiB of it kept", "+ controls.capture: stdout is relayed and 1MiB of it kept"}},
	{"stdin", "controls: {stdin: inherit}", "controls: {stdin: {file: in}}", []string{"+ controls.stdin: is /base/dir/in", "- controls.stdin: is no longer the caller's own"}},
	{"artifacts", "", "controls: {artifacts: {paths: [out], commit: never}}", []string{"- controls.artifacts.paths: /base/dir/out writes are held back"}},
	{"less held back", "controls: {artifacts: {paths: [out], commit: manual, durability: durable}}", "controls: {artifacts: {paths: [out/a], commit: on-success}}", []string{
		"+ controls.artifacts.commit: on-success, was manual", "+ controls.artifacts.durability: atomic, was durable",
		"+ controls.artifacts.paths: /base/dir/out writes are no longer held back"}},
	{"kill", "", "controls: {kill: {grace: 2s}}", []string{"+ controls.kill.grace: 2s, was 500ms"}},

	{"budgets", "budgets: {wall: 1m, cpu: 5s, memory: 1GiB, processes: 4}", "budgets: {wall: 90s, memory: 1000, output: 1kB, processes: 4}", []string{
		"+ budgets.wall: 1m30s, was 1m0s", "+ budgets.cpu: no limit, was 5s", "- budgets.memory: 1000B, was 1GiB", "- budgets.output: 1000B, was no limit"}},
	{"default budget", "", "budgets: {storage: 2GiB}", []string{"+ budgets.storage: 2GiB, was 1GiB"}},
	{"what a budget must hold", "budgets: {memory: {limit: 1, evidence: [resource-usage]}}", "budgets: {memory: {limit: 1, guarantee: mediated}}", []string{
		"+ budgets.memory.guarantee: mediated, was enforced", "+ budgets.memory.evidence: resource-usage is no longer demanded"}},
	{"evidence", "evidence: [process-tree]", "evidence: [terminal-outcome]", []string{"+ evidence: process-tree is no longer demanded", "- evidence: terminal-outcome is demanded"}},
	{"weakening", "", "accept: [host-sys]", []string{"+ accept: host-sys is accepted: the host's /sys is visible"}},
	{"weakening without private memory", "", "accept: [visible-host-paths]", []string{"+ budgets.storage: no limit, was 1GiB",
		"+ accept: visible-host-paths is accepted: " + Weakenings["visible-host-paths"]}},
}

func TestDiff(t *testing.T) {
	for _, tt := range differing {
		got := strings.TrimSuffix(lines(Diff(minimal(t, tt.a), minimal(t, tt.b), "/base/dir")), "\n")
		if want := strings.Join(tt.want, "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}

func TestDiffOfTheWorkload(t *testing.T) {
	a := Spec{Version: 1, Workload: Workload{Command: []string{"make", "-j 4"}}}
	b := Spec{Version: 1, Workload: Workload{Wasm: "x.wasm", Args: []string{"y"}, Dir: "d"}}
	want := `~ workload.command: none, was ["make" "-j 4"]
~ workload.dir: "/base/d", was "/"
~ workload.wasm: "/base/x.wasm", was none
~ workload.args: ["y"], was none
`
	if got := lines(Diff(a, b, "/base")); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// full is a spec in which nothing is left out.
var full = Spec{
	Version:  1,
	Workload: Workload{Command: []string{"a"}, Dir: "/d", Wasm: "/w", Args: []string{"b"}},
	Presets:  []string{"system"},
	Capabilities: Capabilities{
		Filesystem:  []Grant{{Access: "r", Paths: []string{"/a"}, NonRecursive: true, Optional: true, Origin: FromSpec}},
		Network:     Network{Allow: []string{"a.example:443"}, Loopback: true},
		Environment: []EnvEntry{{Name: "A", Value: "a"}, {Name: "L", Lease: "env:L"}},
		Spawn:       SpawnThreads,
		FDs:         []int{3},
		Clock:       ClockFixed,
		Random:      RandomSeeded,
	},
	Controls: Controls{
		Capture:   []Capture{{"stdout", 5}},
		Stdin:     Stdin{StdinFile, "/in"},
		Temp:      []Temp{{"/t", "rw"}},
		Expose:    []Expose{{"/data", "/e", "r"}},
		Artifacts: &Artifacts{[]string{"/out"}, "manual", "atomic"},
		Kill:      Kill{"atomic", time.Second},
	},
	Budgets:  map[Dimension]Budget{CPU: {5, Mediated, []Claim{ResourceUsage}, FromSpec, 500}},
	Evidence: []Claim{ProcessTree},
	Accept:   []Weakening{"host-sys"},
}

// There is no field that Diff does not look at: each one, changed alone, makes
// a difference, and each list does when it is emptied. What only says where
// something came from does not count.
func TestDiffKnowsEveryField(t *testing.T) {
	changed := 0
	visit(t, reflect.ValueOf(full), "", func(path string, other reflect.Value, with func(reflect.Value) reflect.Value) {
		b := with(other).Interface().(Spec)
		changed++
		if len(Diff(full, b, "/")) == 0 || len(Diff(b, full, "/")) == 0 {
			t.Errorf("%s is %#v in one spec and differs in the other, and Diff says nothing", path, other.Interface())
		}
	})
	if changed < 50 {
		t.Errorf("only %d fields were changed", changed)
	}
}

// visit calls do for every value in v with another value of its type, and with
// a function that puts a value in its place in a copy of the whole.
func visit(t *testing.T, v reflect.Value, path string, do func(string, reflect.Value, func(reflect.Value) reflect.Value)) {
	same := func(v reflect.Value) reflect.Value { return v }
	var walk func(v reflect.Value, path string, whole func(reflect.Value) reflect.Value)
	walk = func(v reflect.Value, path string, whole func(reflect.Value) reflect.Value) {
		into := func(set func(place reflect.Value, inner reflect.Value)) func(reflect.Value) reflect.Value {
			return func(inner reflect.Value) reflect.Value {
				place := deepCopy(v)
				set(place, inner)
				return whole(place)
			}
		}
		other := reflect.New(v.Type()).Elem()
		switch {
		case v.Type() == reflect.TypeFor[Origin]():
			return
		case v.Type() == reflect.TypeFor[Access]():
			other.SetString("rwx")
			if v.String() == "rwx" {
				other.SetString("rw")
			}
			do(path, other, whole)
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				exclusive := v.Type() == reflect.TypeFor[EnvEntry]() && v.Field(i).IsZero() // a value or a lease
				if v.Field(i).IsZero() && !exclusive {
					t.Errorf("%s.%s is empty: give it a value in full", path, f.Name)
				}
				walk(v.Field(i), path+"."+f.Name, into(func(place, inner reflect.Value) { place.Field(i).Set(inner) }))
			}
		case reflect.Pointer:
			do(path, other, whole)
			walk(v.Elem(), path, into(func(place, inner reflect.Value) { place.Elem().Set(inner) }))
		case reflect.Slice:
			do(path, other, whole)
			for i := range v.Len() {
				walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), into(func(place, inner reflect.Value) { place.Index(i).Set(inner) }))
			}
		case reflect.Map:
			do(path, other, whole)
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k), fmt.Sprintf("%s[%v]", path, k), into(func(place, inner reflect.Value) { place.SetMapIndex(k, inner) }))
			}
		case reflect.String:
			other.SetString(v.String() + "x")
			do(path, other, whole)
		case reflect.Bool:
			other.SetBool(!v.Bool())
			do(path, other, whole)
		case reflect.Int, reflect.Int64:
			other.SetInt(v.Int() + 1)
			do(path, other, whole)
		default:
			t.Fatalf("%s: a %s cannot be changed yet", path, v.Type())
		}
	}
	walk(v, path, same)
}

func deepCopy(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			c.Field(i).Set(deepCopy(v.Field(i)))
		}
	case reflect.Pointer:
		c.Set(reflect.New(v.Type().Elem()))
		c.Elem().Set(deepCopy(v.Elem()))
	case reflect.Slice:
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			c.Index(i).Set(deepCopy(v.Index(i)))
		}
	case reflect.Map:
		c.Set(reflect.MakeMap(v.Type()))
		for _, k := range v.MapKeys() {
			c.SetMapIndex(k, deepCopy(v.MapIndex(k)))
		}
	default:
		c.Set(v)
	}
	return c
}
