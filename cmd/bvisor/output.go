package main

import (
	"errors"
	"io/fs"
	"os"
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
	info, err := os.Lstat(o.report)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usage("--report: %w", err)
	case !info.Mode().IsRegular():
		return usage("--report: %s exists and is no regular file", o.report).hinted("choose another name")
	case !o.force:
		return usage("--report: %s exists already", o.report).hinted("choose another name, or replace it with --force")
	}
	return nil
}

func (o *runOptions) writeReport(envelope []byte) error {
	if err := o.replaceable(); err != nil {
		return err
	}
	if o.force {
		if err := os.Remove(o.report); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault("--report: %w", err)
		}
	}
	if err := writeNew(o.report, envelope); err != nil {
		return fault("--report: %w", err)
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
