package vm

import "fmt"

// JobFile is where the guest finds its Job.
const JobFile = "/vm/job.json"

// Job is what a machine is to do.
type Job struct {
	Modules []string // to be loaded, in this order
	Port    string   // device that Messages are written to
	Suites  []Suite
}

// Suite is one test binary to be run.
type Suite struct {
	Name string // of the package
	Path string
	Dir  string
	Args []string
	Env  []string
	UID  int // 0: as root
}

// Message is one line of JSON that the guest writes. A machine that ended
// without Done did not do its job.
type Message struct {
	Suite  int    `json:",omitempty"` // index in Job.Suites
	Output []byte `json:",omitempty"`
	Ended  *Ended `json:",omitempty"`
	Failed string `json:",omitempty"` // what the guest could not do
	Done   bool   `json:",omitempty"`
}

// Ended is how a suite ended.
type Ended struct {
	Code    int // exit status; -1 where it has none
	How     string
	Seconds float64
}

func (e *Ended) String() string {
	switch {
	case e == nil:
		return "did not end"
	case e.Code == 0:
		return fmt.Sprintf("%.1fs", e.Seconds)
	}
	return fmt.Sprintf("%s %d, %.1fs", e.How, e.Code, e.Seconds)
}
