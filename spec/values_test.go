package spec

import (
	"encoding/json"
	"testing"
	"time"
)

const bad = "refused"

func result(v any, err error) string {
	if err != nil {
		return bad
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "1": "1", "7B": "7", "1kB": "1000", "1KiB": "1024", "10MB": "10000000", "64MiB": "67108864",
		"1GiB": "1073741824", "2TB": "2000000000000", "9007199254740991": "9007199254740991", "8191TiB": "9006099743113216",
		"": bad, "MiB": bad, "-1": bad, "+1": bad, " 1": bad, "1 ": bad, "01": bad, "1K": bad, "1KB": bad, "1kb": bad, "1mb": bad,
		"1.5GiB": bad, "1e3": bad, "0x10": bad, "1_000": bad, "9007199254740992": bad, "8192TiB": bad,
		"99999999999999999999": bad, "1MiBx": bad, "١": bad,
	} {
		if got := result(ParseSize(in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5s": 1500 * time.Millisecond,
		"10us": 10 * time.Microsecond, "10µs": 10 * time.Microsecond, "3ns": 3, "0s": 0,
		"": -1, "30": -1, "0": -1, "-5s": -1, "+5s": -1, "5 s": -1, ".5s": -1, "5.s": -1, "1d": -1, "1S": -1, "s": -1, "2502h": -1, "99999999999h": -1,
	} {
		got, err := ParseDuration(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %v (%v), want %v", in, got, err, want)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for _, tt := range []struct {
		d        Dimension
		in, want string
	}{
		{Wall, "1s", "1000000000"}, {CPU, "1ms", "1000000"}, {Memory, "1KiB", "1024"}, {Storage, "5", "5"}, {Network_, "1MB", "1000000"},
		{Output, "2B", "2"}, {Processes, "64", "64"}, {Handles, "9007199254740991", "9007199254740991"},
		{Wall, "0s", bad}, {Wall, "5", bad}, {Memory, "0", bad}, {Processes, "0", bad}, {Processes, "-1", bad}, {Processes, "064", bad},
		{Processes, "1KiB", bad}, {Handles, "9007199254740992", bad}, {"ram", "1", bad},
	} {
		if got := result(ParseLimit(tt.d, tt.in)); got != tt.want {
			t.Errorf("%s %q: got %s, want %s", tt.d, tt.in, got, tt.want)
		}
	}
}

func TestParseAccess(t *testing.T) {
	for in, want := range map[string]string{
		"r": `"r"`, "xr": `"rx"`, "wxr": `"rwx"`, "none": `"none"`,
		"": bad, "R": bad, "None": bad, "rr": bad, "rq": bad, "no": bad, "r w": bad, "rwxr": bad,
	} {
		if got := result(ParseAccess(in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestFlagForms(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		got        string
	}{
		{"temp", `{"path":"/tmp","access":"rw"}`, result(ParseTemp("/tmp"))},
		{"temp rwx", `{"path":"/tmp","access":"rwx"}`, result(ParseTemp("/tmp:xwr"))},
		{"temp r", bad, result(ParseTemp("/tmp:r"))},
		{"temp colon", bad, result(ParseTemp("/tmp:x:y"))},
		{"temp relative", bad, result(ParseTemp("tmp"))},
		{"temp reserved", bad, result(ParseTemp("/proc/x"))},
		{"expose", `{"source":"a:b","dest":"/d","access":"r"}`, result(ParseExpose("a:b:/d:r"))},
		{"expose short", bad, result(ParseExpose("a:/d"))},
		{"expose none", bad, result(ParseExpose("a:/d:none"))},
		{"expose relative", bad, result(ParseExpose("a:d:r"))},
		{"expose no source", bad, result(ParseExpose(":/d:r"))},
		{"env", `{"name":"A","value":"b=c"}`, result(ParseEnv("A=b=c"))},
		{"env empty value", `{"name":"A"}`, result(ParseEnv("A="))},
		{"env no value", bad, result(ParseEnv("A"))},
		{"env no name", bad, result(ParseEnv("=b"))},
		{"env nul", bad, result(ParseEnv("A=\x00"))},
		{"lease", `{"name":"A","lease":"file:/run/x=y"}`, result(ParseLease("A=file:/run/x=y"))},
		{"lease no scheme", bad, result(ParseLease("A=x"))},
		{"lease no rest", bad, result(ParseLease("A=env:"))},
		{"lease scheme", bad, result(ParseLease("A=1x:y"))},
		{"fd", "3", result(ParseFD(3))},
		{"fd low", bad, result(ParseFD(2))},
		{"fd high", bad, result(ParseFD(201))},
		{"spawn", `"threads"`, result(ParseSpawn("threads"))},
		{"spawn bad", bad, result(ParseSpawn("thread"))},
		{"claim", `"process-tree"`, result(ParseClaim("process-tree"))},
		{"claim bad", bad, result(ParseClaim("process_tree"))},
		{"weakening", `"host-sys"`, result(ParseWeakening("host-sys"))},
		{"weakening bad", bad, result(ParseWeakening(""))},
		{"dimension", `"cpu"`, result(ParseDimension("cpu"))},
		{"dimension bad", bad, result(ParseDimension("CPU"))},
		{"stream", `"stderr"`, result(ParseStream("stderr"))},
		{"preset", `"system"`, result(ParsePreset("system"))},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

func TestFlagErrorsSayWhatToDo(t *testing.T) {
	_, err := ParseWeakening("host-networks")
	if want := `no weakening is named "host-networks"; did you mean "host-network"?`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnforcementText(t *testing.T) {
	for e, name := range map[Enforcement]string{Unsupported: "unsupported", Mediated: "mediated", Enforced: "enforced"} {
		if got, err := e.MarshalText(); err != nil || string(got) != name || e.String() != name {
			t.Errorf("%d: got %s, %v", e, got, err)
		}
		var back Enforcement = -1
		if err := back.UnmarshalText([]byte(name)); err != nil || back != e {
			t.Errorf("%s: got %d, %v", name, back, err)
		}
	}
	for _, text := range []string{"", "Enforced", "enforced ", "1", "best-effort"} {
		e := Mediated
		if err := e.UnmarshalText([]byte(text)); err == nil || e != Mediated {
			t.Errorf("%q was read as %v", text, e)
		}
	}
	if _, err := Enforcement(3).MarshalText(); err == nil {
		t.Error("a number without a name was written")
	}
	if got := result(map[string]Enforcement{"a": Enforced}, nil); got != `{"a":"enforced"}` {
		t.Errorf("got %s", got)
	}
}

func TestNetworkRules(t *testing.T) {
	for in, want := range map[string]string{
		"Example.COM:443": "example.com:443", "a:1/tcp": "a:1/tcp", "*.a.b:65535": "*.a.b:65535",
		"bücher.example:80": "xn--bcher-kva.example:80", "faß.example:1": "xn--fa-hia.example:1",
		"xn--bcher-kva.example:80": "xn--bcher-kva.example:80",
		"127.0.0.1:80":             "127.0.0.1:80", "0.0.0.0/0:1": "0.0.0.0/0:1", "10.0.0.0/8:1/tcp": "10.0.0.0/8:1/tcp",
		"[2001:DB8:0:0::1]:80": "[2001:db8::1]:80", "[fd00::/8]:1": "[fd00::/8]:1", "localhost:1": "localhost:1", "1a:2": "1a:2",
		"ｅｘ.example:1": "ex.example:1",

		"": bad, ":": bad, "a": bad, "a:": bad, "a:x": bad, "a:-1": bad, "a:+1": bad, "a:1/TCP": bad, "a:1/tcp/tcp": bad, "a:1 ": bad,
		"[::1]": bad, "[::1:1": bad, "::1]:1": bad, "[::1]x:1": bad, "[]:1": bad, "[a]:1": bad, "[::1/129]:1": bad, "[::1/64]:1": bad,
		"[::ffff:1.2.3.4/120]:1": bad, "1.2.3.4/08:1": bad, "1.2.3.4/:1": bad, "1.2.3:1": bad, "1.2.3.256:1": bad, "01.2.3.4:1": bad,
		"0x1:1": bad, "a.0x1:1": bad, "a.1:1": bad, "a.1.:1": bad, "*.1:1": bad, "*.1.2.3.4:1": bad, "*.10.0.0.0/8:1": bad, "*.*.a:1": bad, "a*:1": bad, "*a.b:1": bad,
		"a.:1": bad, "a。:1": bad, ".a:1": bad, "-a.b:1": bad, "a-.b:1": bad, "a b:1": bad, "a\x00:1": bad, "a\x00b.c:1": bad, "a@b:1": bad, "a%41:1": bad, "a/b:1": bad,
		"xn--a:1": bad, "XN--BCHER-KVA.example:1": "xn--bcher-kva.example:1", "１.２.３.４:1": bad,
	} {
		got, err := ParseNetworkRule(in)
		if err != nil {
			got = bad
		}
		if got != want {
			t.Errorf("%q: got %s (%v), want %s", in, got, err, want)
		}
	}
}

func FuzzParseNetworkRule(f *testing.F) {
	for _, s := range []string{"Example.com:443", "*.bücher.example:80/tcp", "10.0.0.0/8:1", "[fd00::/8]:1", "１２７.０.０.１:80", "a。b:1", "0x7f.1:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		rule, err := ParseNetworkRule(in)
		if err != nil {
			return
		}
		if again, err := ParseNetworkRule(rule); err != nil || again != rule {
			t.Errorf("%q gives %q, which gives %q, %v", in, rule, again, err)
		}
		for i := range len(rule) {
			if rule[i] <= ' ' || rule[i] >= 0x7F || rule[i] >= 'A' && rule[i] <= 'Z' || rule[i] == '@' || rule[i] == '%' {
				t.Errorf("%q gives %q", in, rule)
			}
		}
	})
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"64MiB", "1h30m", "9007199254740991", "1.5s", "0x10", "1e9s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if n, err := ParseSize(in); err == nil && (n < 0 || n > MaxLimit) {
			t.Errorf("size %q gives %d", in, n)
		}
		if d, err := ParseDuration(in); err == nil && (d < 0 || d > MaxLimit) {
			t.Errorf("duration %q gives %d", in, d)
		}
	})
}
