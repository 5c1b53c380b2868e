package spec

func (v *validator) capture(s Spec) {
	seen := map[string]bool{}
	for i, c := range s.Controls.Capture {
		field := at("controls.capture", i)
		if _, err := ParseStream(c.Stream); !v.check(field, err) {
			continue
		}
		if seen[c.Stream] {
			v.check(field, &valueError{CodeDuplicate, c.Stream + " is captured twice", "keep one"})
		}
		switch tty := s.Controls.Stdin.Mode == StdinTTY; {
		case tty && c.Stream != StreamTTY:
			v.check(field, &valueError{CodeContradiction, c.Stream + " cannot be told from the rest of a terminal's output", `capture "tty" instead`})
		case !tty && c.Stream == StreamTTY:
			v.check(field, &valueError{CodeContradiction, "there is no terminal", `set stdin to "tty"`})
		}
		seen[c.Stream] = true
		if c.Limit != 0 { // 0 is filled by Expand
			v.check(field, checkLimit(c.Limit))
		}
	}
}

func (v *validator) stdin(s Spec) {
	const field = "controls.stdin"
	in := s.Controls.Stdin
	if in.Mode != "" {
		if _, err := oneOf("source of standard input", in.Mode, stdinModes); !v.check(field, err) {
			return
		}
	}
	switch {
	case in.Mode == StdinFile:
		v.check(field+".file", checkHostPath(in.File))
	case in.File != "":
		v.check(field, &valueError{CodeContradiction, "a file is named, but not read", `set the mode to "file"`})
	}
}

func (v *validator) temp(s Spec) {
	for i, t := range s.Controls.Temp {
		field := at("controls.temp", i)
		v.check(field+".path", checkDestination(t.Path))
		if t.Access != "" { // empty is filled by Expand
			v.check(field+".access", checkTempAccess(t.Access))
		}
	}
}

func (v *validator) expose(s Spec) {
	for i, e := range s.Controls.Expose {
		field := at("controls.expose", i)
		v.check(field+".source", checkHostPath(e.Source))
		v.check(field+".dest", checkDestination(e.Dest))
		a, err := ParseAccess(string(e.Access))
		if err == nil {
			err = canonical("access", string(e.Access), string(a))
		}
		if err == nil {
			err = checkExposeAccess(a)
		}
		v.check(field+".access", err)
	}
}

func (v *validator) artifacts(s Spec) {
	const field = "controls.artifacts"
	a := s.Controls.Artifacts
	if a == nil {
		return
	}
	if len(a.Paths) == 0 {
		v.check(field+".paths", badValue("", "the list is empty"))
	}
	for i, p := range a.Paths {
		v.check(at(field+".paths", i), checkHostPath(p))
	}
	if a.Commit != "" {
		_, err := oneOf("way to commit", a.Commit, commits)
		v.check(field+".commit", err)
	}
	if a.Durability != "" {
		_, err := oneOf("durability", a.Durability, durabilities)
		v.check(field+".durability", err)
	}
}

func (v *validator) kill(s Spec) {
	k := s.Controls.Kill
	if k.Tree != "" {
		_, err := oneOf("way to kill", k.Tree, killTrees)
		v.check("controls.kill.tree", err)
	}
	if k.Grace != 0 { // 0 is filled by Expand
		v.check("controls.kill.grace", checkLimit(int64(k.Grace)))
	}
}
