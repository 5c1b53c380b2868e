//go:build !linux

package main

import (
	"context"
	"os"

	"github.com/bvisor/bvisor/backend"
)

// callerTerminal is nothing here: no backend starts a program.
type callerTerminal struct{}

func newCallerTerminal(*os.File, context.CancelCauseFunc) callerTerminal { return callerTerminal{} }

func (callerTerminal) relay() backend.Terminal { return backend.Terminal{} }
func (callerTerminal) restore()                {}
func (callerTerminal) close()                  {}
