//go:build amd64 || arm64

package launcher

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	printedStep = regexp.MustCompile(`^ +(\d+)  (?:&v(\d) = )?(\w+)\((.*)\)(?:  \[(.*)\])?$`)
	printedJump = regexp.MustCompile(`^(?:(\S+): )?go to (\d+)$`)
)

// readPrinted turns the first count lines of what Print writes back into
// steps. It knows the text and nothing of how a program is kept.
func readPrinted(t *testing.T, p *Program, count int) []step {
	t.Helper()
	var text strings.Builder
	if err := p.Print(&text); err != nil {
		t.Fatal(err)
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			t.Fatalf("%q is no number in\n%s", s, text.String())
		}
		return n
	}
	variable := func(s string) (int, bool) {
		name, ok := strings.CutPrefix(strings.TrimPrefix(s, "&"), "v")
		if !ok {
			return -1, false
		}
		return int(number(name)), true
	}
	var steps []step
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, " ") {
			continue // which process it is, and which phase
		}
		m := printedStep.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || int(number(m[1])) != len(steps) {
			t.Fatalf("cannot read %q", line)
		}
		if len(steps) == count {
			return steps
		}
		s := step{to: -1, expectVariable: -1}
		if m[2] != "" {
			s.to = int(number(m[2]))
		}
		args := strings.Split(m[4], ", ")
		switch s.act = uint8(slices.Index(actNames[:], m[3])); m[3] {
		case "check":
			s.act, s.mask, s.want = actCheck, number(args[1]), number(args[2])
			s.from, _ = variable(args[0])
		case "copy":
			s.act = actCopy
			s.from, _ = variable(args[0])
		case "dup3", "close":
			fd := args[len(args)/2] // dup3(0, fd, 0), close(fd)
			if v, ok := variable(fd); ok {
				s.from, s.loaded = v, true
			} else {
				s.fd = int(number(fd))
			}
		}
		for _, rule := range strings.FieldsFunc(m[5], func(r rune) bool { return r == ';' }) {
			rule = strings.TrimSpace(rule)
			if rule == "errors ignored" {
				s.ignore = true
				continue
			}
			jump := printedJump.FindStringSubmatch(rule)
			if jump == nil {
				t.Fatalf("cannot read %q in %q", rule, line)
			}
			s.target = int(number(jump[2])) - len(steps) - 1
			switch jump[1] {
			case "":
				s.jump = true
			case "error":
				s.onError = true
			default:
				s.cond = true
				if v, ok := variable(jump[1]); ok {
					s.expectVariable = v
				} else {
					s.expect = number(jump[1])
				}
			}
		}
		steps = append(steps, s)
	}
	t.Fatalf("%d of %d steps are printed:\n%s", len(steps), count, text.String())
	return nil
}
