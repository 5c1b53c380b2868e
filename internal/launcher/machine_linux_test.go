//go:build amd64 || arm64

package launcher

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	ebadf   = -int64(unix.EBADF)
	estale  = -int64(unix.ESTALE)
	echildR = -int64(unix.ECHILD)
)

// program is a small program with what it must leave behind.
type program struct {
	name   string
	body   func(p *Program, v func(name string) Arg)
	code   int
	want   map[string]int64 // variables at the end
	failed int              // index of the failing step, with code 7
	errno  int64
	masked []string // variables the kernel fills anew for each process
	ends   int      // processes that come to the end; 0 is one
}

// number is a call that gives n and does nothing: dup3(2) of a descriptor onto
// a high number.
func number(p *Program, n int) Op {
	return p.Call("dup3", unix.SYS_DUP3, Int(0), Int(n), Int(0))
}

// bad is a call that fails with EBADF.
func bad(p *Program) Op { return p.Call("close", unix.SYS_CLOSE, Int(999)) }

var programs = []program{
	{name: "store", body: func(p *Program, v func(string) Arg) {
		number(p, 200).To(Addr(v("a")))
		p.Call("getpid", unix.SYS_GETPID).To(Addr(v("pid")))
	}, want: map[string]int64{"a": 200}, masked: []string{"pid"}},
	{name: "store into the record", body: func(p *Program, v func(string) Arg) {
		number(p, 200).To(Record(OffStatus, "status"))
	}},
	{name: "a failing step stops", body: func(p *Program, v func(string) Arg) {
		number(p, 200).To(Addr(v("before")))
		bad(p).To(Addr(v("failed")))
		number(p, 201).To(Addr(v("after")))
	}, code: 7, failed: 1, errno: ebadf, want: map[string]int64{"before": 200, "failed": ebadf, "after": 0}},
	{name: "ignored", body: func(p *Program, v func(string) Arg) {
		bad(p).Ignore().To(Addr(v("failed")))
		number(p, 201).To(Addr(v("after")))
	}, want: map[string]int64{"failed": ebadf, "after": 201}},
	{name: "error jumps", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		bad(p).OnError(l)
		number(p, 200).To(Addr(v("skipped")))
		p.Mark(l)
		number(p, 201).To(Addr(v("after")))
	}, want: map[string]int64{"skipped": 0, "after": 201}},
	{name: "error jump without an error goes on", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 199).OnError(l)
		number(p, 200).To(Addr(v("next")))
		p.Mark(l)
	}, want: map[string]int64{"next": 200}},
	{name: "jump", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 199).Jump(l)
		number(p, 200).To(Addr(v("skipped")))
		p.Mark(l)
	}, want: map[string]int64{"skipped": 0}},
	{name: "jump does not hide an error", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		bad(p).Jump(l)
		p.Mark(l)
		number(p, 200).To(Addr(v("after")))
	}, code: 7, failed: 0, errno: ebadf, want: map[string]int64{"after": 0}},
	{name: "ignored error does not jump", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		bad(p).Ignore().Jump(l)
		number(p, 200).To(Addr(v("next")))
		p.Mark(l)
	}, want: map[string]int64{"next": 200}},
	{name: "if equal", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 200).If(Int(200), l)
		number(p, 201).To(Addr(v("skipped")))
		p.Mark(l)
	}, want: map[string]int64{"skipped": 0}},
	{name: "if different", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 200).If(Int(201), l)
		number(p, 201).To(Addr(v("next")))
		p.Mark(l)
	}, want: map[string]int64{"next": 201}},
	{name: "if against a variable", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 200).To(Addr(v("want")))
		number(p, 200).If(v("want"), l)
		number(p, 201).To(Addr(v("skipped")))
		p.Mark(l)
	}, want: map[string]int64{"want": 200, "skipped": 0}},
	{name: "if sees all 64 bits", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		number(p, 200).If(Arg{value: 1<<32 | 200, show: "high"}, l)
		number(p, 201).To(Addr(v("next")))
		p.Mark(l)
	}, want: map[string]int64{"next": 201}},
	{name: "if does not see errors", body: func(p *Program, v func(string) Arg) {
		l := p.NewLabel()
		bad(p).If(Int(int(ebadf)), l)
		p.Mark(l)
	}, code: 7, failed: 0, errno: ebadf},
	{name: "backwards until a check holds", body: func(p *Program, v func(string) Arg) {
		// fcntl gives 210, 211 and so on, each once.
		again, done := p.NewLabel(), p.NewLabel()
		p.Mark(again)
		p.Call("fcntl", unix.SYS_FCNTL, Int(0), Flag(unix.F_DUPFD, "F_DUPFD"), Int(210)).To(Addr(v("n"))).If(Int(215), done)
		p.Call("getpid", unix.SYS_GETPID).Jump(again)
		p.Mark(done)
	}, want: map[string]int64{"n": 215}},
	{name: "load every argument", body: func(p *Program, v func(string) Arg) {
		// mmap(2) takes six; an anonymous page at a given place gives its address.
		for name, n := range map[string]int{"addr": 0x3_0000_0000, "len": 65536, "prot": unix.PROT_READ,
			"flags": unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE, "fd": -1, "at": 0} {
			p.Copy(wordVar(p, n)).To(Addr(v(name))).Ignore()
		}
		p.Call("mmap", unix.SYS_MMAP, v("addr"), v("len"), v("prot"), v("flags"), v("fd"), v("at")).To(Addr(v("page")))
	}, want: map[string]int64{"page": 0x3_0000_0000}},
	{name: "load is late", body: func(p *Program, v func(string) Arg) {
		number(p, 220).To(Addr(v("fd")))
		p.Call("close", unix.SYS_CLOSE, v("fd")).To(Addr(v("first")))
		p.Call("close", unix.SYS_CLOSE, v("fd")).To(Addr(v("second"))).Ignore()
	}, want: map[string]int64{"fd": 220, "first": 0, "second": ebadf}},
	{name: "copy", body: func(p *Program, v func(string) Arg) {
		number(p, 220).To(Addr(v("a")))
		p.Copy(v("a")).To(Addr(v("b")))
		p.Copy(v("a")).To(Record(OffInitStatus, "x"))
	}, want: map[string]int64{"a": 220, "b": 220}},
	{name: "copy through a pointer", body: func(p *Program, v func(string) Arg) {
		p.Copy(Load(p.Words("w", Int(1), Int(77)), 8, "w[1]")).To(Addr(v("b")))
	}, want: map[string]int64{"b": 77}},
	{name: "copy of an error is an error", body: func(p *Program, v func(string) Arg) {
		bad(p).Ignore().To(Addr(v("a")))
		p.Copy(v("a")).To(Addr(v("b")))
	}, code: 7, failed: 1, errno: ebadf, want: map[string]int64{"b": ebadf}},
	{name: "the smallest error and its neighbour", body: func(p *Program, v func(string) Arg) {
		p.Copy(wordVar(p, -4096)).To(Addr(v("a"))) // no error: error numbers end at 4095
		p.Copy(wordVar(p, -4095)).To(Addr(v("b")))
	}, code: 7, failed: 1, errno: -4095, want: map[string]int64{"a": -4096, "b": -4095}},
	{name: "check holds", body: func(p *Program, v func(string) Arg) {
		p.Check(p.Words("w", Int(0x1234)), 0xff, 0x34, "0x34").To(Addr(v("r")))
		number(p, 200).To(Addr(v("next")))
	}, want: map[string]int64{"r": 0, "next": 200}},
	{name: "check fails", body: func(p *Program, v func(string) Arg) {
		p.Check(p.Words("w", Int(0x1234)), 0xff, 0x35, "0x35").To(Addr(v("r")))
		number(p, 200).To(Addr(v("next")))
	}, code: 7, failed: 0, errno: estale, want: map[string]int64{"r": estale, "next": 0}},
	{name: "check sees all 64 bits", body: func(p *Program, v func(string) Arg) {
		p.Check(p.Words("w", Arg{value: 1<<63 | 5, show: "x"}), ^uint64(0), 5, "5")
	}, code: 7, failed: 0, errno: estale},
	{name: "check of what a call wrote", body: func(p *Program, v func(string) Arg) {
		uts := p.Bytes(make([]byte, 6*65), "&uts")
		p.Call("uname", unix.SYS_UNAME, uts).To(Addr(v("r")))
		p.Check(At(uts, 1, "uts.sysname+1"), 1<<40-1, binary.LittleEndian.Uint64([]byte("inux\x00\x00\x00\x00")), "inux")
	}, want: map[string]int64{"r": 0}},
	{name: "same", body: func(p *Program, v func(string) Arg) {
		p.Same(p.Words("a", Int(5)), p.Words("b", Int(5))).To(Addr(v("r")))
		number(p, 200).To(Addr(v("next")))
	}, want: map[string]int64{"r": 0, "next": 200}},
	{name: "not the same in the highest bit", body: func(p *Program, v func(string) Arg) {
		p.Same(p.Words("a", Int(5)), p.Words("b", Arg{value: 1<<63 | 5, show: "x"})).To(Addr(v("r")))
	}, code: 7, failed: 0, errno: estale, want: map[string]int64{"r": estale}},
	{name: "strings and pointers", body: func(p *Program, v func(string) Arg) {
		p.Call("prctl", unix.SYS_PRCTL, Flag(unix.PR_SET_NAME, "PR_SET_NAME"), p.Str("a name"))
		name := p.Words("name", Int(0), Int(0))
		p.Call("prctl", unix.SYS_PRCTL, Flag(unix.PR_GET_NAME, "PR_GET_NAME"), name)
		p.Copy(Load(name, 0, "name")).To(Addr(v("name")))
	}, want: map[string]int64{"name": int64(binary.LittleEndian.Uint64([]byte("a name\x00\x00")))}},
	{name: "a vector of what stands elsewhere", body: func(p *Program, v func(string) Arg) {
		// What writev(2) sends through a pipe comes out whole. The kernel
		// takes a descriptor as 32 bits, so a load may hold more.
		pipe, got := p.Words("pipe", Int(0), Int(0)), p.Bytes(make([]byte, 24), "got")
		p.Call("pipe2", unix.SYS_PIPE2, pipe, Int(0))
		p.Call("dup3", unix.SYS_DUP3, Load(pipe, 0, "pipe[0]"), Int(230), Int(0))
		p.Call("dup3", unix.SYS_DUP3, Load(pipe, 4, "pipe[1]"), Int(231), Int(0))
		iov := p.Words("iov", p.Str("from two"), Int(5), p.Str("places"), Int(6))
		p.Call("writev", unix.SYS_WRITEV, Int(231), iov, Int(2)).To(Addr(v("wrote")))
		p.Call("read", unix.SYS_READ, Int(230), got, Int(24)).To(Addr(v("read")))
		p.Check(got, ^uint64(0), binary.LittleEndian.Uint64([]byte("from pla")), "from pla")
	}, want: map[string]int64{"wrote": 11, "read": 11}},
	{name: "fork", ends: 2, body: func(p *Program, v func(string) Arg) {
		child := p.NewLabel()
		clone(p).To(Addr(v("pid"))).If(Int(0), child)
		p.Call("wait4", unix.SYS_WAIT4, v("pid"), Record(OffStatus, "&status"), Int(0), Int(0)).To(Addr(v("reaped")))
		p.Copy(v("reaped")).If(v("pid"), p.fail) // jumps there with no step having failed
		p.Mark(child)
		number(p, 250).To(Addr(v("child")))
	}, code: 7, failed: -1, masked: []string{"pid", "reaped"}, want: map[string]int64{"child": 0}},
	{name: "fork of a failing child", ends: 2, body: func(p *Program, v func(string) Arg) {
		child, done := p.NewLabel(), p.NewLabel()
		clone(p).To(Addr(v("pid"))).If(Int(0), child)
		p.Call("wait4", unix.SYS_WAIT4, Int(-1), Addr(v("status")), Int(0), Int(0)).To(Addr(v("reaped")))
		p.Call("wait4", unix.SYS_WAIT4, Int(-1), Int(0), Int(0), Int(0)).To(Addr(v("nobody"))).OnError(done)
		p.Mark(child)
		bad(p).To(Addr(v("child")))
		p.Mark(done)
	}, want: map[string]int64{"status": 7 << 8, "nobody": echildR, "child": 0}, masked: []string{"pid", "reaped"}},
}

