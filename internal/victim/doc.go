// Package victim holds programs for tests of a boundary. Each act attempts
// exactly one thing and tells by its exit status how that went: 0 for success,
// otherwise the number of the error that the kernel gave.
//
// A test binary becomes its own victim: started as "binary victim ACT ARG...",
// its TestMain hands the rest to Main. Nothing else distinguishes it, because a
// boundary leaves neither environment nor files to do so.
package victim
