// Package policy is tests only: which of our packages may import which, where
// unsafe and raw system calls may stand, and which calls are not made, each
// with its reason. The tables are policy. They change in review, never to make
// a build pass.
package policy
