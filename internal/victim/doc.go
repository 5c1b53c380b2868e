// Package victim holds programs for attacks on a boundary. Each act attempts
// exactly one thing and tells by its exit status how that went: 0 for success,
// otherwise the number of the error that the kernel gave.
//
// A program becomes its own victim: started as "binary victim ACT ARG...", a
// test binary hands the rest to Main in its TestMain, and so does bvisor for its
// selftest. Nothing else distinguishes it, because a boundary leaves neither
// environment nor files to do so.
package victim
