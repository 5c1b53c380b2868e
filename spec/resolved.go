package spec

// Resolved is a spec bound to the files of one host: presets expanded, every
// path canonical, absent optional paths dropped. It is what a plan is made of.
type Resolved struct {
	Spec       Spec       `json:"spec"`
	Unresolved bool       `json:"unresolved,omitempty"` // paths were not looked up: the profile is another host's
	Roots      []Root     `json:"roots,omitempty"`      // sorted by Dest, then Path
	Links      []Link     `json:"links,omitempty"`      // symbolic links the boundary's root needs, sorted by Path
	Executable Executable `json:"executable"`
	UID        int        `json:"uid"` // the workload keeps the caller's own ids
	GID        int        `json:"gid"`
}

// Role says what a root is for.
type Role string

// Roles of a root.
const (
	RoleGrant    Role = "grant"
	RoleCarveOut Role = "carve-out"
	RoleExpose   Role = "expose"
)

// FileKind is what a path leads to.
type FileKind string

// Kinds of files. KindAbsent only ever belongs to a carve-out.
const (
	KindFile      FileKind = "file"
	KindDirectory FileKind = "directory"
	KindDevice    FileKind = "device"
	KindOther     FileKind = "other" // FIFO or socket
	KindAbsent    FileKind = "absent"
)

// Root is one path of the boundary's view.
type Root struct {
	Named        string   `json:"named"` // as the spec wrote it, made absolute
	Path         string   `json:"path"`  // canonical, on the host
	Dest         string   `json:"dest"`  // where it appears in the boundary; Path but for an expose
	Kind         FileKind `json:"kind"`
	Access       Access   `json:"access"`
	NonRecursive bool     `json:"non_recursive,omitempty"`
	Role         Role     `json:"role"`
	Held         bool     `json:"held,omitempty"` // a directory whose writes are held back: controls.artifacts
	Origin       Origin   `json:"origin"`
}

// Link is a symbolic link made in the boundary's root, so that a path works
// there as it was named.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Executable is the program, opened once and hashed. For a command that was
// not found it is zero but for Named.
type Executable struct {
	Named  string `json:"named"`            // argv[0]
	Path   string `json:"path,omitempty"`   // canonical, in the boundary
	SHA256 string `json:"sha256,omitempty"` // hex
	Size   int64  `json:"size,omitempty"`
	Script bool   `json:"script,omitempty"` // starts with "#!"

	Unfit []Unfit `json:"unfit,omitempty"` // why a WebAssembly module cannot be run
}

// Unfit is one thing about a WebAssembly module that keeps it from being run.
type Unfit struct {
	Code    string `json:"code"`              // one of UnfitCodes
	Subject string `json:"subject,omitempty"` // for example the import
	Fact    string `json:"fact"`
}

// UnfitCodes are the codes of Unfit.
var UnfitCodes = []string{"invalid", "component", "feature", "size", "functions", "import", "start"}
