package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Each append contains a real flush; BenchmarkBareFsync is what the disk itself
// takes for one.
func BenchmarkAppend(b *testing.B) {
	d := open(b)
	entry := bytes.Repeat([]byte("x"), 4096)
	for i := 0; b.Loop(); i++ {
		kind := Intent
		if i%2 == 1 {
			kind = Report
		}
		if _, err := d.Append(kind, id("a", i/2), entry); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend64(b *testing.B) {
	d := open(b)
	entry := bytes.Repeat([]byte("x"), 4096)
	b.SetParallelism(32)
	var n = make(chan int, 1)
	n <- 0
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := <-n
			n <- i + 1
			kind := Intent
			if i%2 == 1 {
				kind = Report
			}
			if _, err := d.Append(kind, id("a", i/2), entry); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkBareFsync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "f"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("x"), 4096)
	for b.Loop() {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// What bvisor run does: open, look ahead, append.
func BenchmarkOpenAndAppend(b *testing.B) {
	d := open(b)
	fillLarge(b, d, 20000, 1000)
	for i := 0; b.Loop(); i++ {
		d, err := OpenDir(d.Path())
		if err != nil {
			b.Fatal(err)
		}
		d.Signer = key
		if err := d.Preflight(); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Append(Intent, id("b", i), []byte("intent")); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Append(Report, id("b", i), bytes.Repeat([]byte("x"), 16000)); err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}
