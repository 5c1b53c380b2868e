package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/bvisor/bvisor/ledger"
	"github.com/bvisor/bvisor/report"
)

func newLedger(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Look at the log of all attempts, check it, prove what is in it",
		Long: `The ledger is an append-only log: intents, reports, refusals, dispositions,
recoveries. It is a Merkle tree, and every commit ends with a checkpoint that the
key of the state directory signs.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(newLedgerList(c), newLedgerShow(c), newLedgerVerify(c), newLedgerProve(c), newLedgerCheckpoint(c), newLedgerExport(c), newLedgerFsck(c))
	return cmd
}

// openForCheck opens the log for a command that answers whether it is whole.
func (c *cli) openForCheck() (*ledger.Dir, error) {
	log, err := c.openLog()
	if errors.Is(err, ledger.ErrDamaged) {
		return nil, &failure{code: exitCheck, err: err}
	}
	return log, err
}

// entryArgument is how commands name an entry.
const entryArgument = `ENTRY is an index, or the first digits of an attempt's id: its last entry.
A number of up to 12 digits is an index.`

// entryOf finds an entry.
func entryOf(log *ledger.Dir, name string) (ledger.Entry, error) {
	var e ledger.Entry
	var err error
	if index, perr := strconv.ParseInt(name, 10, 64); perr == nil && len(name) <= 12 {
		e, err = log.Entry(index)
	} else {
		var attempt string
		if attempt, err = log.Find(name); err == nil {
			var list []ledger.Entry
			if list, err = log.Attempt(attempt); err == nil {
				e = list[len(list)-1]
			}
		}
	}
	if errors.Is(err, ledger.ErrDamaged) {
		return e, fault("%w", err)
	}
	if err != nil {
		return e, usage("%w", err).hinted(`"bvisor ledger list" lists the entries`)
	}
	return e, nil
}

// entryLine is an entry for a list.
type entryLine struct {
	Index   int64  `json:"index"`
	Kind    string `json:"kind"`
	Attempt string `json:"attempt"`
	Time    string `json:"time"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	Outcome string `json:"outcome,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Plan    string `json:"plan,omitempty"`

	Command []string `json:"command,omitempty"`
}

func lineOf(e ledger.Entry) entryLine {
	return entryLine{Index: e.Index, Kind: string(e.Kind), Attempt: e.Attempt, Time: e.Time.UTC().Format(time.RFC3339Nano), Size: e.Size, SHA256: e.SHA256}
}

// describeEntry adds what a sealed report says. One that cannot be read is
// listed as such: a list that left it out would hide it.
func describeEntry(log *ledger.Dir, e ledger.Entry) (entryLine, *report.Report, error) {
	l := lineOf(e)
	if e.Kind != ledger.Report && e.Kind != ledger.Refusal {
		return l, nil, nil
	}
	_, data, err := log.ReadAt(e.Index)
	if err != nil {
		return l, nil, fault("%w", err)
	}
	sealed, err := report.Parse(data)
	if err != nil {
		l.Outcome, l.Reason = "unreadable", err.Error()
		return l, nil, nil
	}
	r := sealed.Report
	l.Outcome, l.Reason, l.Plan = string(r.Outcome.Status), r.Outcome.Reason, r.Identity.Plan
	switch {
	case r.Plan != nil:
		l.Command = r.Plan.Resolved.Spec.Workload.Command
	case r.Refusal != nil:
		l.Command = r.Refusal.Resolved.Spec.Workload.Command
	}
	return l, r, nil
}

func newLedgerShow(c *cli) *cobra.Command {
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:   "show [--json | --raw] ENTRY",
		Short: "Show an entry, and what else its attempt has",
		Long:  "Show one entry: its place, its leaf, and every entry of the same attempt.\n\n" + entryArgument,
		Example: `  bvisor ledger show 12
  bvisor ledger show --raw 3f2a91 > report.json`,
		Args: arguments(1, 1, "ENTRY"),
		RunE: func(_ *cobra.Command, args []string) error { return c.showEntry(args[0], asJSON, raw) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON line for each entry of the attempt")
	cmd.Flags().BoolVar(&raw, "raw", false, "write the entry's bytes as they stand")
	return cmd
}

func (c *cli) showEntry(name string, asJSON, raw bool) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	e, err := entryOf(log, name)
	if err != nil {
		return err
	}
	if raw {
		_, body, err := log.ReadAt(e.Index)
		if err != nil {
			return fault("%w", err)
		}
		return c.write(body)
	}
	list, err := log.Attempt(e.Attempt)
	if err != nil {
		return fault("%w", err)
	}
	var out bytes.Buffer
	if !asJSON {
		table(&out, [][]string{{"attempt", e.Attempt}, {"leaf", strings.TrimSuffix(string(e.Leaf()), "\n")}})
	}
	var rows [][]string
	for _, e := range list {
		l, _, err := describeEntry(log, e)
		if err != nil {
			return err
		}
		if asJSON {
			if err := c.writeJSON(l); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, rowOf(l))
	}
	table(&out, rows)
	return c.write(out.Bytes())
}

func rowOf(l entryLine) []string {
	outcome := l.Outcome
	if l.Reason != "" {
		outcome += ": " + shorten(l.Reason, 40)
	}
	at, _ := time.Parse(time.RFC3339Nano, l.Time)
	return []string{strconv.FormatInt(l.Index, 10), l.Kind, l.Attempt[:12], at.Format(time.RFC3339), outcome, shorten(commandLine(l.Command), 60)}
}

func newLedgerVerify(c *cli) *cobra.Command {
	var keys []string
	var since string
	var every, reports bool
	cmd := &cobra.Command{
		Use:   "verify [--since CHECKPOINT] [--every] [--reports] [--key FILE]...",
		Short: "Check the whole log",
		Long: `Verify reads the whole log and checks that every entry has the bytes that its leaf
names, that the checkpoints are of these entries and signed by a trusted key, that
tiles and index are what follows from the entries, and that there is nothing else.

The signature of a checkpoint is checked for the last commit of every segment;
what came before is superseded by it. With --every all are, and with --reports
the seal of every report, too.

With --since it also checks that the log continues the tree of an older
checkpoint: a log that was cut, rolled back or forked does not.

Exit codes: 0 every check passed, 1 a check failed.`,
		Example: `  bvisor ledger verify
  bvisor ledger verify --since /mnt/elsewhere/checkpoint`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.verifyLedger(keys, since, every, reports) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "trust the public key in `FILE`, too")
	f.StringVar(&since, "since", "", "check that the log continues the tree of the checkpoint in `FILE`")
	f.BoolVar(&every, "every", false, "check the signature of every commit")
	f.BoolVar(&reports, "reports", false, "check the seal and the contents of every report")
	return cmd
}

func (c *cli) verifyLedger(keyFiles []string, since string, every, reports bool) error {
	log, err := c.openForCheck()
	if err != nil {
		return err
	}
	defer log.Close()
	trusted, err := c.trusted(keyFiles)
	if err != nil {
		return err
	}
	o := ledger.VerifyOptions{Keys: ed25519Keys(trusted), Every: every, Progress: c.progress("verified")}
	if reports {
		o.Entry = func(e ledger.Entry, body []byte) error { return checkBody(e, body, trusted) }
	}
	var text []string
	if since != "" {
		old, err := c.readAll(since, 64<<10)
		if err != nil {
			return err
		}
		proof, err := log.Since(old, o.Keys)
		if err != nil {
			return &failure{code: exitCheck, err: fmt.Errorf("check consistency: %s: %w", since, err)}
		}
		was, _ := ledger.ParseCheckpoint(proof.Old)
		text = append(text, fmt.Sprintf("it continues the log of %d entries", was.Size))
	}
	v, err := log.Verify(o)
	c.progress("")(0, 0)
	if _, ok := errors.AsType[*ledger.Problem](err); ok {
		return &failure{code: exitCheck, err: err}
	}
	if err != nil {
		return fault("%w", err)
	}
	text = append([]string{fmt.Sprintf("verified: %d entries, %d without an end, %d signatures, %s", v.Entries, v.Open, v.Signatures, log.Origin())}, text...)
	return c.write([]byte(fit(strings.Join(text, "; ")) + "\n"))
}

// checkBody verifies what an entry holds, if that is sealed.
func checkBody(e ledger.Entry, body []byte, keys []report.PublicKey) error {
	if e.Kind != ledger.Report && e.Kind != ledger.Refusal {
		return nil
	}
	v, err := report.Verify(body, keys)
	if err == nil {
		err = belongs(e, v.Report)
	}
	return err
}

// belongs says whether an entry is where a report stands.
func belongs(e ledger.Entry, r *report.Report) error {
	kind := ledger.Report
	if r.Outcome.Status == report.Refused {
		kind = ledger.Refusal
	}
	if e.Attempt != r.Identity.Attempt || e.Kind != kind {
		return fmt.Errorf("the leaf is of the %s of %s, and this is the %s of %s", e.Kind, e.Attempt, kind, r.Identity.Attempt)
	}
	return nil
}

// progress tells a terminal how far something has come.
func (c *cli) progress(what string) func(done, total int64) {
	f, ok := c.stderr.(*os.File)
	if !ok || c.quiet || !term.IsTerminal(int(f.Fd())) {
		return func(int64, int64) {}
	}
	var last time.Time
	return func(done, total int64) {
		if total == 0 {
			fmt.Fprint(f, "\r\x1b[K")
		} else if now := time.Now(); now.Sub(last) > 200*time.Millisecond {
			last = now
			fmt.Fprintf(f, "\rbvisor: %s %d of %d entries\x1b[K", what, done, total)
		}
	}
}

func newLedgerProve(c *cli) *cobra.Command {
	var output, since string
	cmd := &cobra.Command{
		Use:   "prove [-o FILE] (ENTRY | --since CHECKPOINT)",
		Short: "Write the proof that an entry is in the log, or that the log continues",
		Long: `Write a receipt: the proof that an entry is in the log of the checkpoint that
stands at its end, in the form of c2sp.org/tlog-proof. "bvisor verify --receipt"
checks it, without the log.

With --since instead of an entry, write the proof that the log continues the tree
of an older checkpoint.

` + entryArgument + `

Exit codes: 0, 1 the log does not continue that checkpoint.`,
		Example: `  bvisor ledger prove -o report.json.tlog-proof 3f2a91
  bvisor ledger prove --since old-checkpoint`,
		Args: arguments(0, 1, "ENTRY"),
		RunE: func(_ *cobra.Command, args []string) error { return c.prove(args, since, output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE`, which must not exist")
	cmd.Flags().StringVar(&since, "since", "", "prove that the log continues the tree of the checkpoint in `FILE`")
	return cmd
}

