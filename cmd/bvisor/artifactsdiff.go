package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/bvisor/bvisor/internal/quarantine"
	"github.com/bvisor/bvisor/internal/terminal"
)

// maxText is the size up to which a text is compared line by line.
const maxText = 1 << 20

func (c *cli) diffArtifacts(args []string) error {
	state, h, paths, err := c.held(args)
	if err != nil {
		return err
	}
	defer state.Log.Close()
	d := &differ{out: bufio.NewWriter(c.stdout), color: colors(c.stdout), onTerminal: isTerminal(c.stdout)}
	err = eachHeld(h, paths, func(tree int, m *quarantine.Manifest, rel string, e *quarantine.Entry) error {
		data, err := quarantine.Data(h.Dir, tree)
		if err != nil {
			data = nil // discarded, or in place; what can be said without it is said
		} else {
			defer data.Close()
		}
		d.entry(m, data, rel, e)
		return nil
	})
	if e := d.out.Flush(); e != nil && err == nil {
		err = fault("standard output: %w", e)
	}
	return err
}

type differ struct {
	out        *bufio.Writer
	color      bool
	onTerminal bool
}

const (
	diffBold  = "\x1b[1m"
	diffRed   = "\x1b[31m"
	diffGreen = "\x1b[32m"
	diffCyan  = "\x1b[36m"
	diffReset = "\x1b[0m"
)

func (d *differ) paint(color, text string) string {
	if !d.color {
		return text
	}
	return color + text + diffReset
}

func (d *differ) note(format string, args ...any) {
	fmt.Fprintln(d.out, d.paint(diffBold, fmt.Sprintf(format, args...)))
}

// entry shows one change. Names and, on a terminal, lines are the workload's,
// so they are made safe.
func (d *differ) entry(m *quarantine.Manifest, data *os.File, rel string, e *quarantine.Entry) {
	name := terminal.Sanitize(rel)
	d.note("%s %s%s", e.Act, name, reason(e))
	if e.Act == quarantine.Refused {
		return
	}
	if e.Late {
		d.note("  the host changed it while the run was on")
	}
	if e.Before != nil && e.After != nil && e.Before.Mode != e.After.Mode && e.Before.Type == e.After.Type {
		d.note("  mode %s, was %s", e.After.Mode, e.Before.Mode)
	}
	was, now := e.Before, e.After
	switch {
	case now != nil && now.Type == quarantine.Link || was != nil && was.Type == quarantine.Link:
		d.summary(was, now)
	case now != nil && now.Type == quarantine.Directory || was != nil && was.Type != quarantine.File:
		if was != nil && now != nil && was.Type != now.Type {
			d.summary(was, now)
		}
	default:
		d.file(m, data, rel, name, e)
	}
}

func reason(e *quarantine.Entry) string {
	if e.Why != "" {
		return ": " + e.Why
	}
	return ""
}

// file compares two files, if both are text.
func (d *differ) file(m *quarantine.Manifest, data *os.File, rel, name string, e *quarantine.Entry) {
	if e.Before != nil && e.After != nil && e.Before.SHA256 == e.After.SHA256 {
		return // only its mode
	}
	old, now, why := sides(m, data, rel, e)
	if why != "" {
		d.note("  %s", why)
		d.summary(e.Before, e.After)
		return
	}
	a, b := "a/"+name, "b/"+name
	if e.Before == nil {
		a = "/dev/null"
	}
	if e.After == nil {
		b = "/dev/null"
	}
	fmt.Fprintln(d.out, d.paint(diffBold, "--- "+a))
	fmt.Fprintln(d.out, d.paint(diffBold, "+++ "+b))
	unified(d.out, compare(splitLines(old), splitLines(now)), d.line)
}

func (d *differ) line(kind byte, line []byte) string {
	text := string(line)
	if d.onTerminal {
		text = visible(text)
	}
	switch kind {
	case '@':
		return d.paint(diffCyan, text)
	case '-':
		return d.paint(diffRed, "-"+text)
	case '+':
		return d.paint(diffGreen, "+"+text)
	}
	return " " + text
}

// visible makes a line of a file safe for a terminal: tabs stay.
func visible(line string) string {
	parts := strings.Split(line, "\t")
	for i := range parts {
		parts[i] = fit(parts[i])
	}
	return strings.Join(parts, "\t")
}

// sides are the two texts; why says why they cannot be compared.
func sides(m *quarantine.Manifest, data io.ReaderAt, rel string, e *quarantine.Entry) (old, now []byte, why string) {
	var err error
	if s := e.After; s != nil {
		if data == (*os.File)(nil) {
			return nil, nil, "it is not held any more"
		}
		if now, err = quarantine.Contents(data, s, maxText); err != nil {
			return nil, nil, err.Error()
		}
	}
	if s := e.Before; s != nil {
		if old, err = m.Host(rel, maxText); err != nil {
			return nil, nil, "the host's: " + err.Error()
		}
		if s.SHA256 != "" && quarantine.Digest(old) != s.SHA256 {
			return nil, nil, "the host has changed it since"
		}
	}
	if !isText(old) || !isText(now) {
		return nil, nil, "no text"
	}
	return old, now, ""
}

func isText(b []byte) bool { return !bytes.ContainsRune(b, 0) && utf8.Valid(b) }

// summary says what can be said of anything.
func (d *differ) summary(was, now *quarantine.State) {
	for _, s := range []struct {
		sign  string
		color string
		state *quarantine.State
	}{{"-", diffRed, was}, {"+", diffGreen, now}} {
		if s.state == nil {
			continue
		}
		text := string(s.state.Type)
		switch s.state.Type {
		case quarantine.File:
			text += fmt.Sprintf(" of %d bytes, sha256 %s", s.state.Size, s.state.SHA256)
		case quarantine.Link:
			text += " -> " + terminal.Sanitize(raw(s.state.Target))
		}
		fmt.Fprintln(d.out, d.paint(s.color, s.sign+text))
	}
}
