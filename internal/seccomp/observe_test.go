package seccomp

import (
	"slices"
	"testing"
)

// The observer tells of exactly the calls that name something, and refuses
// nothing, whatever the number and the architecture.
func TestObserverOnlyLooks(t *testing.T) {
	for _, arch := range []string{AMD64, ARM64} {
		f, err := CompileObserver(arch)
		if err != nil {
			t.Fatal(err)
		}
		again, err := CompileObserver(arch)
		if err != nil || !slices.Equal(f, again) {
			t.Errorf("%s: compiled twice, the observer differs (%v)", arch, err)
		}
		watched := ObservedByNumber(arch)
		for nr := range uint32(1 << 10) {
			for _, args := range [][6]uint64{{}, {1, 1, 1, 1, 1, 1}, {2: atEmptyPath}, {3: atEmptyPath}, {4: 1 << 40}} {
				d := Data{Number: nr, Arch: NativeArch(arch), Args: args}
				got, err := Run(f, d)
				if err != nil {
					t.Fatal(err)
				}
				w, told := watched[nr]
				switch a := w.unless; {
				case !told || a.arg == None:
				case a.bits != 0:
					told = args[a.arg]&uint64(a.bits) == 0
				default:
					told = args[a.arg] != 0
				}
				want := ActionAllow
				if told {
					want = ActionNotify
				}
				if got != want {
					t.Errorf("%s: %s%v: %s, expected %s", arch, Name(arch, nr), args, actionText(got), actionText(want))
				}
				for _, other := range []Data{{Number: nr | 0x40000000, Arch: d.Arch}, {Number: nr, Arch: 0x40000003}} {
					if got, err := Run(f, other); err != nil || got != ActionAllow {
						t.Errorf("%s: %+v: %s (%v), expected allow", arch, other, actionText(got), err)
					}
				}
			}
		}
	}
	if _, err := CompileObserver("mips"); err == nil {
		t.Error("an observer for another architecture was compiled")
	}
}

// What the observer is told of is what the policy lets through to paths and
// addresses: every other call of it is refused before anybody could look.
func TestObservedCallsAreAllowed(t *testing.T) {
	list, err := Explain(Options{Arch: AMD64, Spawn: SpawnProcesses, SocketFamilies: []uint16{AFUnix}})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range Observed {
		i := slices.IndexFunc(list, func(e Explanation) bool { return e.Call == w.Call })
		if i < 0 || list[i].Action == "EPERM" || list[i].Action == "ENOSYS" {
			t.Errorf("%s is observed and always refused: nothing would ever be seen of it", w.Call)
		}
	}
}