func (c *cli) prove(args []string, since, output string) error {
	if (len(args) == 1) == (since != "") {
		return usage("bvisor ledger prove: expected ENTRY or --since, one of them").hinted("%q lists examples", "bvisor ledger prove --help")
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	var data []byte
	if since != "" {
		old, err := c.readAll(since, 64<<10)
		if err != nil {
			return err
		}
		trusted, err := c.trusted(nil)
		if err != nil {
			return err
		}
		proof, err := log.Since(old, ed25519Keys(trusted))
		if err != nil {
			return &failure{code: exitCheck, err: fmt.Errorf("check consistency: %s: %w", since, err)}
		}
		data = proof.Marshal()
	} else {
		e, err := entryOf(log, args[0])
		if err != nil {
			return err
		}
		proof, err := log.Prove(e.Index)
		if err != nil {
			return fault("%w", err)
		}
		data = proof.Marshal()
	}
	return c.writeTo(output, data)
}

// writeTo writes to a new file, or answers.
func (c *cli) writeTo(output string, data []byte) error {
	if output == "" {
		return c.write(data)
	}
	if err := writeNew(output, data); err != nil {
		return usage("%w", err)
	}
	return nil
}

func newLedgerCheckpoint(c *cli) *cobra.Command {
	var publish, vkey bool
	var to string
	cmd := &cobra.Command{
		Use:   "checkpoint [--publish] [--checkpoint-to FILE|'|CMD'] [--vkey]",
		Short: "Write the log's signed checkpoint",
		Long: `Write the checkpoint of the log as it is: its name, size and root, signed. It is a
note of c2sp.org/signed-note. Whoever keeps it elsewhere can tell later whether
the log was cut or rewritten since: "bvisor ledger verify --since".

With --publish what the log has in public/ is completed first: tiles, bundles of
leaves and the checkpoint, as c2sp.org/tlog-tiles has it, for any static file
server. Entries themselves are not in there.`,
		Example: `  bvisor ledger checkpoint
  bvisor ledger checkpoint --checkpoint-to /mnt/elsewhere/checkpoint
  bvisor ledger checkpoint --vkey`,
		Args: arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.checkpoint(publish, vkey, to) },
	}
	cmd.Flags().BoolVar(&publish, "publish", false, "complete public/ first")
	cmd.Flags().StringVar(&to, "checkpoint-to", "", checkpointTo)
	cmd.Flags().BoolVar(&vkey, "vkey", false, "write the key that verifies it, in the form of signed notes, instead")
	return cmd
}

