package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

// The checks of verify that need a ledger.
const (
	checkInclusion   = "inclusion"
	checkConsistency = "consistency"
)

// recorded checks that a verified report is in a ledger, and what that has
// become since. It returns words for it.
func (c *cli) recorded(name string, envelope []byte, v *report.Verified, keys []report.PublicKey, o *verifyOptions) (string, error) {
	bad := func(check, where, expected string, err error) error {
		return &report.CheckError{Check: check, Where: where, Expected: expected, Err: err, Passed: v.Checks}
	}
	log, err := c.ownLog()
	if err != nil {
		return "", err
	}
	if log != nil {
		defer log.Close()
	}
	proof, from, err := c.receipt(name, o.receipt, v.Report, log)
	if err != nil {
		if _, ok := errors.AsType[*failure](err); ok {
			return "", err
		}
		return "", bad(checkInclusion, from, "a receipt", err)
	}
	if proof == nil && o.since == "" {
		return "no receipt, so not shown to be in a ledger", nil
	}
	if proof == nil {
		return "", bad(checkConsistency, o.since, "a report with a receipt, or one in the ledger of the state directory", nil)
	}
	trusted := ed25519Keys(keys)
	head, err := proof.Check(trusted)
	if err == nil {
		err = belongs(proof.Entry, v.Report)
	}
	if err == nil && !proof.Entry.Matches(envelope) {
		err = errors.New("the leaf names other bytes than the report's")
	}
	if err != nil {
		return "", bad(checkInclusion, from, "the proof that the report is in the ledger", err)
	}
	v.Checks = append(v.Checks, report.Check{Name: checkInclusion, Detail: fmt.Sprintf("entry %d of %d, %s", proof.Entry.Index, head.Size, head.Origin)})
	words := fmt.Sprintf("entry %d of %s", proof.Entry.Index, head.Origin)
	if o.since == "" {
		return words, nil
	}
	old, err := c.readAll(o.since, 64<<10)
	if err != nil {
		return "", err
	}
	size, err := continues(log, head, old, trusted)
	if err != nil {
		return "", bad(checkConsistency, o.since, "a checkpoint of a log that this one continues", err)
	}
	v.Checks = append(v.Checks, report.Check{Name: checkConsistency, Detail: fmt.Sprintf("continues the log of %d entries", size)})
	return words + ", which continues that of " + strconv.FormatInt(size, 10) + " entries", nil
}

// continues checks that the log continues both an older checkpoint and the one
// of a receipt: then these two are of one log.
func continues(log *ledger.Dir, head ledger.Checkpoint, old []byte, keys []ed25519.PublicKey) (int64, error) {
	from, err := ledger.OpenCheckpoint(old, keys)
	if err != nil {
		return 0, err
	}
	if log == nil || log.Origin() != head.Origin {
		return 0, fmt.Errorf("the ledger %s is not in the state directory, and only it can prove that", head.Origin)
	}
	if _, err := log.Since(old, keys); err != nil {
		return 0, err
	}
	_, err = log.Since(head.Note, keys)
	return from.Size, err
}

// receipt finds the proof for a report and says where it came from. There may
// be none.
func (c *cli) receipt(name, file string, r *report.Report, log *ledger.Dir) (*ledger.Proof, string, error) {
	if file == "" && name != "-" {
		if _, err := os.Lstat(name); err == nil {
			if _, err := os.Lstat(name + receiptSuffix); err == nil {
				file = name + receiptSuffix
			}
		}
	}
	if file != "" {
		data, err := c.readAll(file, 64<<10)
		if err != nil {
			return nil, file, err
		}
		p, err := ledger.ParseProof(data)
		return p, file, err
	}
	if log == nil {
		return nil, "", nil
	}
	list, err := log.Attempt(r.Identity.Attempt)
	if err != nil {
		return nil, log.Path(), err
	}
	for _, e := range list {
		if e.Kind == ledger.Report || e.Kind == ledger.Refusal {
			p, err := log.Prove(e.Index)
			return p, log.Path(), err
		}
	}
	return nil, "", nil
}

// ownLog opens the ledger of the state directory, if there is one: verifying
// needs none.
func (c *cli) ownLog() (*ledger.Dir, error) {
	dir, err := c.state()
	if err != nil {
		return nil, nil
	}
	dir = filepath.Join(dir, "ledger")
	if _, err := os.Stat(filepath.Join(dir, "origin")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	log, err := ledger.OpenDir(dir)
	if err != nil {
		return nil, fault("%w", err)
	}
	return log, nil
}

// repaired says that a torn tail was found and moved away.
func (c *cli) repaired(log *ledger.Dir) {
	for _, t := range log.Torn() {
		if t.Kept != "" && !c.json {
			c.say("the ledger: %d bytes behind the last whole commit of %s, left by a crash and never acknowledged, are moved to %s", t.Bytes, t.Segment, t.Kept)
		}
	}
}
