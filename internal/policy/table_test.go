package policy

// module is our import path.
const module = "github.com/bvisor/bvisor"

// allowed says which of our packages each package may import, tests aside. A
// package that is not listed may not exist. "" is the root package.
var allowed = map[string][]string{
	"":                            {"spec", "plan", "report", "ledger", "secret", "backend", "internal/canonical", "internal/durable", "internal/quarantine", "internal/recovery"},
	"spec":                        {"internal/canonical", "internal/nearest", "internal/strictyaml"},
	"plan":                        {"spec", "internal/canonical"},
	"report":                      {"spec", "plan", "internal/canonical", "internal/durable", "internal/terminal"},
	"ledger":                      {"internal/durable"},
	"secret":                      {"spec"},
	"backend":                     {"spec", "plan", "report", "secret"},
	"backend/inert":               {"backend", "spec", "plan", "report"},
	"backend/backendtest":         {"backend", "spec", "plan", "report", "secret", "internal/victim"},
	"backend/linux":               append([]string{"backend", "spec", "plan", "report", "secret", "internal/canonical", "internal/launcher", "internal/quarantine", "internal/recovery", "internal/sys"}, facilities...),
	"backend/wasm":                {"backend", "spec", "plan", "report", "secret", "internal/canonical", "internal/durable", "internal/sys", "internal/wasip1", "internal/wasmfs", "internal/wasmmeter"},
	"bench":                       {"", "spec", "plan", "report", "ledger", "backend", "backend/linux", "backend/wasm", "internal/seccomp"},
	"cmd/bvisor":                  {"", "spec", "plan", "report", "ledger", "secret", "backend", "backend/inert", "backend/linux", "backend/wasm", "internal/canonical", "internal/durable", "internal/nearest", "internal/quarantine", "internal/recovery", "internal/selftest", "internal/terminal", "internal/tty", "internal/victim"},
	"internal/canonical":          nil,
	"internal/durable":            nil,
	"internal/hostmatrix":         nil, // tests alone
	"internal/launcher":           {"internal/sys"},
	"internal/need":               {"internal/cgroup", "internal/sys"},
	"internal/nearest":            nil,
	"internal/policy":             nil,
	"internal/quarantine":         {"internal/canonical", "internal/durable"},
	"internal/recovery":           {"internal/canonical", "internal/durable"},
	"internal/selftest":           {"", "spec", "plan", "report", "internal/launcher", "internal/sys", "internal/victim"},
	"internal/strictyaml":         nil,
	"internal/sys":                nil,
	"internal/terminal":           nil,
	"internal/victim":             {"internal/sys"},
	"internal/vm":                 nil,
	"internal/vm/cmd/vmtest":      {"internal/vm"},
	"internal/vm/guest":           {"internal/vm"},
	"internal/wasip1":             {"internal/wasmfs"},
	"internal/wasmfs":             nil,
	"internal/wasmmeter":          nil,
	"internal/seccomp/gen":        nil,
	"internal/seccomp/genfilters": {"internal/seccomp"},
}

// facilities are one kernel facility each. They are joined in a backend, never
// to each other, so that each can be read and trusted alone.
var facilities = []string{
	"internal/cgroup",
	"internal/descriptors",
	"internal/landlock",
	"internal/mounts",
	"internal/netns",
	"internal/notify", // listens to a filter, for evidence; knows no paths and no plan
	"internal/procfs",
	"internal/rlimits",
	"internal/seccomp",
	"internal/tty",
	"internal/userns",
}

func init() {
	for _, f := range facilities {
		allowed[f] = []string{"internal/sys"}
	}
}

// modules says who may import what is not ours and not the standard library's.
// A module that is not listed may not be imported.
var modules = []struct {
	path   string
	in     []string // packages and what is below them
	reason string
}{
	{"golang.org/x/sys", []string{"internal", "backend/linux", "backend/wasm"}, "system calls belong to facilities and backends"},
	{"golang.org/x/net/bpf", []string{"internal/seccomp"}, "the filter's assembler and interpreter"},
	{"golang.org/x/net/idna", []string{"spec"}, "host names are canonicalised once, in the spec"},
	{"golang.org/x/term", []string{"cmd/bvisor"}, "only the command line has a terminal"},
	{"golang.org/x/mod", []string{"ledger"}, "the Merkle log"},
	{"go.yaml.in/yaml/v4", []string{"internal/strictyaml"}, "alone it accepts duplicate keys, anchors and implicit types"},
	{"github.com/spf13/cobra", []string{"cmd/bvisor"}, "the library has no command line"},
	{"github.com/spf13/pflag", []string{"cmd/bvisor"}, "the library has no command line"},
	{"github.com/gowebpki/jcs", nil, "a second opinion in tests; it accepts what our encoding does not"},
	{"github.com/secure-systems-lab/go-securesystemslib", []string{"report"}, "the envelope of a report"},
	{"github.com/invopop/jsonschema", []string{"spec"}, "the schema of a spec"},
	{"github.com/tetratelabs/wazero", []string{"backend/wasm", "internal/wasip1", "bench"}, "one engine behind one seam; the benchmarks compare with it bare"},
}

