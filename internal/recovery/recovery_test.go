package recovery

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/bvisor/bvisor/internal/canonical"
)

func TestDecide(t *testing.T) {
	process, leaf := Trace{TraceProcess, "7"}, Trace{TraceGroup, "leaf"}
	quarantine, placeholder := Trace{TraceQuarantine, "q"}, Trace{TracePlaceholder, "/p"}
	all := []Trace{process, leaf, quarantine, placeholder}
	in := func(boot string) Said { return Said{Intent: Intent{Supervisor: Process{Boot: boot}}} }
	for name, c := range map[string]struct {
		said  Said
		found Found
		want  Decision
	}{
		"it lives":                 {in("now"), Found{"now", Alive, "", nil}, Decision{Outcome: Running}},
		"it lives, with processes": {in("now"), Found{"now", Alive, "", all}, Decision{Outcome: Running}},
		"gone, nothing left":       {in("now"), Found{"now", Gone, "", nil}, Decision{Outcome: Absent}},
		"gone, all left":           {in("now"), Found{"now", Gone, "", all}, Decision{RolledBack, all, ""}},
		"gone, a placeholder left": {in("now"), Found{"now", Gone, "", all[3:]}, Decision{RolledBack, all[3:], ""}},
		"unknown": {in("now"), Found{"now", Unknown, "another namespace", all},
			Decision{Outcome: Refused, Why: "it is not known whether its supervisor lives: another namespace"}},
		"another boot, nothing left": {in("then"), Found{"now", Gone, "", nil}, Decision{Outcome: Absent}},
		// The number may be another's by now.
		"another boot, its number lives": {in("then"), Found{"now", Alive, "", nil}, Decision{Outcome: Absent}},
		"another boot, files left":       {in("then"), Found{"now", Unknown, "", all[2:]}, Decision{RolledBack, all[2:], ""}},
		"another boot, a process": {in("then"), Found{"now", Gone, "", all},
			Decision{Outcome: Refused, Why: "there is process 7 of it, though the machine was started since"}},
		"another boot, a leaf": {in("then"), Found{"now", Gone, "", all[1:]},
			Decision{Outcome: Refused, Why: "there is cgroup leaf of it, though the machine was started since"}},
		"no boot then":  {in(""), Found{"now", Gone, "", nil}, Decision{Outcome: Refused, Why: "it is not known whether the machine was started since"}},
		"no boot now":   {in("now"), Found{"", Gone, "", nil}, Decision{Outcome: Refused, Why: "it is not known whether the machine was started since"}},
		"unreadable":    {Said{Bad: errors.New("no intent")}, Found{"now", Gone, "", nil}, Decision{Outcome: Refused, Why: "no intent"}},
		"ended":         {Said{Intent: in("now").Intent, Ended: true}, Found{"now", Gone, "", all}, Decision{Outcome: Completed}},
		"ended, lives":  {Said{Intent: in("now").Intent, Ended: true}, Found{"now", Alive, "", nil}, Decision{Outcome: Completed}},
		"nothing known": {Said{}, Found{}, Decision{Outcome: Refused, Why: "it is not known whether the machine was started since"}},
	} {
		for range 2 {
			if got := Decide(c.said, c.found); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: %+v, expected %+v", name, got, c.want)
			}
		}
	}
}

func TestIntentHasOneEncoding(t *testing.T) {
	i := Intent{Version: IntentVersion, Attempt: "a", Supervisor: Self(), Placeholders: []string{"/a b"}}
	b, err := canonical.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIntent(b)
	if err != nil || !reflect.DeepEqual(got, i) {
		t.Errorf("%+v, %v", got, err)
	}
	i.Version++
	if b, err = canonical.Marshal(i); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseIntent(b); err == nil {
		t.Error("another version is read")
	}
}

func TestParseStat(t *testing.T) {
	line := "12 (a) b (c) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 18 4711 20 21"
	if s, ok := ParseStat([]byte(line)); !ok || s != (Stat{"Z", "3", "4711"}) {
		t.Errorf("%+v, %v", s, ok)
	}
	for _, bad := range []string{"", "12 (a", "12 (a) S 1"} {
		if s, ok := ParseStat([]byte(bad)); ok {
			t.Errorf("%q: %+v", bad, s)
		}
	}
	if _, err := os.Stat("/proc/self/stat"); err == nil && (Self().Start == "" || Self().Mark() == (Process{}).Mark()) {
		t.Errorf("this process: %+v", Self())
	}
}
