package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Exec resolves "exec:/path arg..." to what a program writes on its standard
// output, without one newline at its end.
//
// The rest is either words between spaces, where '...' and "..." keep spaces
// and nothing else is special, or a JSON array of strings. There is no shell.
// The program runs as the supervisor, outside any boundary, with the
// supervisor's environment; it reads nothing, has ten seconds, and must exit 0.
type Exec struct{}

const (
	execLimit = 10 * time.Second

	// execDrain is how long output may still arrive after the program ended: a
	// descendant that keeps the pipe must not hold up the launch.
	execDrain = time.Second
)

// Resolve implements Resolver.
func (Exec) Resolve(ctx context.Context, rest string) (string, error) {
	argv, err := splitCommand(rest)
	if err != nil {
		return "", err
	}
	program := argv[0]
	if !filepath.IsAbs(program) {
		return "", fmt.Errorf("%s: want an absolute path", program)
	}
	info, err := os.Stat(program)
	if err == nil {
		err = trusted(info, program)
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, execLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.WaitDelay = execDrain
	var out limited
	var stderr counter // counted, not kept: a helper may print the secret there
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w after at most %v", program, ctx.Err(), execLimit)
	case out.over:
		return "", fmt.Errorf("%s: more than %d bytes on its standard output", program, maxValue)
	case errors.Is(err, exec.ErrWaitDelay):
		return "", fmt.Errorf("%s: it ended, but a process it left behind keeps its output open", program)
	case err != nil:
		return "", fmt.Errorf("%s: %w (%d bytes on its standard error are not shown: they may hold the secret)", program, err, stderr)
	}
	return cutNewline(out.buf.String()), nil
}

// limited keeps maxValue bytes; one more fails the copy, which ends the program
// by SIGPIPE or a failed write.
type limited struct {
	buf  bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > maxValue {
		l.over = true
		return 0, io.ErrShortBuffer
	}
	return l.buf.Write(p)
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// splitCommand reads either form of a command. There is at least one word, and
// the first is not empty.
func splitCommand(s string) ([]string, error) {
	words, err := splitWords(s)
	if strings.HasPrefix(s, "[") {
		words = nil
		if err = json.Unmarshal([]byte(s), &words); err != nil {
			return nil, errors.New(`want a JSON array of strings, e.g. exec:["/usr/bin/pass","show","token"]`)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("no program is named")
	}
	for _, w := range words {
		if strings.Contains(w, "\x00") {
			return nil, errors.New("a word contains NUL, which no argument can")
		}
	}
	return words, nil
}

// splitWords splits at runs of spaces outside quotes. A quote may stand
// anywhere in a word and ends at the next one of its kind.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		case '\'', '"':
			n := strings.IndexByte(s[i+1:], c)
			if n < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", c)
			}
			word.WriteString(s[i+1 : i+1+n])
			started = true
			i += n + 1
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}
