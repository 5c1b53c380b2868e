package plan

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/bvisor/bvisor/spec"
)

// want is one thing the boundary must hold, before anything is known about who
// holds it.
type want struct {
	kind        Kind
	origin      spec.Origin
	subject     string // what a reason is about: a path, a dimension
	params      []Param
	features    []string         // of the kind, that a way may lack
	enforcement spec.Enforcement // at least
	evidence    claimSet         // at least; budgets only
	dimension   spec.Dimension   // empty for all but budgets
	limit       int64            // budgets only
	minimum     int64            // budgets only: less than this cannot even start
	because     string           // budgets only: what the minimum is made of
}

// wants turns a request into everything its boundary must hold, in the fixed
// order of the plan. Silence asks for denial: there is a want for the network,
// for spawning, for the environment and so on whether or not the spec mentions
// them.
func wants(r *spec.Resolved, accepted []spec.Weakening) []want {
	w := make([]want, 0, len(r.Roots)+len(Baseline)+24)
	w = wantFilesystem(w, r)
	w = wantCapabilities(w, r, accepted)
	w = wantControls(w, r, accepted)
	for _, b := range Baseline {
		if !slices.Contains(accepted, b.Weakening) {
			w = append(w, want{kind: b.Kind, origin: spec.FromBaseline, enforcement: spec.Enforced})
		}
	}
	if r.Spec.Workload.Wasm != "" && !slices.Contains(accepted, inProcess) {
		w = append(w, want{kind: OwnProcess, origin: spec.FromBaseline, enforcement: spec.Enforced})
	}
	return wantBudgets(w, r)
}

func wantFilesystem(w []want, r *spec.Resolved) []want {
	all := roots(r)
	granted := false
	for i := range all {
		if all[i].Role == spec.RoleGrant {
			granted = true
			w = append(w, wantRoot(Filesystem, &all[i], r.Unresolved))
		}
	}
	if !granted {
		w = append(w, want{kind: Filesystem, origin: spec.FromDefault, enforcement: spec.Enforced,
			params: []Param{{"granted", "nothing"}}})
	}
	for i := range all {
		if all[i].Role == spec.RoleCarveOut {
			w = append(w, wantRoot(FilesystemCarveOut, &all[i], r.Unresolved))
		}
	}
	return w
}

func wantRoot(kind Kind, root *spec.Root, unresolved bool) want {
	params := make([]Param, 0, 6)
	params = append(params,
		Param{"path", root.Path},
		Param{"dest", root.Dest},
		Param{"access", string(root.Access)})
	if unresolved {
		params = append(params, Param{"resolved", "false"})
	} else {
		params = append(params, Param{"kind", string(root.Kind)})
	}
	if root.Kind == spec.KindDirectory || root.Kind == "" {
		params = append(params, Param{"recursive", strconv.FormatBool(!root.NonRecursive)})
	}
	if root.Named != root.Path && root.Named != "" {
		params = append(params, Param{"named", root.Named})
	}
	return want{kind: kind, origin: root.Origin, subject: root.Dest, params: params,
		features: features(root), enforcement: spec.Enforced}
}

// features names what a root asks of a way beyond the plain case of a readable
// tree. A path that was not looked up counts as a directory.
func features(root *spec.Root) []string {
	var f []string
	if !root.Access.Read() {
		if root.Access.Exec() {
			f = append(f, FeatureExecWithoutRead)
		}
		if root.Access.Write() {
			f = append(f, FeatureWriteWithoutRead)
		}
	}
	switch root.Kind {
	case spec.KindFile, spec.KindDevice:
		f = append(f, FeatureFileRoot)
	case spec.KindOther:
		f = append(f, FeatureOtherRoot)
	case spec.KindAbsent:
	default:
		if root.NonRecursive {
			f = append(f, FeatureNonRecursive)
		}
	}
	return f
}

// roots gives the roots of a request. Paths that were not looked up stand as
// they were named.
func roots(r *spec.Resolved) []spec.Root {
	if !r.Unresolved {
		return r.Roots
	}
	var all []spec.Root
	for _, g := range r.Spec.Capabilities.Filesystem {
		role := spec.RoleGrant
		if g.Access == spec.AccessNone {
			role = spec.RoleCarveOut
		}
		for _, p := range g.Paths {
			all = append(all, spec.Root{Named: p, Path: p, Dest: p, Access: g.Access,
				NonRecursive: g.NonRecursive, Role: role, Origin: g.Origin})
		}
	}
	for _, e := range r.Spec.Controls.Expose {
		all = append(all, spec.Root{Named: e.Source, Path: e.Source, Dest: e.Dest, Access: e.Access,
			Role: spec.RoleExpose, Origin: spec.FromSpec})
	}
	slices.SortStableFunc(all, func(a, b spec.Root) int {
		return cmp.Or(cmp.Compare(a.Dest, b.Dest), cmp.Compare(a.Path, b.Path))
	})
	return all
}