// wordVar is a variable with a first value.
func wordVar(p *Program, n int) Arg { return Load(p.Words("word", Int(n)), 0, "word") }

func clone(p *Program) Op {
	return p.Call("clone", unix.SYS_CLONE, Flag(int(unix.SIGCHLD), "SIGCHLD"), Int(0), Int(0), Int(0), Int(0))
}

func (c program) build() (*Program, map[string]Arg) {
	vars := map[string]Arg{}
	p := assemble(func(p *Program) {
		c.body(p, func(name string) Arg {
			if _, ok := vars[name]; !ok {
				vars[name] = p.Var(name)
			}
			return vars[name]
		})
	})
	return p, vars
}

// Each program does what its operations say, carried out by the machine and by
// the slow twin alike.
// The machine goes on in a body that the boot maps, and fails there where the
// body says.
func TestMachineBody(t *testing.T) {
	for _, fails := range []bool{false, true} {
		p := &Program{}
		failed, body, bodyFailed := p.NewLabel(), p.NewLabel(), p.NewLabel()
		p.OnFailure(failed)
		p.Begin(RoleLauncher, "boot")
		p.Call("mmap", unix.SYS_MMAP, Flag(BodyBase, "body"), Int(BodyRoom), Int(unix.PROT_READ|unix.PROT_WRITE),
			Int(unix.MAP_PRIVATE|unix.MAP_FIXED), Int(3), Int(0)).Jump(body)
		p.Mark(failed)
		p.Call("exit_group", unix.SYS_EXIT_GROUP, Int(6))
		p.BeginBody()
		p.Mark(body)
		p.FailAt(bodyFailed)
		word := p.Var("word")
		number(p, 200).To(Addr(word))
		step := p.Len()
		if fails {
			bad(p)
		}
		p.Copy(word).To(Record(OffStatus, "status"))
		finish(p, 0)
		p.Mark(bodyFailed)
		finish(p, 7)
		boot, _ := p.encode()
		for _, o := range p.ops {
			if o.name == "dump" {
				p.args[o.args+2].value = uint64(len(boot))
			}
		}
		file, err := p.SealBody()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r := runImage(t, p, file)
		code, status := 0, uint64(200)
		if fails {
			code, status = 7, 0
		}
		if got := binary.LittleEndian.Uint64(r.memory[0][OffStatus:]); r.code != code || got != status {
			t.Errorf("fails %v: exit status %d and %d stored, want %d and %d", fails, r.code, got, code, status)
		}
		if i, ok := p.opAt(binary.LittleEndian.Uint64(r.memory[0][offFailedOp:])); fails && (!ok || i != step) {
			t.Errorf("step %d is said to have failed, want %d", i, step)
		}
	}
}

