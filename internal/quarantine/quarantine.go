// Package quarantine keeps what a run wrote below a directory that the host
// has, until somebody decides over it, and puts it into place when they do.
//
// A quarantine is a directory with two files for each tree: N.manifest, one
// line of canonical JSON for each change behind a first one about the tree, and
// N.data, the contents of the files one behind the other. Names that the run
// chose stand in the manifest only, never in the file system. A manifest is
// believed if it has the digest that the sealed report names.
package quarantine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bvisor/bvisor/internal/canonical"
	"github.com/bvisor/bvisor/internal/durable"
)

// ErrBusy says that somebody else is deciding over a quarantine.
var ErrBusy = errors.New("somebody else is deciding over it")

// Deciding marks a quarantine over which a decision is being carried out: with
// the mark and without a holder of its lock, it was cut short.
const Deciding = "deciding"

// Version of the manifest.
const Version = 1

// Bounds of what is kept. What is beyond one is recorded as refused.
const (
	MaxDepth   = 256      // directories inside one another; the walk holds two descriptors for each
	MaxPath    = 4095     // bytes of a path on the host (PATH_MAX)
	MaxEntries = 1 << 21  // changes
	MaxLine    = 80 << 10 // a path and two targets of links, of which JSON may make six bytes of one
)

// Header is the first line of a manifest.
type Header struct {
	Version int    `json:"version"`
	Attempt string `json:"attempt"`
	Path    string `json:"path"`  // of the tree on the host
	Inode   string `json:"inode"` // of the tree's directory
}

// Act is what became of a name.
type Act string

// The acts.
const (
	Created Act = "created"
	Changed Act = "changed"
	Deleted Act = "deleted"
	Refused Act = "refused"
)

// Type is what a name leads to.
type Type string

// The types. Only the first three are ever kept.
const (
	File      Type = "file"
	Directory Type = "directory"
	Link      Type = "link"
	Other     Type = "other"
)

// Entry is one change. Paths are escaped, relative to the tree, in the order of
// a walk by escaped names, a directory before what is in it; "." is the tree.
type Entry struct {
	Path   string `json:"path"`
	Act    Act    `json:"act"`
	Why    string `json:"why,omitempty"`  // refused
	Late   bool   `json:"late,omitempty"` // the host has changed it since the run began
	After  *State `json:"after,omitempty"`
	Before *State `json:"before,omitempty"`
}

// State is what one name led to.
type State struct {
	Type     Type   `json:"type"`
	Mode     string `json:"mode"` // octal
	Size     int64  `json:"size,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Target   string `json:"target,omitempty"`   // of a link, escaped
	Modified string `json:"modified,omitempty"` // of a file: seconds and nanoseconds since 1970
	Offset   int64  `json:"offset,omitempty"`   // after: in the data
	Inode    string `json:"inode,omitempty"`    // before
	Status   string `json:"status,omitempty"`   // before: when the inode was changed last
}

// Summary is what one tree came to.
type Summary struct {
	Manifest                           string // SHA-256
	Created, Changed, Deleted, Refused int64
	Bytes                              int64
	First                              []Entry // the first, as many as there was to show
	Shown                              int64   // bytes of their lines
}

func (s *Summary) count(e *Entry) {
	switch e.Act {
	case Created:
		s.Created++
	case Changed:
		s.Changed++
	case Deleted:
		s.Deleted++
	case Refused:
		s.Refused++
	}
}

// Count is the number of entries.
func (s *Summary) Count() int64 { return s.Created + s.Changed + s.Deleted + s.Refused }

// Escape makes bytes of a name fit for JSON, so that Unescape gives them back:
// a backslash is \\, a byte that is not UTF-8 is \xHH.
func Escape(name string) string {
	if utf8.ValidString(name) && !strings.Contains(name, `\`) {
		return name
	}
	b := make([]byte, 0, 2*len(name))
	for name != "" {
		var size int
		b, size = appendEscaped(b, name)
		name = name[size:]
	}
	return string(b)
}

// appendEscaped appends the first character of a name as Escape writes it, and
// returns how many bytes of the name that was.
func appendEscaped(b []byte, name string) ([]byte, int) {
	const digits = "0123456789abcdef"
	switch r, size := utf8.DecodeRuneInString(name); {
	case r == utf8.RuneError && size == 1:
		return append(b, '\\', 'x', digits[name[0]>>4], digits[name[0]&15]), 1
	case r == '\\':
		return append(b, `\\`...), 1
	default:
		return append(b, name[:size]...), size
	}
}

// byEscape compares names as what Escape makes of them, which it does not make:
// a workload chooses how many names there are, and how alike they begin.
func byEscape(a, b string) int {
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	// Where a character begins in what both have, it begins in both.
	from := max(same-1, 0)
	for from > 0 && !utf8.RuneStart(a[from]) {
		from--
	}
	var room [2][utf8.UTFMax]byte
	for a, b = a[from:], b[from:]; a != "" && b != ""; {
		x, n := appendEscaped(room[0][:0], a)
		y, m := appendEscaped(room[1][:0], b)
		if order := bytes.Compare(x, y); order != 0 {
			return order
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

// Unescape is the bytes that Escape was given. Text that it cannot have made is
// an error.
func Unescape(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("name %q: not UTF-8", text)
	}
	if !strings.Contains(text, `\`) {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			b.WriteByte(text[i])
		case strings.HasPrefix(text[i:], `\\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(text[i:], `\x`) && i+4 <= len(text):
			n, err := strconv.ParseUint(text[i+2:i+4], 16, 8)
			if err != nil {
				return "", fmt.Errorf("name %q: bad escape", text)
			}
			b.WriteByte(byte(n))
			i += 3
		default:
			return "", fmt.Errorf("name %q: bad escape", text)
		}
	}
	if Escape(b.String()) != text {
		return "", fmt.Errorf("name %q: not in its one escaped form", text)
	}
	return b.String(), nil
}

