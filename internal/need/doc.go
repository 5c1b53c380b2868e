// Package need is for tests: it skips one whose host lacks something, and says
// by name what is lacking. BVISOR_NEED lists what must not be lacking, for
// example "landlock:3,userns,root": there a skip becomes a failure, so that a
// green run on that host means that the tests ran.
package need