func TestMachine(t *testing.T) {
	for _, c := range programs {
		t.Run(c.name, func(t *testing.T) {
			p, vars := c.build()
			machine, twin := runMachine(t, p), runTwin(t, p)
			var masked []Arg
			for _, name := range c.masked {
				masked = append(masked, Addr(vars[name]))
			}
			if err := same(p, machine, twin, masked...); err != nil {
				t.Errorf("machine and twin: %v", err)
			}
			for name, r := range map[string]result{"machine": machine, "twin": twin} {
				if err := c.judge(p, vars, r); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func (c program) judge(p *Program, vars map[string]Arg, r result) error {
	if r.code != c.code || len(r.memory) != max(c.ends, 1) {
		return fmt.Errorf("exit status %d with %d ends, want %d with %d", r.code, len(r.memory), c.code, max(c.ends, 1))
	}
	for name, want := range c.want {
		if got := r.value(p, Addr(vars[name])); got != want {
			return fmt.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	at, errno := r.value(p, Record(offFailedOp, "")), r.value(p, Record(offFailedErr, ""))
	if c.code == 7 && c.failed >= 0 {
		if i, ok := p.opAt(uint64(at)); !ok || i != c.failed || errno != c.errno {
			return fmt.Errorf("step %d failed with %d, want %d with %d", i, errno, c.failed, c.errno)
		}
	} else if at != 0 || errno != 0 {
		return fmt.Errorf("the record says that %#x failed with %d", at, errno)
	}
	if pid, ok := vars["pid"]; ok && c.name == "store" && r.value(p, Addr(pid)) != int64(r.pid) {
		return fmt.Errorf("getpid gave %d, the process is %d", r.value(p, Addr(pid)), r.pid)
	}
	return nil
}
