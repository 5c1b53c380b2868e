package wasmfs

import (
	"errors"
	"os"
	"testing"
)

// stubborn is a file that cannot be written through.
type stubborn struct{ hostFile }

func (stubborn) sync() error     { return errors.New("no") }
func (stubborn) datasync() error { return errors.New("no") }

// What was to be on the disk when the call returns, and may not be, is not told
// to be written.
func TestWritingThroughFails(t *testing.T) {
	base := t.TempDir()
	plant(t, base, "file=0123")
	v := implementations[0].view(t, Config{Roots: []Root{root(t, "/in", base)}})
	_, f, errno := v.at("/in").Open("file", OpenFlags{Write: true})
	want(t, "open", errno, Success)
	defer f.Close()
	f.host = stubborn{f.host}
	_, errno = f.Write([]byte("x"))
	want(t, "write", errno, Success) // the control: it need not be on the disk
	for _, flags := range []func(on bool){func(on bool) { f.SyncData = on }, func(on bool) { f.SyncWhole = on }} {
		flags(true)
		for _, f.Append = range []bool{false, true} {
			n, errno := f.Write([]byte("y"))
			want(t, "write through", errno, IO)
			if n != 0 {
				t.Errorf("%d bytes", n)
			}
		}
		flags(false)
	}
	if b, err := os.ReadFile(base + "/file"); len(b) < 4 {
		t.Errorf("%q, %v", b, err)
	}
}
