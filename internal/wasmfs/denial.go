package wasmfs

// Denial is one attempt that the boundary refused.
type Denial struct {
	Call   string // the function of preview 1
	Path   string // what was asked for, in the guest's view
	Access string // the rights that lacked, of "rw"; empty: that it is there
	Reason Reason
}

// Reason says why an attempt was refused.
type Reason string

// Reasons.
const (
	Outside      Reason = "outside every grant"
	Above        Reason = "above the directory that it was asked of"
	Absolute     Reason = "a link to an absolute path"
	NotWritable  Reason = "granted for reading only"
	NotReadable  Reason = "granted for writing only"
	TakenOut     Reason = "taken out of the grant"
	NotRecursive Reason = "below a grant that is not recursive"
	Pinned       Reason = "a place that the boundary is built on"
	Special      Reason = "neither a file nor a directory"
	OverBudget   Reason = "the storage budget"
)

// refusal is a denial on its way to where it is recorded.
type refusal struct {
	errno  Errno
	reason Reason
	access string
}

func (r refusal) Error() string { return r.errno.Error() + ": " + string(r.reason) }

// answer turns the end of a call into its errno, and records a refusal.
func (d *Dir) answer(call, path string, err error) Errno {
	if err == nil {
		return Success
	}
	r, ok := err.(refusal)
	if !ok {
		return errnoOf(err)
	}
	d.fs.deny(Denial{Call: call, Path: d.guestPath(path), Access: r.access, Reason: r.reason})
	return r.errno
}

func (f *FS) deny(d Denial) {
	if f.denied != nil {
		f.denied(d)
	}
}

// asError leaves a refusal as it is and makes an Errno of another error.
func asError(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := err.(refusal); ok {
		return r
	}
	return errnoOf(err)
}
