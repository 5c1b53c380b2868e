package wasm

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

// What a worker and its supervisor say to each other: frames of one byte for
// the kind, four for the length, and the contents. Neither believes the other's
// lengths beyond what the kind allows.
//
//	supervisor            worker
//	                      hello      it runs inside its boundary
//	setup, module, code ▶            code only if the module was compiled before
//	                    ◀ code       only if it was not
//	                    ◀ ready, or failed
//	job                 ▶
//	                    ◀ want       bytes of standard input
//	data                ▶            up to that many, none at the end
//	                    ◀ stdout, stderr
//	cancel              ▶
//	                    ◀ result     and it waits for the next job
const (
	frameHello  = 'H'
	frameSetup  = 'S'
	frameModule = 'M'
	frameCode   = 'C'
	frameReady  = 'R'
	frameFailed = 'F'
	frameJob    = 'J'
	frameWant   = 'W'
	frameData   = 'D'
	frameStdout = 'O'
	frameStderr = 'E'
	frameCancel = 'K'
	frameResult = 'X'
)

// largest is how long a frame of a kind may be.
func largest(kind byte) uint32 {
	switch kind {
	case frameModule, frameCode:
		return 1 << 30
	case frameJob:
		return 8 << 20 // arguments, environment, roots
	case frameSetup, frameFailed:
		return 1 << 20
	case frameResult:
		return 8 << 20 // denials: a byte of theirs takes up to six as JSON
	case frameStdout, frameStderr, frameData:
		return 64 << 10
	case frameWant:
		return 4
	}
	return 0
}

// conn is one side of the exchange. Reading is one goroutine's, writing anybody's.
type conn struct {
	from *bufio.Reader

	mu sync.Mutex
	to io.Writer
}

func newConn(from io.Reader, to io.Writer) *conn {
	return &conn{from: bufio.NewReader(from), to: to}
}

func (c *conn) send(kind byte, contents []byte) error {
	if uint64(len(contents)) > uint64(largest(kind)) {
		return fmt.Errorf("a frame %q of %d bytes is too long", kind, len(contents))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(contents)))
	if len(contents) <= 4096 { // one system call
		head, contents = append(head, contents...), nil
	}
	if _, err := c.to.Write(head); err != nil {
		return err
	}
	if len(contents) == 0 {
		return nil
	}
	_, err := c.to.Write(contents)
	return err
}

func (c *conn) sendJSON(kind byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, text)
}

// receive reads a frame of one of these kinds. Of any other one nothing but its
// head is read.
func (c *conn) receive(kinds ...byte) (kind byte, contents []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.from, head[:]); err != nil {
		return 0, nil, err
	}
	kind = head[0]
	n := binary.BigEndian.Uint32(head[1:])
	if !slices.Contains(kinds, kind) {
		return kind, nil, fmt.Errorf("a frame %q, expected one of %q", kind, kinds)
	}
	if n > largest(kind) {
		return 0, nil, fmt.Errorf("a frame %q of %d bytes, at most %d are read", kind, n, largest(kind))
	}
	contents = make([]byte, n)
	_, err = io.ReadFull(c.from, contents)
	return kind, contents, err
}

// expect receives a frame of one kind.
func (c *conn) expect(want byte) ([]byte, error) {
	_, contents, err := c.receive(want)
	return contents, err
}
