// Package backend is the seam between the pipeline and what holds boundaries
// on one kind of platform.
package backend

import (
	"context"
	"io"
	"os"

	"github.com/bvisor/bvisor/plan"
	"github.com/bvisor/bvisor/report"
	"github.com/bvisor/bvisor/secret"
	"github.com/bvisor/bvisor/spec"
)

// Backend holds boundaries. It observes; it never grades: plan decides before,
// the runner seals after.
type Backend interface {
	Name() string

	// Probe says what this host can hold now, by exercising it. The result is
	// cached for the life of the backend.
	Probe(ctx context.Context) (plan.Profile, error)

	// Resolve looks up, once, every path of an expanded spec and holds what it
	// found open. No grant may reach what is protected. The error is a
	// *spec.Error, or a *CommandError when only the command is wrong.
	Resolve(ctx context.Context, s spec.Spec, protected []Protected) (Resolution, error)

	// Launch carries out a plan and returns when the workload and everything
	// it started are gone. An error means a fault of the supervisor's side;
	// everything about the workload, setup failures included, is in the
	// observation.
	//
	// What is left then is the backend's own, for example a launcher that
	// still has to be reaped. settle, which is never nil, returns when that is
	// gone too; the time until then is the caller's.
	Launch(ctx context.Context, l Launch) (o report.Observation, settle func(), err error)
}

// Resolution is a resolved spec with the open descriptors behind it.
type Resolution interface {
	Resolved() spec.Resolved
	Close() error
}

// Launch is everything one launch needs.
type Launch struct {
	Attempt    string
	Plan       plan.Plan
	Resolution Resolution
	Quarantine string         // where what controls.artifacts holds back is kept; the directory is made if it is needed
	Env        []secret.Value // the child's whole environment, sorted by name
	Stdin      *os.File       // for stdin: inherit, and what is typed with tty; nil is nothing
	Stdout     io.Writer      // captured output is relayed here live; nil drops it
	Stderr     io.Writer
	Terminal   Terminal         // for stdin: tty
	FDs        map[int]*os.File // what capabilities.fds names, by number in the workload
	Ahead      Ahead            // of this backend's own; nil lets Launch start everything
	// Commit returns when the intent is durable. The barrier before exec opens
	// only after it returned nil.
	Commit func() error
}

// Starter is a Backend that can start what every launch begins with, of which
// nothing is the workload's, so that it happens beside what decides over the
// launch. It goes into one Launch; whoever got it closes it in any case.
type Starter interface {
	Ahead() Ahead

	// Arm does everything of a launch up to the barrier, for a run to come: one
	// whose plan, files and mounts are the same then. It closes the resolution in
	// any case. Of l it needs Plan, Resolution and the names of Env. The error is
	// a *NotArmable for a plan that cannot wait, otherwise what failed.
	Arm(ctx context.Context, l Launch) (Ahead, error)
}

// NotArmable says why a boundary cannot be armed before its run.
type NotArmable struct{ Why string }

func (e *NotArmable) Error() string { return "cannot be armed ahead of a run: " + e.Why }

// Ahead is what was started before a launch. Close ends it, unless a launch took
// it over, and returns when nothing is left of it.
type Ahead interface{ Close() error }

// Terminal is the caller's side of a workload's own terminal. What is typed
// comes from Launch.Stdin and what is shown goes to Launch.Stdout, both byte by
// byte as they are: if they are a terminal, the caller has to set it raw. It is
// nothing that the workload could get at.
type Terminal struct {
	// Attach is called when the workload is confined, right before it runs, and
	// returns the size to begin with. An error keeps the workload from running.
	// Nil leaves a size of 0 by 0, which programs take for 24 by 80.
	Attach func() (Window, error)
	// Resized hands over each later size.
	Resized <-chan Window
}

// Window is the size of a terminal, in characters.
type Window struct{ Rows, Columns uint16 }

// Protected is a path of bvisor's own that no grant may reach.
type Protected struct {
	Path string // absolute
	What string // e.g. "the state directory"
	Read bool   // reading it is forbidden, too
}

// CommandError says that the workload's command cannot be executed inside the
// boundary it was given.
type CommandError struct {
	Command  string
	NotFound bool // exit code 127, otherwise 126
	Why      string
	Hint     string
	Grant    string // the path that must be granted for execution, if that is what lacks
}

func (e *CommandError) Error() string { return e.Command + ": " + e.Why }
