package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// everyOption lists all options that give different filters, but for the order
// of families.
func everyOption() []Options {
	var list []Options
	for _, arch := range []string{AMD64, ARM64} {
		for spawn := SpawnNone; spawn <= SpawnProcesses; spawn++ {
			for _, families := range [][]uint16{nil, {AFUnix}, {AFInet, AFInet6}, {AFUnix, AFInet, AFInet6, AFNetlink}} {
				for _, exec := range []bool{false, true} {
					list = append(list, Options{Arch: arch, Spawn: spawn, SocketFamilies: families, ExecFiles: exec})
				}
			}
		}
	}
	return list
}

func mustCompile(t testing.TB, o Options) Filter {
	t.Helper()
	f, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func check(t *testing.T, f Filter, o Options, d Data) {
	t.Helper()
	got, err := Run(f, d)
	if err != nil {
		t.Fatalf("%+v: %+v: %v", o, d, err)
	}
	if want := reference(o, d); got != want {
		t.Fatalf("%+v: %s(%#x) on arch %#x: filter says %s (%#x), reference %s (%#x)",
			o, Name(o.Arch, d.Number), d.Args, d.Arch, actionText(got), got, actionText(want), want)
	}
}

// interesting are the values rules compare with, their neighbours, and the
// same with something in the high word.
func interesting() []uint64 {
	var low []uint64
	for v := range uint64(84) {
		low = append(low, v)
	}
	for bit := range 32 {
		low = append(low, 1<<bit)
	}
	for _, v := range []uint64{
		0x5412, 0x541c, 0x541d, 0x5423, // terminal commands
		0o010644, 0o020600, 0o040755, 0o060600, 0o100644, 0o120777, 0o140755, 0o170000, // file types
		0x3d0f00, 0x1200011, 0x4111, 0x10080, 0x7e020000, 0x7e030000, 0x40600, // clone flags
		0x41555856, 0x53564d41, 0x59616d61, // prctl options spelt in letters
		0x80801, 0x80802, 0x80003, 0x80005, // socket types with flags
		0x40000, 0x40008, 0xffffffff, 262, 132, 58,
	} {
		low = append(low, v-1, v, v+1)
	}
	all := slices.Clone(low)
	for _, v := range low {
		all = append(all, v|1<<32, v|1<<63)
	}
	return append(all, 1<<32, ^uint64(0))
}

func TestFilterAgainstReferenceForEveryNumber(t *testing.T) {
	for _, o := range everyOption() {
		f := mustCompile(t, o)
		native := NativeArch(o.Arch)
		numbers := []uint32{0x3fffffff, 0x40000000, 0x40000001, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff}
		for nr := range uint32(1024) {
			numbers = append(numbers, nr, nr|0x40000000)
		}
		for _, nr := range numbers {
			check(t, f, o, Data{Number: nr, Arch: native})
			check(t, f, o, Data{Number: nr, Arch: native, IP: ^uint64(0), Args: [6]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}})
			// AUDIT_ARCH_I386, AUDIT_ARCH_ARM, the other native one, and nonsense.
			for _, arch := range []uint32{0x40000003, 0x40000028, 0xc000003e, 0xc00000b7, 0, native + 1, native - 1, ^uint32(0)} {
				check(t, f, o, Data{Number: nr, Arch: arch})
			}
		}
	}
}

// looksAtArguments are the calls whose verdict depends on an argument under
// some options.
var looksAtArguments = set("ioctl mknod mknodat memfd_create clone unshare seccomp setrlimit prlimit64 personality socket socketpair prctl")