func (c *cli) checkpoint(publish, vkey bool, to string) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	if vkey {
		_, k, err := c.key()
		if err != nil {
			return err
		}
		text, err := ledger.VerifierKey(log.Origin(), k.Public().Ed25519())
		if err != nil {
			return fault("%w", err)
		}
		return c.write([]byte(text + "\n"))
	}
	head, err := log.Head()
	if err == nil && publish {
		head, err = log.Publish()
	}
	if err != nil {
		return fault("%w", err)
	}
	if head == nil {
		return usage("the ledger %s is empty: there is no checkpoint", log.Path())
	}
	if to != "" {
		return c.keepCheckpoint(log, to)
	}
	return c.write(head)
}

func newLedgerExport(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export -o DIR",
		Short: "Write the log into a directory, for whoever verifies it",
		Long: `Write the published files and every entry into a directory that must not exist:
checkpoint, tile/ and entries/INDEX.KIND. docs/formats/verify.py checks such a
directory without bvisor.`,
		Example: "  bvisor ledger export -o exported",
		Args:    arguments(0, 0, ""),
		RunE:    func(*cobra.Command, []string) error { return c.exportLedger(output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `DIR`, which must not exist")
	return cmd
}

func (c *cli) exportLedger(dir string) error {
	if dir == "" {
		return usage("bvisor ledger export: -o DIR is missing").hinted("%q", "bvisor ledger export -o DIR")
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return usage("%w", err)
	}
	head, err := log.Publish()
	if err != nil {
		return fault("%w", err)
	}
	if head == nil {
		return nil
	}
	at, err := ledger.ParseCheckpoint(head)
	if err != nil {
		return fault("bug: %w", err)
	}
	public := filepath.Join(log.Path(), "public")
	// Later ones may have been published by then; these are all that this
	// checkpoint needs.
	for _, name := range ledger.Published(at.Size) {
		data, err := os.ReadFile(filepath.Join(public, filepath.FromSlash(name)))
		if err == nil {
			err = writeBelow(dir, name, data)
		}
		if err != nil {
			return fault("%w", err)
		}
	}
	if err := writeBelow(dir, "checkpoint", head); err != nil {
		return fault("%w", err)
	}
	told := c.progress("exported")
	defer told(0, 0)
	for e, read := range log.Walk(0) {
		if e.Index == at.Size {
			break
		}
		body, err := read()
		if err == nil {
			err = writeBelow(dir, fmt.Sprintf("entries/%09d.%s", e.Index, e.Kind), body)
		}
		if err != nil {
			return fault("%w", err)
		}
		told(e.Index, at.Size)
	}
	return nil
}

func writeBelow(dir, name string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeNew(path, data)
}

func newLedgerFsck(c *cli) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "fsck [--repair]",
		Short: "List everything that is wrong with the ledger's files",
		Long: `Fsck makes every check of "bvisor ledger verify --every" and lists all that fail,
not only the first.

With --repair it makes tiles, bundles and index again where they are missing or
wrong, and moves what a crash left behind the last whole commit to torn/. It
invents nothing: an entry that is damaged stays damaged.

Exit codes: 0 nothing is wrong, or nothing is any longer; 1 something is.`,
		Example: "  bvisor ledger fsck --repair",
		Args:    arguments(0, 0, ""),
		RunE:    func(*cobra.Command, []string) error { return c.fsck(repair) },
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "make again what follows from the entries, and move a torn tail away")
	return cmd
}

