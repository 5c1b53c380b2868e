package launcher

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// sample is a program with one of everything that is printed.
func sample(secret, reference string) *Program {
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
	env := p.Words("envp", p.Secret("TOKEN="+secret, "TOKEN="+reference), Int(0))
	p.Call("execve", 59, p.Str("/bin/x"), Int(0), env)
	p.Begin(RoleWorkload, "failure")
	p.Mark(failed)
	p.Call("exit_group", 231, Int(126))
	return p
}

func TestPrintShowsEveryCallInOrder(t *testing.T) {
	var b strings.Builder
	if err := sample("hunter2", "env:TOKEN").Print(&b); err != nil {
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

// A secret is in the image and nowhere else: not in print, not in the digest,
// and its length changes neither.
func TestSecretsAreNeitherPrintedNorHashed(t *testing.T) {
	const short, long = "s3cr3t", "a-much-longer-s3cr3t-than-the-other-one"
	a, b := sample(short, "env:TOKEN"), sample(long, "env:TOKEN")
	if a.Digest() != b.Digest() {
		t.Error("the digest depends on the secret's value")
	}
	if a.Digest() == sample(short, "env:OTHER").Digest() {
		t.Error("the digest does not depend on the secret's reference")
	}
	var pa, pb bytes.Buffer
	if err := a.Print(&pa); err != nil {
		t.Fatal(err)
	}
	if err := b.Print(&pb); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pa.Bytes(), pb.Bytes()) {
		t.Errorf("print depends on the secret's value:\n%s\n%s", &pa, &pb)
	}
	if strings.Contains(pa.String(), short) || bytes.Contains(a.encode(false), []byte(short)) {
		t.Error("the secret is printed or hashed")
	}
	if got := a.Op(6).String(); strings.Contains(got, short) {
		t.Errorf("the operation's text is %q", got)
	}
	// The control: what is executed does hold it.
	if !bytes.Contains(a.encode(true), append([]byte("TOKEN="+short), 0)) {
		t.Error("the image does not hold the secret")
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
	got := p.encode(true)
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
