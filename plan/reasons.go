package plan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/bvisor/bvisor/spec"
)

// Codes of reasons. They are stable; docs/refusals.md explains each. Those that
// end in a dot are followed by the kind, dimension, feature or claim.
const (
	codeUnsupported     = "unsupported."       // KIND, "wasm" or "command"
	codeFeature         = "feature."           // FEATURE
	codeConflict        = "weakening.conflict" // an accepted weakening gives up what something else builds on
	codeBudget          = "budget."            // DIMENSION, then one of the five below
	codeBudgetNoWay     = ".unsupported"       // nothing bounds it
	codeBudgetCapacity  = ".capacity"          // the limit is beyond what can be bounded
	codeBudgetGuarantee = ".guarantee"         // bounded, but not strongly enough
	codeBudgetEvidence  = ".evidence"          // bounded, but the claim cannot be shown of it
	codeBudgetMinimum   = ".minimum"           // less than the rest of the spec needs
	codeEvidence        = "evidence."          // CLAIM
	codeModule          = "wasm."              // one of spec.UnfitCodes
	codeSpecInvalid     = "spec.invalid"       // a value that spec.Parse would not have let through
	codeProfileVersion  = "profile.version"    // the profile is of another version
	codeProfileDrift    = "profile.drift"      // the profile is not the one the plan was made for
	codeEncoding        = "plan.encoding"      // no canonical encoding, e.g. a path that is not UTF-8
	workloadWasm        = Kind("wasm")         // stands in for a kind behind codeUnsupported
	workloadCommand     = Kind("command")      // likewise
	forEvidence         = Kind("evidence")     // Reason.Requirement of codeEvidence
	hostNetwork         = spec.Weakening("host-network")
	inProcess           = spec.Weakening("in-process")
	outlives            = spec.Weakening("outlives-supervisor")
)

// instead says, for what a spec can do without, how to do without it. A kind
// that is not here has no way around it but another host.
var instead = []struct {
	kind Kind
	text string
}{
	{FilesystemCarveOut, "take the carve-out out of capabilities.filesystem, and grant narrower paths"},
	{NetworkDenyAll, `accept "host-network" to run with the host's network`},
	{NetworkLoopback, "use network: none"},
	{NetworkAllowList, "use network: none"},
	{SpawnNone, "allow spawn: threads or spawn: processes"},
	{SpawnThreads, "use spawn: none or spawn: processes"},
	{SpawnProcesses, "use spawn: none or spawn: threads"},
	{FDsOnly, "take capabilities.fds out"},
	{Clock, "take capabilities.clock out"},
	{Random, "take capabilities.random out"},
	{CaptureStreams, "take controls.capture out"},
	{Terminal, "use stdin: inherit, and capture stdout and stderr"},
	{TempRoot, "take the path out of controls.temp"},
	{ExposePath, "take the path out of controls.expose"},
	{CommitArtifact, "take controls.artifacts out"},
	{DiscardArtifact, "take controls.artifacts out"},
	{ListOutputs, "take controls.artifacts out"},
}

// without says how to write a spec that does not want w; empty when every spec
// wants it.
func without(w *want) string {
	if w.dimension != "" && w.origin != spec.FromDefault {
		return "take budgets." + string(w.dimension) + " out"
	}
	for _, b := range Waivable {
		if b.Kind == w.kind {
			return "accept " + strconv.Quote(string(b.Weakening)) + " to run without it: " + spec.Weakenings[b.Weakening]
		}
	}
	if w.kind == StdinControl && w.origin == spec.FromSpec {
		return "use stdin: none"
	}
	for _, i := range instead {
		if i.kind == w.kind {
			return i.text
		}
	}
	return ""
}

// either joins the remedies that there are.
func either(remedies ...string) string {
	remedies = slices.DeleteFunc(remedies, func(r string) bool { return r == "" })
	if len(remedies) == 0 {
		return "use a host or a backend that holds it"
	}
	return strings.Join(remedies, "; or ")
}

func (w *want) reason(code, need, fact, remedy string) Reason {
	return Reason{Code: code, Requirement: w.kind, Origin: w.origin, Subject: w.subject,
		Need: need, Fact: fact, Remedy: remedy}
}

