package main

import (
	"os"

	"github.com/bvisor/bvisor/internal/selftest"
	"github.com/bvisor/bvisor/internal/victim"
)

// actAsVictim ends this process if it was started as the hostile program of a
// selftest: "bvisor victim ACT ARG...", which nobody types.
func actAsVictim() {
	if len(os.Args) > 1 && os.Args[1] == victim.Word {
		os.Exit(selftest.Victim(os.Args[2:]))
	}
}
