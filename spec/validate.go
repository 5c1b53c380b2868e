package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/bvisor/bvisor/internal/strictyaml"
)

// Validate checks every rule that needs no file system. The error is an *Error
// with everything that is wrong. Rules over paths compare their text; call it
// again after Rebase, which makes all of them comparable.
func Validate(s Spec) error {
	var v validator
	for _, c := range checks {
		c.run(&v, s)
	}
	if len(v.problems) == 0 {
		return nil
	}
	return &Error{v.problems}
}

// checks are all of Validate. reads names the fields a check looks at: Parse
// leaves it out when one of them could not be read.
var checks = []struct {
	reads []string
	run   func(*validator, Spec)
}{
	{[]string{"version"}, (*validator).version},
	{[]string{"workload"}, (*validator).workload},
	{[]string{"presets"}, (*validator).presets},
	{[]string{"capabilities.filesystem"}, (*validator).grants},
	{[]string{"capabilities.network"}, (*validator).network},
	{[]string{"capabilities.environment"}, (*validator).environment},
	{[]string{"capabilities.spawn"}, (*validator).spawn},
	{[]string{"capabilities.fds"}, (*validator).descriptors},
	{[]string{"capabilities.clock"}, (*validator).clock},
	{[]string{"capabilities.random"}, (*validator).random},
	{[]string{"controls.capture"}, (*validator).capture},
	{[]string{"controls.stdin"}, (*validator).stdin},
	{[]string{"controls.temp"}, (*validator).temp},
	{[]string{"controls.expose"}, (*validator).expose},
	{[]string{"controls.artifacts"}, (*validator).artifacts},
	{[]string{"controls.kill"}, (*validator).kill},
	{[]string{"budgets"}, (*validator).budgets},
	{[]string{"evidence"}, (*validator).evidence},
	{[]string{"accept"}, (*validator).accept},
	{[]string{"presets", "capabilities.filesystem", "controls.temp", "controls.expose", "controls.artifacts"}, (*validator).places},
}

type validator struct {
	problems []Problem
}

// check reports err, if there is one, as a problem of field.
func (v *validator) check(field string, err error) bool {
	if err != nil && len(v.problems) < strictyaml.MaxProblems {
		v.problems = append(v.problems, problemOf(err, field))
	}
	return err == nil
}

func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func (v *validator) version(s Spec) { v.check("version", checkVersion(int64(s.Version))) }

func (v *validator) workload(s Spec) {
	w := s.Workload
	switch {
	case len(w.Command) == 0 && w.Wasm == "":
		v.check("workload", &valueError{CodeMissing, "neither command nor wasm is set, expected one", ""})
	case len(w.Command) > 0 && w.Wasm != "":
		v.check("workload", &valueError{CodeContradiction, "command and wasm are both set, expected one", ""})
	}
	if len(w.Args) > 0 && w.Wasm == "" {
		v.check("workload.args", &valueError{CodeContradiction, "args belong to wasm", "put them into command"})
	}
	if len(w.Command) > 0 && w.Command[0] == "" {
		v.check("workload.command[0]", badValue("", "the program's name is empty"))
	}
	v.arguments("workload.command", w.Command)
	v.arguments("workload.args", w.Args)
	if w.Dir != "" {
		v.check("workload.dir", checkHostPath(w.Dir))
	}
	if w.Wasm != "" {
		v.check("workload.wasm", checkHostPath(w.Wasm))
	}
}

func (v *validator) arguments(field string, args []string) {
	total := 0
	for i, a := range args {
		total += len(a) + 1
		v.check(at(field, i), checkNoNUL("argument", a))
	}
	if total > MaxArgBytes {
		v.check(field, tooMuch("", "the arguments have %d bytes, expected at most %d", total, MaxArgBytes))
	}
}

func (v *validator) presets(s Spec) {
	for i, name := range s.Presets {
		_, err := ParsePreset(name)
		v.check(at("presets", i), err)
	}
}

func (v *validator) grants(s Spec) {
	for i, g := range s.Capabilities.Filesystem {
		field := at("capabilities.filesystem", i)
		a, err := ParseAccess(string(g.Access))
		if err == nil {
			err = canonical("access", string(g.Access), string(a))
		}
		v.check(field+".access", err)
		if len(g.Paths) == 0 {
			v.check(field+".paths", badValue("", "the list is empty"))
		}
		for j, p := range g.Paths {
			v.check(at(field+".paths", j), checkHostPath(p))
		}
		if g.Access == AccessNone && g.NonRecursive {
			v.check(field+".recursive", &valueError{CodeContradiction, "a carve-out always covers the tree below it", "leave recursive out"})
		}
		if g.Access == AccessNone && g.Optional {
			v.check(field+".optional", &valueError{CodeContradiction, "a carve-out holds for a path that does not exist, too", "leave optional out"})
		}
	}
}