func TestArgumentRulesAgainstReference(t *testing.T) {
	vals := interesting()
	random := rand.New(rand.NewPCG(1, 2))
	some := func() uint64 {
		if random.IntN(4) == 0 {
			return random.Uint64() >> random.IntN(64)
		}
		return vals[random.IntN(len(vals))]
	}
	for _, o := range everyOption() {
		f := mustCompile(t, o)
		for _, c := range machines[o.Arch].calls {
			d := Data{Number: uint32(c.number), Arch: NativeArch(o.Arch)}
			try := vals
			if !looksAtArguments[c.name] {
				try = vals[:8]
			}
			for arg := range 4 {
				for _, v := range try {
					d.Args = [6]uint64{some(), some(), some(), some(), some(), some()}
					d.Args[arg] = v
					check(t, f, o, d)
				}
			}
		}
		// The calls that look at two or three arguments, with those that matter.
		for _, c := range []struct {
			name string
			args [3][]uint64
		}{
			{"prctl", [3][]uint64{{46, 47, 48, 47 | 1<<32}, vals, {0}}},
			{"prlimit64", [3][]uint64{{0, 1, 1 << 32}, {3, 4, 5, 4 | 1<<32}, vals}},
			{"seccomp", [3][]uint64{{0, 1, 2, 1 | 1<<32}, vals, {0}}},
			{"socket", [3][]uint64{{0, 1, 2, 3, 10, 16, 17, 2 | 1<<32, 16 | 1<<32}, vals, {0, 1, 6, 9, 17, 262, 6 | 1<<32}}},
			{"socketpair", [3][]uint64{{0, 1, 2, 1 | 1<<32}, vals, {0}}},
		} {
			nr, ok := Number(o.Arch, c.name)
			if !ok {
				t.Fatalf("no call %s on %s", c.name, o.Arch)
			}
			for _, a := range c.args[0] {
				for _, b := range c.args[1] {
					for _, e := range c.args[2] {
						for _, last := range []uint64{0, 1, 1 << 32} {
							check(t, f, o, Data{Number: nr, Arch: NativeArch(o.Arch), Args: [6]uint64{a, b, e, last}})
						}
					}
				}
			}
		}
	}
}

func FuzzFilterAgainstReference(f *testing.F) {
	options := everyOption()
	filters := make([]Filter, len(options))
	for i, o := range options {
		filters[i] = mustCompile(f, o)
	}
	f.Add(uint8(0), uint32(16), true, uint64(0), uint64(0x1_0000_5412), uint64(0))
	f.Add(uint8(5), uint32(41), true, uint64(2), uint64(0x80801), uint64(262))
	f.Add(uint8(17), uint32(56), true, uint64(0x1_1000_0011), uint64(0), uint64(0))
	f.Add(uint8(30), uint32(29), true, uint64(3), uint64(0x541c), uint64(0))
	f.Add(uint8(12), uint32(302), true, uint64(0), uint64(4), uint64(1<<32))
	f.Add(uint8(1), uint32(0x40000027), false, uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, which uint8, nr uint32, native bool, a, b, c uint64) {
		i := int(which) % len(options)
		d := Data{Number: nr, Arch: NativeArch(options[i].Arch), Args: [6]uint64{a, b, c}}
		if !native {
			d.Arch = uint32(c)
		}
		check(t, filters[i], options[i], d)
	})
}

// TestRunAgainstSecondInterpreter runs the same filters in golang.org/x/net's
// machine. That one reads big-endian words of a packet.
func TestRunAgainstSecondInterpreter(t *testing.T) {
	vals := interesting()
	random := rand.New(rand.NewPCG(3, 4))
	for _, o := range everyOption() {
		f := mustCompile(t, o)
		var program []bpf.Instruction
		for _, in := range f {
			program = append(program, bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}.Disassemble())
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		for range 20000 {
			d := Data{Number: uint32(random.IntN(480)), Arch: NativeArch(o.Arch)}
			packet := binary.BigEndian.AppendUint32(nil, d.Number)
			packet = binary.BigEndian.AppendUint32(packet, d.Arch)
			packet = append(packet, make([]byte, 8)...)
			for i := range d.Args {
				d.Args[i] = vals[random.IntN(len(vals))]
				packet = binary.BigEndian.AppendUint32(packet, uint32(d.Args[i]))
				packet = binary.BigEndian.AppendUint32(packet, uint32(d.Args[i]>>32))
			}
			want, err := vm.Run(packet)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Run(f, d)
			if err != nil || got != uint32(want) {
				t.Fatalf("%+v: %+v: Run says %#x, %v; x/net/bpf %#x", o, d, got, err, want)
			}
		}
	}
}

