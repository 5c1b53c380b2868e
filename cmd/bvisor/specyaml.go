package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/terminal"
	"github.com/bvisor/bvisor/spec"
)

// specText writes a spec as YAML with a comment behind each grant that has one.
// Texts stand in JSON's quotes, which YAML reads the same way.
func specText(s spec.Spec, remark func(spec.Grant) string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version: %d", s.Version)
	w := s.Workload
	if w.Wasm != "" {
		line("workload: {wasm: %s, args: %s%s}", inQuotes(w.Wasm), inBrackets(w.Args), member("dir", w.Dir))
	} else {
		line("workload: {command: %s%s}", inBrackets(w.Command), member("dir", w.Dir))
	}
	line("presets: %s", inBrackets(s.Presets))
	line("capabilities:")
	line("  filesystem:%s", emptyList(s.Capabilities.Filesystem))
	for _, g := range s.Capabilities.Filesystem {
		extra := ""
		if g.NonRecursive {
			extra += ", recursive: false"
		}
		if g.Optional {
			extra += ", optional: true"
		}
		if text := remark(g); text != "" {
			line("    # %s", comment(text))
		}
		line("    - {access: %s, paths: %s%s}", g.Access, inBrackets(g.Paths), extra)
	}
	switch n := s.Capabilities.Network; {
	case len(n.Allow) > 0:
		line("  network: {allow: %s}", inBrackets(n.Allow))
	case n.Loopback:
		line("  network: %s", spec.NetworkLoopback)
	default:
		line("  network: none")
	}
	line("  environment:%s", emptyMap(s.Capabilities.Environment))
	for _, e := range s.Capabilities.Environment {
		if e.Lease != "" {
			line("    %s: {lease: %s}", inQuotes(e.Name), inQuotes(e.Lease))
		} else {
			line("    %s: %s", inQuotes(e.Name), inQuotes(e.Value))
		}
	}
	if s.Capabilities.Spawn != "" {
		line("  spawn: %s", s.Capabilities.Spawn)
	}
	if len(s.Capabilities.FDs) > 0 {
		line("  fds: %s", jsonText(s.Capabilities.FDs))
	}
	if s.Capabilities.Clock != "" {
		line("  clock: %s", s.Capabilities.Clock)
	}
	if s.Capabilities.Random != "" {
		line("  random: %s", s.Capabilities.Random)
	}
	controlsText(line, s.Controls)
	if len(s.Budgets) > 0 {
		line("budgets:")
		for _, d := range spec.Dimensions {
			if bound, ok := s.Budgets[d]; ok {
				rate := ""
				if bound.Rate != 0 {
					rate = ", rate: " + spec.RateWords(bound.Rate)
				}
				line("  %s: {limit: %s%s, guarantee: %s, evidence: %s}", d, amountText(d, bound.Limit), rate, guaranteeText(bound.Guarantee), inBrackets(bound.Evidence))
			}
		}
	}
	line("evidence: %s", inBrackets(s.Evidence))
	line("accept: %s", inBrackets(s.Accept))
	return b.String()
}

func controlsText(line func(string, ...any), c spec.Controls) {
	var capture, temp []string
	for _, s := range c.Capture {
		capture = append(capture, fmt.Sprintf("%s: %d", s.Stream, max(s.Limit, 1)))
	}
	for _, t := range c.Temp {
		temp = append(temp, fmt.Sprintf("{path: %s, access: %s}", inQuotes(t.Path), t.Access))
	}
	line("controls:")
	line("  capture: {%s}", strings.Join(capture, ", "))
	switch c.Stdin.Mode {
	case spec.StdinFile:
		line("  stdin: {file: %s}", inQuotes(c.Stdin.File))
	case spec.StdinInherit, spec.StdinTTY:
		line("  stdin: %s", c.Stdin.Mode)
	default:
		line("  stdin: none")
	}
	line("  temp: [%s]", strings.Join(temp, ", "))
	if len(c.Expose) > 0 {
		line("  expose:")
		for _, e := range c.Expose {
			line("    - {source: %s, dest: %s, access: %s}", inQuotes(e.Source), inQuotes(e.Dest), e.Access)
		}
	}
	if a := c.Artifacts; a != nil {
		line("  artifacts: {paths: %s, commit: %s, durability: %s}", inBrackets(a.Paths), a.Commit, a.Durability)
	}
	if c.Kill.Grace > 0 {
		line("  kill: {tree: atomic, grace: %dns}", int64(c.Kill.Grace))
	}
}

func amountText(d spec.Dimension, n int64) string {
	if d == spec.Wall || d == spec.CPU {
		return fmt.Sprintf("%dns", n)
	}
	return fmt.Sprint(n)
}

func guaranteeText(e spec.Enforcement) string {
	if e == spec.Mediated {
		return "mediated"
	}
	return "enforced"
}

// comment makes a text fit for a comment: one line of visible characters.
func comment(text string) string { return terminal.SanitizeMax(text, 4096) }

func member(name, value string) string {
	if value == "" {
		return ""
	}
	return ", " + name + ": " + inQuotes(value)
}

func emptyList[T any](list []T) string {
	if len(list) == 0 {
		return " []"
	}
	return ""
}

func emptyMap[T any](list []T) string {
	if len(list) == 0 {
		return " {}"
	}
	return ""
}

func inBrackets[S ~string](list []S) string {
	quoted := make([]string, 0, len(list))
	for _, s := range list {
		quoted = append(quoted, inQuotes(string(s)))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func inQuotes(s string) string { return jsonText(s) }

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("bug: " + err.Error()) // strings and numbers always encode
	}
	return string(text)
}

// sameSpec says whether two specs ask for the same, whoever asks for it.
func sameSpec(a, b spec.Spec) bool {
	x, errX := canonical.Marshal(spec.Expand(asWritten(a)))
	y, errY := canonical.Marshal(spec.Expand(asWritten(b)))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// asWritten is a spec as if all of it stood in a file.
func asWritten(s spec.Spec) spec.Spec {
	s.Capabilities.Filesystem = slices.Clone(s.Capabilities.Filesystem)
	for i := range s.Capabilities.Filesystem {
		s.Capabilities.Filesystem[i].Origin = spec.FromSpec
	}
	s.Budgets = maps.Clone(s.Budgets)
	for d, b := range s.Budgets {
		b.Origin = spec.FromSpec
		s.Budgets[d] = b
	}
	return s
}
