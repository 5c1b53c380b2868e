//go:build amd64 || arm64

package hostmatrix

import (
	"regexp"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/spec"
)

var acceptToken = regexp.MustCompile(`accept "([a-z-]+)"`)

// accepting begins a change that gives something up by name.
const accepting = "accept "

// edit is what a remedy says to change in a spec, other than what it accepts.
type edit struct {
	says   string // in the remedy
	name   string // for people
	change func(*spec.Spec)
}

var edits = []edit{
	{"take the carve-out out", "no carve-out", func(s *spec.Spec) {
		s.Capabilities.Filesystem = slices.DeleteFunc(s.Capabilities.Filesystem, func(g spec.Grant) bool { return g.Access == spec.AccessNone })
	}},
	{"use network: none", "network: none", func(s *spec.Spec) { s.Capabilities.Network = spec.Network{} }},
	{"allow spawn: threads or spawn: processes", "spawn: processes", func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnProcesses }},
	{"use spawn: none or spawn: processes", "spawn: processes", func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnProcesses }},
	{"use spawn: none or spawn: threads", "spawn: threads", func(s *spec.Spec) { s.Capabilities.Spawn = spec.SpawnThreads }},
	{"use stdin: inherit, and capture stdout and stderr", "stdin: inherit", func(s *spec.Spec) {
		s.Controls.Stdin = spec.Stdin{Mode: spec.StdinInherit}
		s.Controls.Capture = []spec.Capture{{Stream: "stdout", Limit: spec.DefaultCapture}, {Stream: "stderr", Limit: spec.DefaultCapture}}
	}},
	{"take the path out of controls.temp", "no temp", func(s *spec.Spec) { s.Controls.Temp = nil }},
	{"take the path out of controls.expose", "no expose", func(s *spec.Spec) { s.Controls.Expose = nil }},
	{"out of evidence", "no such evidence", func(s *spec.Spec) {
		s.Evidence = slices.DeleteFunc(s.Evidence, func(c spec.Claim) bool { return c == spec.DeniedAttempts })
	}},
}

// remedy does what the reasons' remedies say about the spec, and says what it
// did. What is given up by name goes before what is left out.
func remedy(s *spec.Spec, reasons []plan.Reason) []string {
	var did []string
	for _, r := range reasons {
		accepted := false
		for _, m := range acceptToken.FindAllStringSubmatch(r.Remedy, -1) {
			accepted = true
			if name := spec.Weakening(m[1]); !slices.Contains(s.Accept, name) {
				s.Accept = append(s.Accept, name)
				did = append(did, accepting+m[1])
			}
		}
		if accepted {
			continue
		}
		d, ok := strings.CutPrefix(string(r.Requirement), "budget.")
		if ok && strings.Contains(r.Remedy, "set budgets."+d+".guarantee to mediated") {
			b := s.Budgets[spec.Dimension(d)]
			b.Guarantee = spec.Mediated
			s.Budgets[spec.Dimension(d)] = b
			did = append(did, "guarantee: mediated")
			continue
		}
		if ok && strings.Contains(r.Remedy, "take budgets."+d+" out") {
			delete(s.Budgets, spec.Dimension(d))
			did = append(did, "no budget")
			continue
		}
		for _, e := range edits {
			if strings.Contains(r.Remedy, e.says) {
				e.change(s)
				did = append(did, e.name)
				break
			}
		}
	}
	return slices.Compact(did)
}