func TestEveryCallIsDecidedOnce(t *testing.T) {
	known := map[string]bool{}
	for _, m := range machines {
		for _, c := range m.calls {
			known[c.name] = true
		}
	}
	seen := map[string]bool{}
	for _, p := range policy {
		if p.reason == "" || p.rule.words == "" {
			t.Errorf("%q: no reason or no words", p.calls)
		}
		for _, name := range strings.Fields(p.calls) {
			if seen[name] {
				t.Errorf("%s stands in two lines of the policy", name)
			}
			if !known[name] {
				t.Errorf("%s is in no architecture's table: misspelt?", name)
			}
			seen[name] = true
		}
	}
	for name := range known {
		if !seen[name] {
			t.Errorf("%s is in the tables but not in the policy: decide about it", name)
		}
	}
}

func TestTables(t *testing.T) {
	for arch, m := range machines {
		for i, c := range m.calls {
			if i > 0 && m.calls[i-1].number >= c.number {
				t.Errorf("%s: %s is out of order", arch, c.name)
			}
			if nr, ok := Number(arch, c.name); !ok || nr != uint32(c.number) {
				t.Errorf("Number(%s, %s) = %d, %v, want %d", arch, c.name, nr, ok, c.number)
			}
			if got := Name(arch, uint32(c.number)); got != c.name {
				t.Errorf("Name(%s, %d) = %s, want %s", arch, c.number, got, c.name)
			}
			if c.number >= emulatedNumbers {
				t.Errorf("%s: %s has number %d: raise emulatedNumbers", arch, c.name, c.number)
			}
		}
	}
	if nr, ok := Number(AMD64, "no_such_call"); ok {
		t.Errorf("Number of an unknown call = %d", nr)
	}
	if _, ok := Number("mips", "read"); ok {
		t.Error("Number knows calls of an unknown architecture")
	}
	if got := Name(AMD64, 999); got != "call 999" {
		t.Errorf("Name(999) = %q", got)
	}
}

// The kernel keeps an answer of "allow" for calls whose verdict needs no
// argument, and then runs no filter (Linux 5.11). A load of an argument, or an
// operation it cannot evaluate, before the verdict would lose that.
func TestFixedVerdictsLoadNoArgument(t *testing.T) {
	for _, o := range everyOption() {
		f, g, byName := mustCompile(t, o), graph{}, policyByName()
		for _, c := range machines[o.Arch].calls {
			if len(byName[c.name].rule.decide(g, o).spans) != 0 {
				continue
			}
			d := Data{Number: uint32(c.number), Arch: NativeArch(o.Arch)}
			for pc := 0; f[pc].Code != opRet; {
				in := f[pc]
				if in.Code == opLoad && in.K >= 8 {
					t.Fatalf("%+v: the verdict on %s looks at %v", o, c.name, word(in.K))
				}
				// The accumulator holds the word last loaded: arch once, then number.
				pc = nextInstruction(pc, in, d)
			}
		}
	}
}

func nextInstruction(pc int, in Instruction, d Data) int {
	a := d.Number
	if in.K == d.Arch {
		a = d.Arch
	}
	next := successors(pc, in)
	switch {
	case in.Code == opJeq && a != in.K, in.Code == opJge && a < in.K, in.Code == opJset && a&in.K == 0:
		return next[1]
	}
	return next[0]
}

func TestCompileIsDeterministic(t *testing.T) {
	for _, o := range everyOption() {
		first := mustCompile(t, o)
		o.SocketFamilies = slices.Clone(o.SocketFamilies)
		slices.Reverse(o.SocketFamilies)
		if again := mustCompile(t, o); !bytes.Equal(first.Bytes(), again.Bytes()) {
			t.Errorf("%+v: two compilations differ", o)
		}
		cached, err := CompileCached(o)
		if err != nil || !bytes.Equal(first.Bytes(), cached.Bytes()) {
			t.Errorf("%+v: cached filter differs (%v)", o, err)
		}
		cached[0].K++ // the caller's own: must not show in the next
		if cached, err = CompileCached(o); err != nil || !bytes.Equal(first.Bytes(), cached.Bytes()) {
			t.Errorf("%+v: cached filter was changed through a caller's copy (%v)", o, err)
		}
	}
}