func (c *cli) fsck(repair bool) error {
	log, err := c.openForCheck()
	if err != nil {
		return err
	}
	defer log.Close()
	told := c.progress("checked")
	defer told(0, 0)
	var unsaid error
	say := func(line string) bool {
		told(0, 0)
		unsaid = c.write([]byte(fit(line) + "\n"))
		return unsaid == nil
	}
	if repair {
		made, err := log.Repair()
		for _, path := range made {
			say("made again " + path)
		}
		for _, t := range log.Torn() {
			if t.Kept == "" {
				continue // only seen
			}
			say(fmt.Sprintf("moved %d bytes at %d of %s to %s", t.Bytes, t.Offset, t.Segment, t.Kept))
		}
		if err != nil {
			say(err.Error())
		}
	}
	trusted, err := c.trusted(nil)
	if err != nil {
		return err
	}
	count := 0
	v, err := log.Verify(ledger.VerifyOptions{Keys: ed25519Keys(trusted), Every: true, Progress: told,
		Found: func(p *ledger.Problem) bool {
			count++
			return say(p.Error())
		}})
	if unsaid != nil {
		return unsaid
	}
	if _, ok := errors.AsType[*ledger.Problem](err); err != nil && !ok {
		return fault("%w", err)
	}
	if say(fmt.Sprintf("%d entries, %d problems", v.Entries, count)); unsaid != nil {
		return unsaid
	}
	if count > 0 {
		return &failure{code: exitCheck}
	}
	return nil
}
