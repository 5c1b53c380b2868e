// Package selftest attacks a boundary on the host where it is to hold.
//
// An attack is carried out twice: without a boundary, where it must succeed or
// the second time would prove nothing, and inside the one under test. What
// happened is read off something outside the victim wherever there is such a
// thing: the bytes of a file, a listener's connections, the list of processes.
// Whether it may happen is read off the plan.
package selftest
