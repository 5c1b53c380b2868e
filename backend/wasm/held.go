package wasm

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/spec"
)

// alone says whether the boundary of a worker holds what is one run's own: what
// is private, what is held back, and what stands on the host in the place of a
// carve-out that does not exist as long as the boundary stands.
func alone(r *spec.Resolved) bool {
	return len(r.Spec.Controls.Temp) > 0 || holdsBack(r) ||
		slices.ContainsFunc(r.Roots, func(r spec.Root) bool { return r.Kind == spec.KindAbsent })
}

// holdsBack says whether writes go to a layer. It stands in the worker's
// boundary, in the place of the directory: whoever is in there writes to the
// layer. The backend of the boundary keeps it, as it does for a program.
func holdsBack(r *spec.Resolved) bool { return r.Spec.Controls.Artifacts != nil }

// ownBoundary resolves the boundary of a worker that is one run's own, and takes
// over which directories it holds back. Where there is no worker, the planner
// refuses what needs one.
func (r *resolver) ownBoundary(ctx context.Context, b *Backend) error {
	if !alone(&r.resolved) || !b.hasWorkers() || slices.Contains(r.spec.Accept, "in-process") {
		return nil
	}
	res, err := b.options.Outer.Resolve(ctx, b.boundary(&r.resolved), r.protected)
	if _, ok := errors.AsType[*spec.Error](err); ok {
		return err
	}
	if err != nil {
		r.noOuter = err // of the worker's program: what a probe finds, too
		return nil
	}
	r.outer = res
	resolved := res.Resolved()
	for _, root := range resolved.Roots {
		if root.Held {
			r.hold(root)
		}
		if root.Kind == spec.KindAbsent {
			r.stand(root)
		}
	}
	r.resolved.Spec.Controls.Artifacts = resolved.Spec.Controls.Artifacts
	r.sort()
	if len(r.problems) > 0 {
		return &spec.Error{Problems: r.problems}
	}
	return nil
}

// stand names what stands on the host for carve-outs that do not exist: the
// first name that is missing on the way there. Recovery looks for it.
func (r *resolver) stand(absent spec.Root) {
	for i := range r.resolved.Roots {
		if o := &r.resolved.Roots[i]; o.Kind == spec.KindAbsent && within(o.Path, absent.Path) {
			o.Path = absent.Path
		}
	}
}

// hold marks the roots that show a directory whose writes are held back. Inside
// a larger one it becomes a root of its own.
func (r *resolver) hold(held spec.Root) {
	field := "controls.artifacts: " + held.Named
	for i := len(r.resolved.Roots) - 1; i >= 0; i-- { // the deepest first
		o := &r.resolved.Roots[i]
		if !o.Access.Write() || !within(held.Path, o.Path) && !within(o.Path, held.Path) {
			continue
		}
		dest := path.Join(o.Dest, filepath.ToSlash(strings.TrimPrefix(held.Path, o.Path)))
		switch {
		case o.Role == spec.RoleExpose:
			r.problem("spec.artifacts", field, "is shown for writing a second time: "+o.Named+" is exposed at "+o.Dest, "take that out, or make it read-only")
		case o.Path == held.Path:
			o.Held = true
		case slices.ContainsFunc(r.resolved.Roots, func(in spec.Root) bool { return in.Dest == dest }):
		default:
			f, kind, err := openRoot(held.Path, o.Access)
			if err != nil {
				message, hint := describe(err)
				r.problem("spec.artifacts", field, message, hint)
				continue
			}
			r.resolved.Roots = append(r.resolved.Roots, spec.Root{Named: held.Named, Path: held.Path, Dest: dest, Kind: kind,
				Access: o.Access, Role: spec.RoleGrant, Origin: spec.FromSpec, Held: true})
			r.files = append(r.files, f)
		}
	}
}

// harvest ends the worker of a run whose writes are held back, and takes what
// its boundary kept. Of what was not kept it is said that it is lost.
func (x *launch) harvest(w *remote) {
	w.kill()
	paths := x.plan.Resolved.Spec.Controls.Artifacts.Paths
	x.left = w.left
	if x.failed != nil || len(x.left) == len(paths) {
		return
	}
	x.left = nil
	for _, p := range paths {
		x.left = append(x.left, report.Artifacts{Path: p, Lost: errors.Join(errors.New("the worker's boundary handed nothing over"), w.ended).Error()})
	}
}

// artifacts is how writes are held back: by the worker's boundary, if its
// backend can.
func (o *offers) artifacts() {
	layers := mechanism("overlayfs", plan.Param{Name: "shows", Value: "the paths of controls.artifacts"})
	layers.Evidence = []spec.Claim{spec.FilesystemDelta, spec.ArtifactLineage}
	w := way(layers, mechanism("tmpfs"), workerMechanism())
	w.Requires = []plan.Kind{plan.OwnProcess}
	for _, k := range []plan.Kind{plan.CommitArtifact, plan.DiscardArtifact, plan.ListOutputs} {
		i := slices.IndexFunc(o.outer, func(offer plan.Offer) bool { return offer.Kind == k })
		switch {
		case o.worker.Value != "available":
			o.none(k, "a worker, whose boundary has a layer that takes the writes", "worker is "+o.worker.Value, "")
		case i < 0 || len(o.outer[i].Ways) == 0:
			offer := plan.Offer{Need: "a layer that takes the writes", Fact: "the backend of the worker's boundary offers none"}
			if i >= 0 {
				offer = o.outer[i]
			}
			o.none(k, offer.Need+", in the worker's boundary", offer.Fact, offer.Remedy)
		default:
			o.list = append(o.list, plan.Offer{Kind: k, Ways: []plan.Way{w}})
		}
	}
}
