package victim

import (
	"os"
)

// whenTold says that it runs, waits for its standard input to end, and then
// carries out another act as if it had been started for that.
func whenTold(args []string) error {
	if len(args) == 0 {
		return ErrUsage
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		return err
	}
	buf := make([]byte, 1)
	for {
		if n, _ := os.Stdin.Read(buf); n == 0 {
			break
		}
	}
	os.Exit(Main(args))
	return nil
}
