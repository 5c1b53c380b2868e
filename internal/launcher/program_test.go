package launcher

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// sample is a program with one of everything that is printed.
func sample() *Program {
	p := &Program{}
	failed, child, again := p.NewLabel(), p.NewLabel(), p.NewLabel()
	p.OnFailure(failed)
	pid := p.Var("child")
	p.Begin(RoleLauncher, "namespaces")
	p.Call("umask", 95, Flag(0o22, "022"))
	p.Mark(again)
	p.Call("fork", 57).To(Addr(pid)).If(Int(0), child)
	p.Call("poll", 7, Int(0)).OnError(again)
	p.Call("kill", 62, pid, Int(9)).Ignore()
	p.Check(Addr(pid), ^uint64(0), 5, "five").Jump(failed)
	p.Begin(RoleWorkload, "exec")
	p.Mark(child)
	p.Copy(pid).To(Record(OffStatus, "status"))
	env := p.Words("envp", p.Str("TOKEN=value"), Int(0))
	p.Call("execve", 59, p.Str("/bin/x"), Int(0), env)
	p.Begin(RoleWorkload, "failure")
	p.Mark(failed)
	p.Call("exit_group", 231, Int(126))
	return p
}

func TestPrintShowsEveryCallInOrder(t *testing.T) {
	var b strings.Builder
	if err := sample().Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `launcher: namespaces
    0  umask(022)
    1  &child = fork()  [0: go to 5]
    2  poll(0)  [error: go to 1]
    3  kill(child, 9)  [errors ignored]
    4  check(&child, 0xffffffffffffffff, five)  [go to 7]
workload: exec
    5  status = copy(child)
    6  execve("/bin/x", 0, envp)
workload: failure
    7  exit_group(126)
`
	if b.String() != want {
		t.Errorf("printed:\n%s\nwant:\n%s", b.String(), want)
	}
}

// A body is laid out at its own address and may point into the boot; the boot is
// the same whatever follows.
func TestEncodeBody(t *testing.T) {
	build := func(text string) (*Program, []byte, []byte) {
		p := &Program{}
		end, body, failed := p.NewLabel(), p.NewLabel(), p.NewLabel()
		p.OnFailure(end)
		v := p.Var("v") // the boot's only chunk
		p.Call("one", 11).Jump(body)
		p.Mark(end)
		p.Call("two", 12)
		p.BeginBody()
		p.Mark(body)
		p.FailAt(failed)
		p.Call("three", 13, p.Str(text), v)
		p.Mark(failed)
		p.Call("four", 14)
		boot, rest := p.encode()
		return p, boot, rest
	}
	p, boot, body := build("text")
	word := func(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	const bootOps, bootChunks, chunks = recordSize, recordSize + 2*opSize, 3 * opSize
	for _, c := range []struct {
		what string
		got  uint64
		want uint64
	}{
		{"the boot's failure", word(boot, offFailTarget), dataBase + bootOps + opSize},
		{"the boot's jump", word(boot, bootOps+72), BodyBase},
		{"the boot's size", uint64(len(boot)), bootChunks + 8},
		{"the body's first call", word(body, 0), ^uint64(1)}, // the copy
		{"what it copies", word(body, 8), BodyBase + chunks},
		{"where to", word(body, 56), dataBase + offFailTarget},
		{"the body's failure", word(body, chunks), BodyBase + 2*opSize},
		{"a chunk of the body", word(body, opSize+8), BodyBase + chunks + 8},
		{"a chunk of the boot", word(body, opSize+16), dataBase + bootChunks},
		{"the body's size", uint64(len(body)), chunks + 8 + 8},
	} {
		if c.got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, c.got, c.want)
		}
	}
	for i, addr := range []uint64{dataBase + bootOps, dataBase + bootOps + opSize, BodyBase, BodyBase + opSize, BodyBase + 2*opSize} {
		if got, ok := p.opAt(addr); !ok || got != i {
			t.Errorf("operation at %#x is %d, %v; want %d", addr, got, ok, i)
		}
	}
	for _, addr := range []uint64{0, dataBase, dataBase + bootOps + 2*opSize, BodyBase - opSize, BodyBase + 1, BodyBase + 3*opSize} {
		if got, ok := p.opAt(addr); ok {
			t.Errorf("operation at %#x is %d, want none", addr, got)
		}
	}
	other, otherBoot, _ := build("another text")
	if !bytes.Equal(boot, otherBoot) {
		t.Error("the boot depends on the body")
	}
	if p.Digest() == other.Digest() {
		t.Error("the digest does not depend on the body")
	}
}