func wantCapabilities(w []want, r *spec.Resolved, accepted []spec.Weakening) []want {
	c := &r.Spec.Capabilities
	switch {
	case c.Network.Loopback:
		w = append(w, enforced(NetworkLoopback, spec.FromSpec))
	case len(c.Network.Allow) > 0:
		w = append(w, enforced(NetworkAllowList, spec.FromSpec, repeated("allow", c.Network.Allow)...))
	case !slices.Contains(accepted, hostNetwork):
		w = append(w, enforced(NetworkDenyAll, spec.FromDefault))
	}

	switch c.Spawn {
	case spec.SpawnProcesses:
		w = append(w, enforced(SpawnProcesses, spec.FromSpec))
	case spec.SpawnThreads:
		w = append(w, enforced(SpawnThreads, spec.FromSpec))
	default:
		w = append(w, enforced(SpawnNone, spec.FromDefault))
	}

	origin := spec.FromDefault
	var env []Param
	for _, e := range c.Environment {
		origin = spec.FromSpec
		if e.Lease != "" {
			env = append(env, Param{"lease", e.Name + "=" + e.Lease})
		} else {
			env = append(env, Param{"literal", e.Name})
		}
	}
	w = append(w, enforced(Environment, origin, env...))

	if c.Clock != "" && c.Clock != spec.ClockReal {
		w = append(w, enforced(Clock, spec.FromSpec, Param{"mode", string(c.Clock)}))
	}
	if c.Random != "" && c.Random != spec.RandomReal {
		w = append(w, enforced(Random, spec.FromSpec, Param{"source", string(c.Random)}))
	}

	if len(c.FDs) == 0 {
		return append(w, enforced(FDsNone, spec.FromDefault))
	}
	var fds []Param
	for _, fd := range c.FDs {
		fds = append(fds, Param{"fd", strconv.Itoa(fd)})
	}
	return append(w, enforced(FDsOnly, spec.FromSpec, fds...))
}

func wantControls(w []want, r *spec.Resolved, accepted []spec.Weakening) []want {
	c := &r.Spec.Controls
	w = append(w, enforced(Launch, spec.FromSpec, launchParams(r)...))

	if len(c.Capture) > 0 {
		var p []Param
		for _, s := range c.Capture {
			p = append(p, Param{s.Stream, amount(spec.Output, s.Limit)})
		}
		w = append(w, enforced(CaptureStreams, spec.FromSpec, p...))
	}

	switch c.Stdin.Mode {
	case spec.StdinInherit:
		w = append(w, enforced(StdinControl, spec.FromSpec, Param{"mode", spec.StdinInherit}))
	case spec.StdinFile:
		w = append(w, enforced(StdinControl, spec.FromSpec, Param{"mode", spec.StdinFile}, Param{"file", c.Stdin.File}))
	case spec.StdinTTY:
		w = append(w, enforced(StdinControl, spec.FromSpec, Param{"mode", spec.StdinTTY}), enforced(Terminal, spec.FromSpec))
	default:
		w = append(w, enforced(StdinControl, spec.FromDefault, Param{"mode", spec.StdinNone}))
	}

	for _, t := range c.Temp {
		h := enforced(TempRoot, spec.FromSpec, Param{"path", t.Path}, Param{"access", string(t.Access)})
		h.subject = t.Path
		w = append(w, h)
	}
	all := roots(r)
	for i := range all {
		if all[i].Role == spec.RoleExpose {
			w = append(w, wantRoot(ExposePath, &all[i], r.Unresolved))
		}
	}

	if a := c.Artifacts; a != nil {
		p := append(repeated("path", a.Paths), Param{"commit", a.Commit}, Param{"durability", a.Durability})
		w = append(w, enforced(CommitArtifact, spec.FromSpec, p...),
			enforced(DiscardArtifact, spec.FromSpec, p...),
			enforced(ListOutputs, spec.FromSpec, p...))
	}

	kill := enforced(KillTree, spec.FromDefault, Param{"tree", "atomic"},
		Param{"grace", amount(spec.Wall, int64(c.Kill.Grace))})
	if r.Spec.Capabilities.Spawn == spec.SpawnProcesses {
		kill.features = []string{FeatureDescendants}
		if !slices.Contains(accepted, outlives) {
			kill.features = append(kill.features, FeatureWithSupervisor)
		}
	}
	return append(w, kill)
}

func launchParams(r *spec.Resolved) []Param {
	dir := r.Spec.Workload.Dir
	if dir == "" {
		dir = "/"
	}
	named := r.Spec.Workload.Wasm
	if len(r.Spec.Workload.Command) > 0 {
		named = r.Spec.Workload.Command[0]
	}
	p := []Param{{"named", named}, {"dir", dir}}
	if r.Executable.Path != "" {
		p = append(p, Param{"path", r.Executable.Path}, Param{"sha256", r.Executable.SHA256})
	}
	return p
}

// enforced is a want of anything but a budget: those are enforced or refused.
func enforced(kind Kind, origin spec.Origin, params ...Param) want {
	return want{kind: kind, origin: origin, params: params, enforcement: spec.Enforced}
}

func repeated(name string, values []string) []Param {
	p := make([]Param, 0, len(values)+2)
	for _, v := range values {
		p = append(p, Param{name, v})
	}
	return p
}