func (w *want) budgetCode(suffix string) string {
	return codeBudget + string(w.dimension) + suffix
}

func noWay(w *want, offer *Offer) Reason {
	code := codeUnsupported + string(w.kind)
	if w.dimension != "" {
		code = w.budgetCode(codeBudgetNoWay)
	}
	need, fact := offer.Need, offer.Fact
	if need == "" {
		need = "a mechanism for " + string(w.kind)
	}
	if fact == "" {
		fact = "the backend has none on this host"
	}
	return w.reason(code, need, fact, either(offer.Remedy, without(w)))
}

func tooWeak(w *want, offer *Offer, way *Way, has spec.Enforcement) Reason {
	code, lower := codeUnsupported+string(w.kind), ""
	if w.dimension != "" {
		code = w.budgetCode(codeBudgetGuarantee)
		lower = "set budgets." + string(w.dimension) + ".guarantee to " + strength(has)
	}
	need, fact := string(w.kind)+" "+strength(w.enforcement), way.names()+" on this host is only "+strength(has)
	if offer.Fact != "" { // why the stronger way is not there
		need, fact = offer.Need, fact+"; "+offer.Fact
	}
	return w.reason(code, need, fact, either(offer.Remedy, lower, without(w)))
}

func beyondCapacity(w *want, offer *Offer, way *Way) Reason {
	return w.reason(w.budgetCode(codeBudgetCapacity),
		"a bound on "+string(w.dimension)+" of "+amount(w.dimension, w.limit),
		way.names()+" bounds at most "+amount(w.dimension, way.Capacity),
		"set budgets."+string(w.dimension)+" to at most "+amount(w.dimension, way.Capacity))
}

func belowMinimum(w *want) Reason {
	return w.reason(w.budgetCode(codeBudgetMinimum),
		"at least "+amount(w.dimension, w.minimum),
		"the limit is "+amount(w.dimension, w.limit)+"; "+w.because,
		"set budgets."+string(w.dimension)+" to "+amount(w.dimension, w.minimum)+" or more")
}

func notShown(w *want, way *Way, claim spec.Claim) Reason {
	return w.reason(w.budgetCode(codeBudgetEvidence),
		string(claim)+" for "+string(w.dimension),
		way.names()+" cannot show it",
		"take "+string(claim)+" out of budgets."+string(w.dimension)+".evidence")
}

// featureText says what a feature is, and what to write instead.
var featureText = []struct{ feature, need, remedy string }{
	{FeatureExecWithoutRead, "execute without read", "grant r besides x"},
	{FeatureWriteWithoutRead, "write without read", "grant r besides w"},
	{FeatureNonRecursive, "a directory without what is below it", "name the files, or grant the tree"},
	{FeatureFileRoot, "a single file as a root", "grant the directory that holds it"},
	{FeatureDescendants, "the end of every process that the program started", "use spawn: none or spawn: threads"},
	{FeatureWithSupervisor, "the end of every process that the program started, should the supervisor be killed", `accept "outlives-supervisor"`},
	{FeatureRate, "a bound on how fast processor time is used", "take budgets.cpu.rate out"},
	{FeatureSubSecond, "a bound that is no whole number of seconds", "set budgets.cpu to whole seconds"},
	{FeatureOtherRoot, "a FIFO or socket as a root", "take the path out"},
}

func lacking(w *want, offer *Offer, way *Way, feature string) Reason {
	need, remedy := feature, "ask for it in another way"
	for _, t := range featureText {
		if t.feature == feature {
			need, remedy = t.need, t.remedy
		}
	}
	return w.reason(codeFeature+feature, need, way.names()+" cannot hold it", either(offer.Remedy, remedy))
}

func conflict(w *want, way *Way, gone Kind, accepted spec.Weakening) Reason {
	r := w.reason(codeConflict,
		string(gone)+", which "+way.names()+" builds on to hold "+string(w.kind),
		"accept names "+strconv.Quote(string(accepted))+", which gives it up",
		either("take "+strconv.Quote(string(accepted))+" out of accept", without(w)))
	if r.Subject == "" {
		r.Subject = string(accepted)
	}
	return r
}

