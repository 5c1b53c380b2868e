package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/bvisor/bvisor"
	"github.com/bvisor/bvisor/ledger"
)

// checkReport finds out before the run whether --report can be written. The
// file is made only afterwards, when nothing of the workload is left that
// could put something else in its place.
func (o *runOptions) checkReport() error {
	if o.report == "" {
		return nil
	}
	if err := o.replaceable(); err != nil {
		return err
	}
	if _, err := os.Lstat(o.report); err == nil {
		return nil
	}
	f, err := create(o.report)
	if err != nil {
		return usage("--report: %w", err)
	}
	f.Close()
	return os.Remove(o.report)
}

// replaceable fails when there is something at the report's path that must
// stay. A symbolic link is never followed, and never replaced.
func (o *runOptions) replaceable() error {
	for _, name := range []string{o.report, o.report + receiptSuffix} {
		info, err := os.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return usage("--report: %w", err)
		case !info.Mode().IsRegular():
			return usage("--report: %s exists and is no regular file", name).hinted("choose another name")
		case !o.force:
			return usage("--report: %s exists already", name).hinted("choose another name, or replace it with --force")
		}
	}
	return nil
}

// receiptSuffix is that of c2sp.org/tlog-proof.
const receiptSuffix = ".tlog-proof"

// writeReport writes the sealed report, and the proof that it is in the ledger
// beside it.
func (o *runOptions) writeReport(log *ledger.Dir, result *bvisor.Result) error {
	if err := o.replaceable(); err != nil {
		return err
	}
	names := []string{o.report}
	files := [][]byte{result.Envelope}
	if result.Receipt != nil {
		proof, err := log.Prove(result.Receipt.Index)
		if err != nil {
			return fault("--report: %w", err)
		}
		names, files = append(names, o.report+receiptSuffix), append(files, proof.Marshal())
	}
	for i, name := range names {
		if o.force {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fault("--report: %w", err)
			}
		}
		if err := writeNew(name, files[i]); err != nil {
			return fault("--report: %w", err)
		}
	}
	return nil
}

// create makes a file that does not exist. O_EXCL does not follow a symbolic
// link either (open(2)). A report names paths and commands: it is its owner's.
func create(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// writeNew writes a file that does not exist, whole or not at all.
func writeNew(name string, data []byte) error {
	f, err := create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
