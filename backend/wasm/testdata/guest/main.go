// The guest does what its first argument says. It is built for wasip1, and once
// more for the host as the control of what it is denied.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

var sink [][]byte

//go:noinline
func deeper(n int) int {
	var room [64]int
	if n == 0 {
		return 0
	}
	room[n%64] = 1
	return deeper(n-1) + room[n%64]
}

func main() {
	if err := act(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func act(args []string) error {
	switch args[0] {
	case "nothing":
	case "say":
		fmt.Println(strings.Join(args[1:], " "))
	case "environment":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "exit":
		n, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return err
		}
		os.Exit(int(n))
	case "spin":
		fmt.Println("spinning")
		for {
		}
	case "work":
		s := uint32(1)
		for i := range uint32(2_000_000) {
			s = s*1664525 + 1013904223 + i
		}
		fmt.Println(s)
	case "sleep":
		time.Sleep(time.Hour)
	case "hog":
		for {
			sink = append(sink, make([]byte, 1<<20))
		}
	case "deep":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		fmt.Println(deeper(n))
	case "flood":
		line := strings.Repeat("a", 999) + "\n"
		for {
			fmt.Print(line)
		}
	case "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "read":
		b, err := os.ReadFile(args[1])
		fmt.Printf("%s", b)
		return err
	case "write":
		return os.WriteFile(args[1], []byte(args[2]), 0o644)
	case "open": // as often as it can
		var list []*os.File
		for {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			list = append(list, f)
			fmt.Println(len(list))
		}
	case "times":
		begun := time.Now()
		for time.Since(begun) <= 0 {
		}
		info, err := os.Stat(args[1])
		if err != nil {
			return err
		}
		fmt.Println(begun.UTC().Year(), info.ModTime().UTC().Year())
	case "ask": // for many long names
		for i := range 400 {
			_, _ = os.Stat(fmt.Sprint(args[1], i) + strings.Repeat("/\x01", 1900))
		}
	case "fill":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return os.WriteFile(args[1], make([]byte, n), 0o644)
	case "linger":
		if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil {
			return err
		}
		fmt.Println("written")
		for {
		}
	case "change":
		return change(args[1])
	case "stir":
		return stir(args[1], args[2])
	case "touch":
		for _, name := range args[1:] {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 0)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
	case "rename":
		return os.Rename(args[1], args[2])
	case "remove":
		return os.Remove(args[1])
	case "chance":
		var b [16]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		begun := time.Now()
		time.Sleep(time.Second)
		names, err := os.ReadDir(".")
		fmt.Printf("%x %s %v %v %v\n", b, begun.UTC(), time.Since(begun), names, err)
	default:
		return fmt.Errorf("no such act: %s", args[0])
	}
	return nil
}