func canonical(what, got, want string) error {
	if got != want {
		return badValue("write "+quote(want), "%s %s is not in its canonical form", what, quote(got))
	}
	return nil
}

func (v *validator) network(s Spec) {
	const field = "capabilities.network.allow"
	if s.Capabilities.Network.Loopback && len(s.Capabilities.Network.Allow) > 0 {
		v.check("capabilities.network", &valueError{CodeContradiction, "loopback and a list of what may be reached are both set, expected one", ""})
	}
	seen := map[string]int{}
	for i, rule := range s.Capabilities.Network.Allow {
		c, err := ParseNetworkRule(rule)
		if err == nil {
			err = canonical("network rule", rule, c)
		}
		if !v.check(at(field, i), err) {
			continue
		}
		other := rule + "/tcp"
		if base, ok := strings.CutSuffix(rule, "/tcp"); ok {
			other = base
		}
		if j, ok := seen[other]; ok {
			v.check(at(field, i), &valueError{CodeContradiction,
				fmt.Sprintf("%s is allowed with and without \"/tcp\"", quote(rule)), "the other one is " + at(field, j) + "; keep one"})
		}
		seen[rule] = i
	}
}

func (v *validator) environment(s Spec) {
	const field = "capabilities.environment"
	entries := s.Capabilities.Environment
	if len(entries) > MaxEnvEntries {
		v.check(field, tooMuch("", "%d variables, expected at most %d", len(entries), MaxEnvEntries))
	}
	total := 0
	seen := map[string]bool{}
	for _, e := range entries {
		total += len(e.Name) + len(e.Value) + 2
		here := strictyaml.Join(field, e.Name)
		if !v.check(here, checkEnvName(e.Name)) {
			continue
		}
		if seen[e.Name] {
			v.check(here, &valueError{CodeDuplicate, "variable " + quote(e.Name) + " is set twice", "keep one"})
		}
		seen[e.Name] = true
		if e.Lease == "" {
			v.check(here, checkNoNUL("value", e.Value))
			continue
		}
		if e.Value != "" {
			v.check(here, &valueError{CodeContradiction, "a value and a lease are both set, expected one", ""})
		}
		v.check(here, checkLease(e.Lease))
	}
	if total > MaxEnvBytes {
		v.check(field, tooMuch("", "the environment has %d bytes, expected at most %d", total, MaxEnvBytes))
	}
}

func (v *validator) spawn(s Spec) {
	if s.Capabilities.Spawn != "" {
		_, err := ParseSpawn(string(s.Capabilities.Spawn))
		v.check("capabilities.spawn", err)
	}
}

func (v *validator) descriptors(s Spec) {
	seen := map[int]bool{}
	for i, n := range s.Capabilities.FDs {
		_, err := ParseFD(n)
		if err == nil && seen[n] {
			err = &valueError{CodeDuplicate, fmt.Sprintf("descriptor %d is named twice", n), "keep one"}
		}
		seen[n] = true
		v.check(at("capabilities.fds", i), err)
	}
}

func (v *validator) clock(s Spec) {
	if c := s.Capabilities.Clock; c != "" {
		_, err := ParseClock(string(c))
		v.check("capabilities.clock", err)
	}
}

func (v *validator) random(s Spec) {
	if r := s.Capabilities.Random; r != "" {
		_, err := ParseRandom(string(r))
		v.check("capabilities.random", err)
	}
}

func (v *validator) budgets(s Spec) {
	for _, d := range slices.Sorted(maps.Keys(s.Budgets)) {
		field := strictyaml.Join("budgets", string(d))
		if _, err := ParseDimension(string(d)); !v.check(field, err) {
			continue
		}
		b := s.Budgets[d]
		v.check(field, checkLimit(b.Limit))
		switch {
		case b.Rate != 0 && d != CPU:
			v.check(field+".rate", badValue("take it out", "only cpu has a rate"))
		case b.Rate < 0 || b.Rate%10 != 0 || b.Rate > 999999*10:
			v.check(field+".rate", badValue("write it in whole percents", "rate %d is no number of percents", b.Rate))
		}
		if b.Guarantee < Unsupported || b.Guarantee > Enforced {
			v.check(field, badValue("", "no guarantee has the number %d", int(b.Guarantee)))
		}
		v.claims(field+".evidence", b.Evidence)
	}
}

func (v *validator) evidence(s Spec) { v.claims("evidence", s.Evidence) }

func (v *validator) claims(field string, claims []Claim) {
	for i, c := range claims {
		_, err := ParseClaim(string(c))
		v.check(at(field, i), err)
	}
}

func (v *validator) accept(s Spec) {
	for i, w := range s.Accept {
		_, err := ParseWeakening(string(w))
		v.check(at("accept", i), err)
	}
}
