// Package bvisor runs programs that are not trusted inside a declared
// boundary, and only if this host can really hold every part of it. Each run
// leaves a sealed report that a third party can verify.
//
// The pipeline is Supervisor.Run; the one-call form is RunConfined.
package bvisor