// Flush returns when the file systems of these trees have written down what was
// committed there.
func Flush(trees []string) error {
	for _, tree := range trees {
		if err := flushed(tree); err != nil {
			return fmt.Errorf("flush the file system of %s: %w", tree, err)
		}
	}
	return nil
}

// Drop removes the contents of the files that a quarantine of so many trees kept.
// What was there is still told by the manifests.
func Drop(dir string, trees int) error {
	removed := false
	for n := range trees {
		err := os.Remove(filepath.Join(dir, dataName(n)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return sync(dir)
}

// Make makes the directory of a quarantine, durably.
func Make(dir string) error { return durable.MkdirAll(dir) }

// sync flushes the names in a quarantine.
func sync(dir string) error {
	d, err := durable.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func manifestName(tree int) string { return strconv.Itoa(tree) + ".manifest" }
func dataName(tree int) string     { return strconv.Itoa(tree) + ".data" }

// Manifest reads a manifest from its beginning to its end, as often as it is
// asked to.
type Manifest struct {
	Header Header
	file   *os.File
	line   []byte // what At read last
}

// ErrAltered says that a quarantine does not hold what was sealed.
var ErrAltered = errors.New("the quarantine was altered since the report was sealed")

// Open opens the manifest of a tree if it has the given digest. The file is
// read from the one that was hashed: nobody else may write to a state directory.
func Open(dir string, tree int, digest string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestName(tree)))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		f.Close()
		return nil, err
	}
	if found := hex.EncodeToString(h.Sum(nil)); found != digest {
		f.Close()
		return nil, fmt.Errorf("%s: its digest is %s, the report says %s: %w", f.Name(), found, digest, ErrAltered)
	}
	m := &Manifest{file: f}
	if err := m.lines(0, func(_ int64, line []byte) error {
		if err := canonical.Unmarshal(line, &m.Header); err != nil {
			return err
		}
		return io.EOF
	}); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if m.Header.Version != Version {
		f.Close()
		return nil, fmt.Errorf("%s: its version is %d, this bvisor reads %d", f.Name(), m.Header.Version, Version)
	}
	return m, nil
}

// Close gives the file back.
func (m *Manifest) Close() error { return m.file.Close() }

// lines calls use with each line and where it begins, until it returns an error;
// io.EOF ends without one.
func (m *Manifest) lines(from int64, use func(at int64, line []byte) error) error {
	s := bufio.NewScanner(io.NewSectionReader(m.file, from, 1<<62))
	s.Buffer(make([]byte, 0, 64<<10), 4*MaxLine)
	for at := from; s.Scan(); at += int64(len(s.Bytes())) + 1 {
		if err := use(at, s.Bytes()); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return s.Err()
}

// Each calls use with every entry in order; at is what At takes.
func (m *Manifest) Each(use func(at int64, e *Entry) error) error {
	first := true
	return m.lines(0, func(at int64, line []byte) error {
		if first {
			first = false
			return nil
		}
		var e Entry
		if err := canonical.Unmarshal(line, &e); err != nil {
			return err
		}
		return use(at, &e)
	})
}

// At reads one entry again.
func (m *Manifest) At(at int64) (*Entry, error) {
	for size := 1 << 10; ; size *= 4 {
		if len(m.line) < size {
			m.line = make([]byte, size)
		}
		n, err := m.file.ReadAt(m.line, at)
		if end := bytes.IndexByte(m.line[:n], '\n'); end >= 0 {
			var e Entry
			return &e, canonical.Unmarshal(m.line[:end], &e)
		}
		if err != nil || size > MaxLine {
			return nil, fmt.Errorf("%s: no line ends behind byte %d: %w", m.file.Name(), at, ErrAltered)
		}
	}
}

// Options say what of a tree is to be committed, and how.
type Options struct {
	Chosen  []string // paths below the tree, unescaped; with "" everything
	Without []string // but not these, nor what is below them
	Force   bool     // what the host changed meanwhile is overwritten
	Durable bool     // files and directories are flushed before the result is known
}

// Covers says whether an entry belongs to what is asked for. The directories
// that lead to it do, if the run made them.
func (o *Options) Covers(rel string, e *Entry) bool {
	for _, w := range o.Without {
		if w == "" || rel == w || strings.HasPrefix(rel, w+"/") {
			return false
		}
	}
	for _, c := range o.Chosen {
		if c == "" || rel == c || strings.HasPrefix(rel, c+"/") ||
			e.After != nil && e.After.Type == Directory && strings.HasPrefix(c, rel+"/") {
			return true
		}
	}
	return false
}

// Chosen says how much of a tree is asked for. It looks at nothing of the host's.
func Chosen(dir string, n int, digest string, o Options) (Result, error) {
	m, err := Open(dir, n, digest)
	if err != nil {
		return Result{}, err
	}
	defer m.Close()
	var r Result
	err = m.Each(func(_ int64, e *Entry) error {
		rel, err := Unescape(e.Path)
		switch {
		case err != nil || !o.Covers(rel, e):
		case e.Act == Refused:
			r.Refused++
		default:
			r.Done++
		}
		return err
	})
	return r, err
}

// Problem is an entry that was not committed.
type Problem struct {
	Path string `json:"path"` // escaped
	Why  string `json:"why"`
}

// Result is what a commit came to, or would.
type Result struct {
	Done      int64     // are as the run left them now; with Check: would be
	Already   int64     // were so before
	Refused   int64     // were never kept
	Conflicts int64     // the host changed what the run had seen
	Failed    int64     // could not be done
	Problems  []Problem // the first of the last two kinds
}

const maxProblems = 100

func (r *Result) problem(e *Entry, why string) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{e.Path, why})
	}
}