// rule forbids names of a package in some of our packages. A name is a
// function, method value, type or variable; "*" is every name, so the import
// itself.
type rule struct {
	pkg    string
	names  []string
	within []string // where it holds: packages and what is below them; nil is everywhere
	except []string // packages, or files by their path in the module
	tests  bool     // holds in tests, too
	reason string
}

var pure = []string{"spec", "plan"}

var rules = []rule{
	{pkg: "C", names: all, tests: true, reason: "no cgo: one static program, and nothing of ours runs between fork and exec"},
	{pkg: "unsafe", names: all, except: unsafeFiles, reason: "memory safety is judged in a few files that say why"},
	{pkg: "syscall", names: rawCalls, except: unsafeFiles, reason: "a raw call has no checked arguments; wrap it in internal/sys"},
	{pkg: "golang.org/x/sys/unix", names: rawCalls, except: unsafeFiles, reason: "a raw call has no checked arguments; wrap it in internal/sys"},
	{pkg: "syscall", names: []string{"Exec", "ForkExec", "StartProcess"}, except: []string{"internal/launcher", "internal/victim"}, reason: "the launcher execs, after its boundary stands; internal/launcher starts it"},
	{pkg: "golang.org/x/sys/unix", names: []string{"Exec"}, except: []string{"internal/victim"}, reason: "the launcher execs, after its boundary stands"},

	{pkg: "os", names: all, within: pure, reason: "equal arguments give equal results on every host"},
	{pkg: "net", names: all, within: pure, reason: "no look-ups; net/netip parses addresses"},
	{pkg: "syscall", names: all, within: pure, reason: "equal arguments give equal results on every host"},
	{pkg: "time", names: clock, within: append([]string{"internal/canonical"}, pure...), reason: "a plan has no clock"},
	{pkg: "crypto/rand", names: all, within: pure, reason: "equal arguments give equal results"},
	{pkg: "math/rand", names: all, reason: "what it makes can be guessed; crypto/rand cannot"},
	{pkg: "math/rand/v2", names: all, reason: "what it makes can be guessed; crypto/rand cannot"},

	{pkg: "encoding/json", names: []string{"Unmarshal", "NewDecoder"}, within: []string{"spec", "plan", "report"}, reason: "takes names in any case and the last of two; two files would say the same"},
	{pkg: "os", names: []string{"Create", "WriteFile"}, reason: "follows links, truncates, and may be lost or seen half written; use internal/durable or os.OpenFile with O_EXCL"},
	{pkg: "os/exec", names: []string{"Command", "CommandContext"}, except: []string{"bench", "internal/vm", "internal/need", "secret/exec.go", "cmd/bvisor/keep.go"}, reason: "looks up PATH and starts something outside any boundary"},
	{pkg: "os", names: []string{"StartProcess"}, within: []string{"", "spec", "plan", "report", "ledger", "secret", "cmd", "backend/inert", "internal/durable"}, reason: "only a backend starts something"},
	{pkg: "os", names: []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, except: []string{"cmd/bvisor", "secret/schemes.go", "state.go", "internal/need", "internal/vm"}, reason: "what a library does must not depend on variables its caller does not see"},
	{pkg: "os", names: []string{"Exit"}, except: []string{"bench", "cmd/bvisor", "internal/seccomp/gen", "internal/seccomp/genfilters", "internal/victim", "internal/vm/cmd/vmtest"}, reason: "a library returns; deferred clean-up must run"},
	{pkg: "os", names: []string{"Chdir", "Setenv", "Unsetenv", "Clearenv"}, reason: "changes the whole process of whoever embeds us"},
	{pkg: "fmt", names: []string{"Print", "Printf", "Println"}, except: []string{"internal/seccomp/gen"}, reason: "standard output belongs to the workload"},
	{pkg: "log", names: all, reason: "a library returns errors; the command line prints them"},
	{pkg: "io/ioutil", names: all, reason: "superseded, and hides os.WriteFile"},
	{pkg: "reflect", names: []string{"SliceHeader", "StringHeader"}, reason: "unsafe by another name"},
	{pkg: "github.com/tetratelabs/wazero", names: []string{"NewFSConfig"}, reason: "its directory mounts follow symbolic links out of the root"},
	{pkg: module + "/backend/inert", names: []string{"Scripted", "ScriptedBackend", "Script", "Everything", "Exited", "Relay"}, except: []string{"backend/inert"}, reason: "made-up observations are for tests"},
}

var all = []string{"*"}

// unsafeFiles are the only ones with unsafe and raw system calls.
var unsafeFiles = []string{"internal/sys/*_unsafe_linux.go", "internal/launcher/*_unsafe_linux.go"}

var rawCalls = []string{
	"Syscall", "Syscall6", "Syscall9", "SyscallN", "SyscallNoError", "RawSyscall", "RawSyscall6",
	"RawSyscallNoError", "AllThreadsSyscall", "AllThreadsSyscall6",
}

var clock = []string{
	"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep", "Local", "LoadLocation",
}