// Every launch pays for every instruction. A change of the policy that needs
// more than this should be looked at.
func TestFilterIsSmall(t *testing.T) {
	largest := 0
	for _, o := range everyOption() {
		f := mustCompile(t, o)
		largest = max(largest, len(f))
		if len(f.Bytes()) != 8*len(f) {
			t.Errorf("%d instructions are %d bytes", len(f), len(f.Bytes()))
		}
	}
	t.Logf("largest filter: %d instructions", largest)
	if largest > 180 {
		t.Errorf("largest filter has %d instructions, expected at most 180", largest)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, `architecture ""`},
		{Options{Arch: "386"}, `architecture "386"`},
		{Options{Arch: AMD64, Spawn: 3}, "spawn mode 3"},
		{Options{Arch: AMD64, SocketFamilies: []uint16{AFUnix, 17}}, "socket family 17"},
	} {
		_, compileErr := Compile(c.o)
		_, cachedErr := CompileCached(c.o)
		_, explainErr := Explain(c.o)
		for _, err := range []error{compileErr, cachedErr, explainErr} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: error %v, want one about %s", c.o, err, c.want)
			}
		}
	}
}

// Larger graphs than the policy's: jumps of more than 255 instructions, spans
// of every width, masks, shared parts.
func TestCompilerOnRandomDecisions(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	longJumps := 0
	for range 200 {
		g := graph{}
		known := []*decision{g.allow(), g.errno(ePERM), g.errno(eNOSYS), g.errno(eACCES), g.errno(eINVAL)}
		pick := func() *decision { return known[random.IntN(len(known))] }
		var points []uint32
		for range 1 + random.IntN(12) {
			used := map[uint32]bool{}
			var arms []arm
			for range random.IntN(60) {
				v := uint32(random.Uint64() >> (32 + random.IntN(30)))
				if random.IntN(20) == 0 {
					v = ^uint32(0) - uint32(random.IntN(3))
				}
				if !used[v] {
					used[v] = true
					points = append(points, v)
					arms = append(arms, arm{values(v), pick()})
				}
			}
			mask := wholeWord
			if random.IntN(3) == 0 {
				mask = uint32(random.Uint64())
			}
			known = append(known, g.look(lowWord(random.IntN(6)), mask, pick(), arms...))
		}
		root := known[len(known)-1]
		e := emitter{at: map[*decision]int{}}
		e.decision(root)
		slices.Reverse(e.code)
		f := Filter(e.code)
		if slices.ContainsFunc(f, func(in Instruction) bool { return in.Code == opJump }) {
			longJumps++
		}
		for range 500 {
			var d Data
			for i := range d.Args {
				d.Args[i] = random.Uint64()
				if len(points) > 0 && random.IntN(8) != 0 {
					d.Args[i] = uint64(points[random.IntN(len(points))]) + uint64(random.IntN(3)) - 1
				}
			}
			want := root
			for len(want.spans) > 0 {
				v, err := d.load(uint32(want.word))
				if err != nil {
					t.Fatal(err)
				}
				at := want
				for _, s := range at.spans {
					if v&at.mask >= s.low {
						want = s.to
					}
				}
			}
			if got, err := Run(f, d); err != nil || got != want.action {
				t.Fatalf("%d instructions: got %#x, %v, want %#x", len(f), got, err, want.action)
			}
		}
	}
	if longJumps == 0 {
		t.Error("no graph needed a jump of more than 255 instructions: the test lost its point")
	}
}

