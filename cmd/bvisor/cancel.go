package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// interrupted is why a run was cancelled: somebody sent bvisor a signal.
type interrupted struct{ signal syscall.Signal }

func (e *interrupted) Error() string { return "bvisor received signal " + e.signal.String() }

// outputLost is why a run was cancelled: what the workload wrote reached nobody.
type outputLost struct {
	stream string
	err    error
}

func (e *outputLost) Error() string { return e.stream + " cannot be written: " + e.err.Error() }
func (e *outputLost) Unwrap() error { return e.err }

// interruptible cancels a run on the first signal that asks bvisor to end. The
// workload gets its grace, the tree is killed and the report sealed; further
// signals change nothing about that, so none of them can lose the report.
//
// SIGPIPE is caught, too: by default the Go runtime dies of it when standard
// output is a closed pipe (os/signal), and the report with it.
func interruptible(cancel context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 1)
	pipe := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(pipe, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if n, ok := s.(syscall.Signal); ok {
					cancel(&interrupted{n})
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// relay passes the workload's output on. When nobody takes it any more the run
// is cancelled, as a program outside a boundary would end by SIGPIPE.
type relay struct {
	stream string
	out    io.Writer
	cancel context.CancelCauseFunc
}

func (r *relay) Write(b []byte) (int, error) {
	n, err := r.out.Write(b)
	if err != nil {
		if e, ok := err.(*os.PathError); ok {
			err = e.Err
		}
		r.cancel(&outputLost{r.stream, err})
	}
	return n, err
}