func TestDigestCoversWhatIsCarriedOut(t *testing.T) {
	build := func(change string) string {
		pick := func(name string, other, usual int) int {
			if change == name {
				return other
			}
			return usual
		}
		p := &Program{}
		first, second := p.NewLabel(), p.NewLabel()
		labels := []Label{first, second}
		p.OnFailure(labels[pick("failure", 0, 1)])
		a, b := p.Var("a"), p.Var("b")
		vars := []Arg{a, b}
		text := []string{"one", "two"}
		p.Mark(first)
		p.Call("call", uintptr(pick("number", 2, 1)), Flag(pick("argument", 2, 1), text[pick("shown", 1, 0)])).
			To(Addr(vars[pick("store", 1, 0)])).If(Int(pick("expect", 2, 1)), labels[pick("target", 1, 0)])
		o := p.Call("next", 3, p.Str(text[pick("string", 1, 0)]), p.Words("w", Int(pick("word", 1, 0))))
		if change == "ignored" {
			o.Ignore()
		}
		if change == "error jump" {
			o.OnError(first)
		}
		if change == "jump" {
			o.Jump(first)
		}
		p.Mark(second)
		argument := []Arg{a, Addr(a)}[pick("loaded", 1, 0)]
		p.Call("last", 4, argument)
		if change == "more" {
			p.Call("more", 5)
		}
		return p.Digest()
	}
	seen := map[string]string{build(""): "nothing"}
	for _, change := range []string{"failure", "number", "argument", "store", "expect", "target", "string", "word", "ignored", "error jump", "jump", "loaded", "more"} {
		d := build(change)
		if other, ok := seen[d]; ok {
			t.Errorf("a change of %s gives the digest that a change of %s gives", change, other)
		}
		seen[d] = change
	}
	// What is only shown to people is not carried out.
	if build("shown") != build("") {
		t.Error("the digest depends on how an argument is printed")
	}
}

// The layout that machine_*.s relies on, spelt out by hand.
func TestEncode(t *testing.T) {
	p := &Program{}
	end := p.NewLabel()
	p.OnFailure(end)
	v := p.Var("v")          // chunk 0
	s := p.Str("twelve by.") // chunk 1: 11 bytes, 16 with padding
	w := p.Words("w", s, Int(-1), Record(OffStatus, "status"))
	p.Call("one", 11, Int(1), v, s, w, At(s, 3, "s+3"), Load(w, 8, "w[1]")).To(Addr(v)).If(v, end)
	p.Mark(end)
	p.Call("two", 12).OnError(end)
	p.Check(s, 0xff, 't', "t")
	p.Copy(v).Ignore()

	const ops = dataBase + recordSize
	const chunks = ops + 4*opSize
	got, _ := p.encode()
	word := func(addr int) uint64 { return binary.LittleEndian.Uint64(got[addr-dataBase:]) }
	check := func(at int, what string, want ...uint64) {
		t.Helper()
		for i, n := range want {
			if word(at+i*8) != n {
				t.Errorf("%s: word %d is %#x, want %#x", what, i, word(at+i*8), n)
			}
		}
	}
	if want := chunks + 8 + 16 + 24 - dataBase; len(got) != want {
		t.Fatalf("%d bytes, want %d", len(got), want)
	}
	minus := ^uint64(0)
	check(dataBase, "record", 0, 0, ops+opSize, ops)
	check(ops, "one", 11, 1, chunks, chunks+8, chunks+24, chunks+11, chunks+32, chunks, 1<<1|1<<5|modeExpectLoad|modeIf, ops+opSize, chunks)
	check(ops+opSize, "two", 12, 0, 0, 0, 0, 0, 0, 0, modeErrJump, ops+opSize, 0)
	check(ops+2*opSize, "check", minus, chunks+8, 0xff, 't', 0, 0, 0, 0, 0, 0, 0)
	check(ops+3*opSize, "copy", minus-1, chunks, 0, 0, 0, 0, 0, 0, modeIgnore, 0, 0)
	check(chunks+24, "w", chunks+8, minus, dataBase+OffStatus)
	if text := string(got[chunks+8-dataBase : chunks+24-dataBase]); text != "twelve by.\x00\x00\x00\x00\x00\x00" {
		t.Errorf("string chunk is %q", text)
	}
}

func TestBugsPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"seven arguments":  func() { (&Program{}).Call("x", 1, Int(1), Int(2), Int(3), Int(4), Int(5), Int(6), Int(7)) },
		"load from record": func() { Load(Record(0, "record"), 0, "x") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
