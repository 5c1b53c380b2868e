package main

import (
	"slices"
	"testing"

	"github.com/bvisor/bvisor/spec"
)

// What a flag grants is never less closed than what it says: over every pair
// of grants for one place, rights are the union, and a carve-out stays one.
func TestRightsOfFlagsAddUp(t *testing.T) {
	abs := func(p string) string { return p }
	for _, c := range []struct {
		name string
		have []spec.Grant
		q    request
		want []spec.Grant
	}{
		{"one right", nil, request{read: []string{"/a"}}, []spec.Grant{grant("r", "/a")}},
		{"two flags", nil, request{read: []string{"/a"}, write: []string{"/a"}, exec: []string{"/a"}}, []spec.Grant{grant("rwx", "/a")}},
		{"with the file's", []spec.Grant{grant("rx", "/a", "/b")}, request{write: []string{"/a"}}, []spec.Grant{grant("rx", "/b"), grant("rwx", "/a")}},
		{"another spelling", []spec.Grant{grant("x", "/a/")}, request{read: []string{"/a/."}}, []spec.Grant{grant("rx", "/a/.")}},
		{"below is another place", []spec.Grant{grant("rx", "/a")}, request{write: []string{"/a/b"}}, []spec.Grant{grant("rx", "/a"), grant("rw", "/a/b")}},
		{"a carve-out stays", []spec.Grant{grant("none", "/a")}, request{read: []string{"/a"}}, []spec.Grant{grant("none", "/a"), grant("r", "/a")}},
		{"deny", []spec.Grant{grant("rx", "/a")}, request{deny: []string{"/a/b"}}, []spec.Grant{grant("rx", "/a"), grant("none", "/a/b")}},
		{"deny does not replace", []spec.Grant{grant("rx", "/a")}, request{deny: []string{"/a"}}, []spec.Grant{grant("rx", "/a"), grant("none", "/a")}},
		{"deny takes the default back", []spec.Grant{{Access: "rx", Paths: []string{"/a"}, Origin: spec.FromDefault}}, request{deny: []string{"/a"}}, nil},
	} {
		s := spec.Spec{Capabilities: spec.Capabilities{Filesystem: c.have}}
		before := slices.Clone(c.have)
		c.q.grants(&s, abs)
		if !slices.EqualFunc(s.Capabilities.Filesystem, c.want, sameGrant) {
			t.Errorf("%s: got %+v, want %+v", c.name, s.Capabilities.Filesystem, c.want)
		}
		if !slices.EqualFunc(c.have, before, sameGrant) {
			t.Errorf("%s: the spec's own grants were changed to %+v", c.name, c.have)
		}
	}
}

func grant(a spec.Access, paths ...string) spec.Grant {
	return spec.Grant{Access: a, Paths: paths, Origin: spec.FromSpec}
}

func sameGrant(a, b spec.Grant) bool {
	return a.Access == b.Access && slices.Equal(a.Paths, b.Paths) && a.Origin == b.Origin
}

// A terminal takes the place of the streams, whatever the file says of them.
func TestTerminalFlag(t *testing.T) {
	s := spec.Spec{Controls: spec.Controls{Stdin: spec.Stdin{Mode: spec.StdinFile, File: "/f"}, Capture: []spec.Capture{{Stream: "stdout", Limit: 5}, {Stream: "stderr", Limit: 7}}}}
	q := request{tty: true}
	q.merge(&s, "/")
	if c := s.Controls; c.Stdin != (spec.Stdin{Mode: spec.StdinTTY}) || !slices.Equal(c.Capture, []spec.Capture{{Stream: spec.StreamTTY, Limit: 7}}) || len(q.problems) > 0 {
		t.Errorf("got %+v, %v", c, q.problems)
	}
	q = request{tty: true, stdin: "none"}
	if q.merge(&s, "/"); len(q.problems) != 1 {
		t.Errorf("with --stdin: %v", q.problems)
	}
}

func TestValuesOfFlagsReplace(t *testing.T) {
	s := spec.Spec{
		Capabilities: spec.Capabilities{Environment: []spec.EnvEntry{{Name: "A", Value: "old"}, {Name: "B", Value: "kept"}}, Spawn: spec.SpawnProcesses, FDs: []int{5}},
		Controls:     spec.Controls{Temp: []spec.Temp{{Path: "/tmp", Access: "rw"}}, Stdin: spec.Stdin{Mode: spec.StdinInherit}},
		Budgets:      map[spec.Dimension]spec.Budget{spec.Wall: {Limit: 1, Guarantee: spec.Mediated, Evidence: []spec.Claim{spec.ResourceUsage}}},
	}
	q := request{net: []string{"loopback"}, env: []string{"A=new"}, spawn: "none", fds: []string{"3", "5"}, temp: []string{"/tmp:rwx"}, stdin: "input"}
	for i, b := range budgetFlags {
		if b.dimension == spec.Wall {
			q.budgets[i] = "2s"
		}
	}
	q.merge(&s, "/job")
	if len(q.problems) > 0 {
		t.Fatal(q.problems)
	}
	if e := s.Capabilities.Environment; !slices.Equal(e, []spec.EnvEntry{{Name: "A", Value: "new"}, {Name: "B", Value: "kept"}}) {
		t.Errorf("environment is %+v", e)
	}
	if s.Capabilities.Spawn != spec.SpawnNone || !slices.Equal(s.Capabilities.FDs, []int{3, 5}) {
		t.Errorf("spawn %q, descriptors %v", s.Capabilities.Spawn, s.Capabilities.FDs)
	}
	if !slices.Equal(s.Controls.Temp, []spec.Temp{{Path: "/tmp", Access: "rwx"}}) || s.Controls.Stdin != (spec.Stdin{Mode: spec.StdinFile, File: "/job/input"}) {
		t.Errorf("controls are %+v", s.Controls)
	}
	if n := s.Capabilities.Network; !n.Loopback || n.Allow != nil {
		t.Errorf("network is %+v", n)
	}
	wall := s.Budgets[spec.Wall]
	if wall.Limit != 2e9 || wall.Guarantee != spec.Mediated || len(wall.Evidence) != 1 || wall.Origin != spec.FromSpec {
		t.Errorf("wall is %+v", wall)
	}
}

// A flag that is not given changes nothing: a spec means the same alone.
func TestNoFlagNoChange(t *testing.T) {
	s := spec.Default("/job", []string{"true"})
	want := spec.Default("/job", []string{"true"})
	var q request
	q.merge(&s, "/job")
	if a, b := spec.Expand(s), spec.Expand(want); !slices.EqualFunc(a.Capabilities.Filesystem, b.Capabilities.Filesystem, sameGrant) ||
		!slices.Equal(a.Capabilities.Environment, b.Capabilities.Environment) || len(a.Budgets) != len(b.Budgets) || a.Controls.Artifacts != nil {
		t.Errorf("got %+v, want %+v", a, b)
	}
}
