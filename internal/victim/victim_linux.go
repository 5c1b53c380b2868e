package victim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Word is the argument that makes a test binary a victim.
const Word = "victim"

// Act attempts one thing. What it returns becomes the exit status.
type Act func(args []string) error

// Exit statuses that are no error numbers.
const (
	ExitUsage   = 200 // no such act, or too few arguments: the test is wrong
	ExitOther   = 201 // an error that is no error number, or a broken act
	ExitSilence = 202 // the act's own answer "nothing happened", see ErrNothing
)

// ErrNothing says that the attempt met no error and had no effect either.
var ErrNothing = errors.New("no error, and no effect")

// acts are filled on first use: bvisor carries this package, too, and its other
// commands must not pay for it when they start.
var (
	acts   map[string]Act
	filled sync.Once
)

func known() map[string]Act {
	filled.Do(func() {
		acts = map[string]Act{"when-told": whenTold}
		for _, more := range []map[string]Act{fileActs(), fillActs(), execActs(), mountActs()} {
			add(acts, more)
		}
	})
	return acts
}

// Register adds acts. A name belongs to one act only.
func Register(more map[string]Act) struct{} {
	add(known(), more)
	return struct{}{}
}

func add(all, more map[string]Act) {
	for name, act := range more {
		if all[name] != nil {
			panic("bug: two acts are called " + name)
		}
		all[name] = act
	}
}

// Names lists all acts, sorted.
func Names() []string {
	var names []string
	for name := range known() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Main carries out one act and returns the exit status. The one line on
// standard error tells an act's failure from a crash that happens to have the
// same status: a Go program that panics exits with 2, which is ENOENT.
func Main(args []string) (status int) {
	if len(args) == 0 || known()[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "victim: no act %q, expected one of %s\n", args, strings.Join(Names(), " "))
		return ExitUsage
	}
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "victim: %s: broken: %v\n", args[0], p)
			status = ExitOther
		}
	}()
	err := known()[args[0]](args[1:])
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s%v\n", Prefix(args[0]), err)
	var n unix.Errno
	switch {
	case errors.As(err, &n):
		return int(n)
	case errors.Is(err, ErrNothing):
		return ExitSilence
	case errors.Is(err, ErrUsage):
		return ExitUsage
	}
	return ExitOther
}

// Prefix begins the line that a failed act leaves on standard error.
func Prefix(act string) string { return "victim: " + act + Failure }

// Failure stands in the line of every failed act.
const Failure = ": failed: "

// ErrUsage says that an act got the wrong arguments.
var ErrUsage = errors.New("wrong number of arguments")

// Expect says whether there are n arguments.
func Expect(args []string, n int) error {
	if len(args) != n {
		return fmt.Errorf("%w: got %d, expected %d", ErrUsage, len(args), n)
	}
	return nil
}

// One and Two make acts of functions with that many arguments.
func One(f func(a string) error) Act {
	return func(args []string) error {
		if err := Expect(args, 1); err != nil {
			return err
		}
		return f(args[0])
	}
}

// Two is One for two arguments.
func Two(f func(a, b string) error) Act {
	return func(args []string) error {
		if err := Expect(args, 2); err != nil {
			return err
		}
		return f(args[0], args[1])
	}
}
