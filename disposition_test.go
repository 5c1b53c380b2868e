package bvisor

import (
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
)

// Whatever entries say: decisions are numbered without gaps, or it is an error.
func FuzzDecisions(f *testing.F) {
	entry := func(n int, phase string) []byte {
		b, err := canonical.Marshal(Disposition{Version: 1, Attempt: "0", Number: n, Phase: phase, Action: Commit, Time: "t"})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(entry(0, Decided), entry(0, Applied), entry(1, Decided))
	f.Add(entry(0, Decided), entry(0, Failed), entry(0, Applied))
	f.Add(entry(1, Decided), entry(0, Applied), []byte("{}"))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		list, err := decisions([][]byte{a, b, c})
		if err != nil {
			return
		}
		for i, d := range list {
			if d.Number != i {
				t.Fatalf("decision %d has the number %d", i, d.Number)
			}
		}
	})
}

func TestDecisionsOfTheLedger(t *testing.T) {
	entry := func(n int, phase string) []byte {
		b, err := canonical.Marshal(Disposition{Version: 1, Attempt: "0", Number: n, Phase: phase, Action: Commit, Time: "t"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		entries [][]byte
		want    []string // phases; nil is an error
	}{
		{[][]byte{entry(0, Decided)}, []string{Decided}},
		{[][]byte{entry(0, Decided), entry(0, Failed), entry(0, Applied), entry(1, Decided)}, []string{Failed, Decided}},
		{[][]byte{entry(0, Applied)}, nil},
		{[][]byte{entry(1, Decided)}, nil},
		{[][]byte{entry(0, Decided), entry(0, Decided)}, nil},
		{[][]byte{[]byte("x")}, nil},
	} {
		list, err := decisions(c.entries)
		if (err == nil) != (c.want != nil) || len(list) != len(c.want) {
			t.Errorf("%s: got %+v, %v", c.entries, list, err)
			continue
		}
		for i := range list {
			if list[i].Phase != c.want[i] {
				t.Errorf("%s: decision %d is %s", c.entries, i, list[i].Phase)
			}
		}
	}
}
