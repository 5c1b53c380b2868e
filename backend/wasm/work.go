package wasm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/bvisor/bvisor/spec"
)

// setup is what a worker is told first.
type setup struct {
	File     string `json:"file,omitempty"` // where the engine looks for code that is sent along; empty: it compiles
	Elements uint64 `json:"elements"`
	Scratch  string `json:"scratch"` // a directory of its own
}

// Work is the life of a worker: it compiles one module, runs it as often as it
// is asked, and returns when there is nobody left to ask.
func Work(from io.Reader, to io.Writer) error {
	w := &worker{conn: newConn(from, to)}
	err := w.work()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// worker is the worker's own side.
type worker struct {
	*conn
	setup  setup
	engine *engine
	code   wazero.CompiledModule
}

func (w *worker) work() error {
	if err := w.send(frameHello, nil); err != nil {
		return err
	}
	if err := w.prepare(); err != nil {
		return errors.Join(err, w.send(frameFailed, []byte(clipped(err.Error(), mostError))))
	}
	if err := w.send(frameReady, nil); err != nil {
		return err
	}
	for {
		text, err := w.expect(frameJob)
		if err != nil {
			return err
		}
		var j job
		if err := json.Unmarshal(text, &j); err != nil {
			return err
		}
		if err := w.run(&j); err != nil {
			return err
		}
	}
}

// prepare compiles the module, or takes the code that comes with it.
func (w *worker) prepare() error {
	text, err := w.expect(frameSetup)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &w.setup); err != nil {
		return err
	}
	binary, err := w.expect(frameModule)
	if err != nil {
		return err
	}
	ctx := context.Background()
	dir := filepath.Join(w.setup.Scratch, "code")
	defer os.RemoveAll(dir) // it is in memory by then
	if w.setup.File != "" {
		if !filepath.IsLocal(w.setup.File) {
			return errors.New("the code's name leads elsewhere")
		}
		code, err := w.expect(frameCode)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, w.setup.File)
		if err := writeNew(name, code); err != nil {
			return err
		}
		kept := &entry{meta: meta{File: w.setup.File}, dir: dir, stub: binary}
		if kept.seen, err = os.Stat(name); err != nil {
			return err
		}
		w.code, w.engine, err = kept.load(ctx)
		return err
	}
	if w.code, w.engine, err = compileIn(ctx, binary, dir); err != nil {
		return err
	}
	file, err := onlyFile(dir)
	if err != nil {
		return err
	}
	code, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	return w.send(frameCode, code) // before anything of the module runs
}

// run carries out one job. Meanwhile a goroutine of its own receives.
func (w *worker) run(j *job) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if wall, ok := j.Limits[spec.Wall]; ok {
		var end context.CancelFunc
		ctx, end = context.WithTimeoutCause(ctx, time.Duration(wall), &breach{spec.Wall})
		defer end()
	}
	data := make(chan []byte)
	received := make(chan error, 1)
	over := make(chan struct{})
	go func() { received <- w.listen(cancel, data, over) }()
	all := &output{limit: j.limit(spec.Output)}
	files, err := openRoots(j)
	defer func() {
		for _, f := range files {
			f.Close() // nil for what is none
		}
	}()
	if err != nil {
		return err
	}
	s := streams{stdin: &remoteInput{w.conn, ctx, data}, stdout: io.Discard, stderr: io.Discard}
	if j.Stdout {
		s.stdout = frameWriter{w.conn, frameStdout, all}
	}
	if j.Stderr {
		s.stderr = frameWriter{w.conn, frameStderr, all}
	}
	res := w.engine.execute(ctx, w.code, w.setup.Elements, j, files, s)
	close(over)
	if err := w.sendJSON(frameResult, &res); err != nil {
		return err
	}
	return <-received
}

// openRoots opens the places of a job inside the worker's boundary.
func openRoots(j *job) ([]*os.File, error) {
	files := make([]*os.File, len(j.Roots))
	for i, r := range j.Roots {
		if r.Access == spec.AccessNone {
			continue
		}
		f, _, err := openRoot(r.Path, r.Access)
		if err != nil {
			return files, err
		}
		files[i] = f
	}
	return files, nil
}

// listen receives what comes during a run. The supervisor ends it, with a frame
// of its own, when it has the result.
func (w *worker) listen(cancel context.CancelCauseFunc, data chan<- []byte, over <-chan struct{}) error {
	for {
		kind, contents, err := w.receive(frameData, frameCancel, frameReady)
		switch {
		case err != nil:
			cancel(cancelled{})
			return err
		case kind == frameData:
			select {
			case data <- contents:
			case <-over:
			}
		case kind == frameCancel:
			cancel(cancelled{})
		case kind == frameReady:
			return nil
		}
	}
}

// frameWriter sends what a guest writes, with the bytes that are too many: the
// supervisor counts for itself.
type frameWriter struct {
	conn *conn
	kind byte
	all  *output
}

func (f frameWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, int(largest(f.kind)))
		if err := f.conn.send(f.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	if _, over := f.all.admit(len(p)); over {
		panic(&breach{spec.Output})
	}
	return len(p), nil
}

// remoteInput asks the supervisor for standard input.
type remoteInput struct {
	conn *conn
	ctx  context.Context
	data <-chan []byte
}

func (r *remoteInput) Read(p []byte) (int, error) {
	want := binary.BigEndian.AppendUint32(nil, uint32(min(len(p), int(largest(frameData)))))
	if err := r.conn.send(frameWant, want); err != nil {
		return 0, err
	}
	select {
	case b := <-r.data:
		if len(b) == 0 {
			return 0, io.EOF
		}
		return copy(p, b), nil
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