// Both targets of a branch, either one nearer, at every distance around the
// longest jump there is.
func TestBranchAtTheLongestJump(t *testing.T) {
	for distance := 245; distance < 265; distance++ {
		for variant := range 8 {
			equal, copied, swapped := variant&1 == 0, variant&2 == 0, variant&4 == 0
			e := emitter{at: map[*decision]int{}}
			yes := e.put(Instruction{Code: opRet, K: ActionAllow})
			no := e.put(Instruction{Code: opRet, K: ActionKillProcess})
			if !copied { // targets that cannot be copied next to the jump
				yes = e.put(Instruction{Code: opJump, K: 1})
				no = e.put(Instruction{Code: opJump, K: 1})
			}
			for range distance {
				e.put(Instruction{Code: opLoad})
			}
			if swapped {
				yes, no = no, yes
			}
			k, want := uint32(1), ActionKillProcess // A is 0
			if equal {
				k = 0
			}
			if equal != swapped {
				want = ActionAllow
			}
			e.branch(opJeq, k, yes, no)
			slices.Reverse(e.code)
			if got, err := Run(e.code, Data{}); err != nil || got != want {
				t.Errorf("distance %d, variant %03b: got %#x, %v, want %#x", distance, variant, got, err, want)
			}
		}
	}
}

func TestRunRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, f := range map[string]Filter{
		"empty":         {},
		"no return":     {{Code: opLoad}},
		"jump past end": {{Code: opJump, K: 9}, {Code: opRet}},
		"huge jump":     {{Code: opJump, K: ^uint32(0)}, {Code: opRet}},
		"branch past":   {{Code: opJeq, Jt: 9, Jf: 9}, {Code: opRet}},
		"odd offset":    {{Code: opLoad, K: 2}, {Code: opRet}},
		"far offset":    {{Code: opLoad, K: 64}, {Code: opRet}},
		"operation":     {{Code: 0x01}, {Code: opRet}},
	} {
		if action, err := Run(f, Data{}); err == nil {
			t.Errorf("%s: action %#x, want an error", name, action)
		}
	}
}

func TestBytesLayout(t *testing.T) {
	got := Filter{{Code: 0x1234, Jt: 5, Jf: 6, K: 0x0708090a}}.Bytes()
	if want := []byte{0x34, 0x12, 5, 6, 0x0a, 9, 8, 7}; !bytes.Equal(got, want) {
		t.Errorf("bytes %x, want %x", got, want)
	}
}

func TestDisassemble(t *testing.T) {
	f := mustCompile(t, Options{Arch: AMD64, Spawn: SpawnThreads, SocketFamilies: []uint16{AFUnix}})
	var b bytes.Buffer
	if err := Disassemble(&b, f, AMD64); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != len(f) {
		t.Errorf("%d lines for %d instructions", len(lines), len(f))
	}
	for _, want := range []string{
		"load arch", "if == amd64", "return kill process", "load argument 0, high word",
		"socket", "return EACCES", "return ENOSYS", "return allow", "if & 0x8",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for i, line := range lines {
		for _, field := range strings.FieldsFunc(line[6:], func(r rune) bool { return r == ' ' || r == ',' }) {
			if n := 0; field[0] == 'L' {
				if _, err := fmt.Sscanf(field, "L%d", &n); err != nil || n <= i || !strings.HasPrefix(lines[n], field+":") {
					t.Errorf("line %d jumps to %s, which is no label below it", i, field)
				}
			}
		}
	}
	// Bytes that are no filter of ours are shown, not refused.
	if err := Disassemble(&b, Filter{{Code: 0x01, K: 7}, {Code: opJeq, Jt: 200}}, AMD64); err != nil {
		t.Error(err)
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		mustCompile(b, Options{Arch: AMD64, Spawn: SpawnProcesses, SocketFamilies: []uint16{AFUnix}})
	}
}

func BenchmarkCompileCached(b *testing.B) {
	for b.Loop() {
		if _, err := CompileCached(Options{Arch: AMD64, Spawn: SpawnProcesses, SocketFamilies: []uint16{AFUnix}}); err != nil {
			b.Fatal(err)
		}
	}
}