func (m *maker) noEvidence(claim spec.Claim, missing *EvidenceSource) Reason {
	r := Reason{Code: codeEvidence + string(claim), Requirement: forEvidence, Origin: spec.FromSpec,
		Subject: string(claim),
		Need:    "something that shows " + string(claim),
		Fact:    "nothing in this plan can show it",
		Remedy:  "take " + string(claim) + " out of evidence"}
	if missing == nil {
		return r
	}
	var absent []string
	for _, k := range missing.Needs {
		if !m.holds(k) {
			absent = append(absent, string(k))
		}
	}
	r.Need = missing.By
	r.Fact = "it works only with " + strings.Join(absent, ", ") + ", which this plan does not hold"
	r.Remedy = "ask for " + strings.Join(absent, ", ") + "; or " + r.Remedy
	return r
}

func notEncodable(err error) Reason {
	return Reason{Code: codeEncoding, Requirement: Launch, Origin: spec.FromSpec,
		Need: "a plan that can be written down: text in UTF-8, numbers below 2^53",
		Fact: err.Error(), Remedy: "rename the path, or change the value"}
}

func drifted(planned, now string) Reason {
	return Reason{Code: codeProfileDrift, Requirement: Launch, Origin: spec.FromDefault,
		Need:   "the profile " + planned + " that the plan was made for",
		Fact:   "the profile is " + now,
		Remedy: "plan again on this host"}
}

func strength(e spec.Enforcement) string {
	switch e {
	case spec.Enforced:
		return "enforced"
	case spec.Mediated:
		return "mediated"
	}
	return "unsupported"
}

// names gives a way as people read it: "mount-namespace + landlock".
func (w *Way) names() string { return names(w.Mechanisms) }

func names(mechanisms []Mechanism) string {
	list := make([]string, 0, len(mechanisms))
	for i := range mechanisms {
		list = append(list, mechanisms[i].Name)
	}
	return strings.Join(list, " + ")
}

// amount writes a number in the unit of its dimension.
func amount(d spec.Dimension, n int64) string {
	switch d {
	case spec.Wall, spec.CPU:
		return inUnits(n, "ns", unit{1e9, "s"}, unit{1e6, "ms"}, unit{1e3, "us"})
	case spec.Memory, spec.Storage, spec.Network_, spec.Output:
		return inUnits(n, " bytes", unit{1 << 30, "GiB"}, unit{1 << 20, "MiB"}, unit{1 << 10, "KiB"})
	}
	return strconv.FormatInt(n, 10)
}

type unit struct {
	size int64
	name string
}

// inUnits uses the largest unit that loses nothing.
func inUnits(n int64, small string, units ...unit) string {
	if n == 0 {
		return "0"
	}
	for _, u := range units {
		if n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + small
}

// moduleText says what a module has to be, and what to do with one that is not.
var moduleText = []struct{ code, need, remedy string }{
	{"invalid", "a WebAssembly module that is true to itself", "build it again"},
	{"component", "a core module: the component model is not supported", "build for wasip1, or take the core module out of the component"},
	{"feature", "a module without this feature: only what is counted is run", "build for WebAssembly 2.0 without vectors, threads and other extensions"},
	{"size", "a module and functions that are not that large", "leave debugging information out, or split it"},
	{"functions", "a module with fewer functions", "split it"},
	{"import", "imports of wasi_snapshot_preview1 alone", "build for wasip1; a host function of another module cannot be held"},
	{"start", "a command: a module that exports the function _start, without parameters and results", "build a command, not a library (reactor)"},
}

func unfit(u spec.Unfit) Reason {
	r := Reason{Code: codeModule + u.Code, Requirement: Launch, Origin: spec.FromSpec, Subject: u.Subject, Fact: u.Fact,
		Need: "a WebAssembly module that can be run", Remedy: "use another module"}
	for _, t := range moduleText {
		if t.code == u.Code {
			r.Need, r.Remedy = t.need, t.remedy
		}
	}
	return r
}