// Add adds another tree's.
func (r *Result) Add(o Result) {
	r.Done, r.Already, r.Refused = r.Done+o.Done, r.Already+o.Already, r.Refused+o.Refused
	r.Conflicts, r.Failed = r.Conflicts+o.Conflicts, r.Failed+o.Failed
	r.Problems = append(r.Problems, o.Problems...)
}

// Data opens the contents of a tree.
func Data(dir string, tree int) (*os.File, error) {
	return os.Open(filepath.Join(dir, dataName(tree)))
}

// Contents are the bytes of a file that was kept, checked against the digest
// that was sealed, at most limit of them.
func Contents(data io.ReaderAt, s *State, limit int64) ([]byte, error) {
	if s.Size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", s.Size, limit)
	}
	var b bytes.Buffer
	if err := copyOut(&b, data, s); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Digest is the SHA-256 as manifests write it.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// copyOut writes the contents of a file that was kept, and fails if they are
// not those that were sealed.
func copyOut(w io.Writer, data io.ReaderAt, s *State) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(data, s.Offset, s.Size))
	if err != nil {
		return err
	}
	if found := hex.EncodeToString(h.Sum(nil)); n != s.Size || found != s.SHA256 {
		return fmt.Errorf("%d bytes with the digest %s, the manifest says %d and %s: %w", n, found, s.Size, s.SHA256, ErrAltered)
	}
	return nil
}
