//go:build amd64 || arm64

package seccomp

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
)

const pythonScript = `
import asyncio, multiprocessing, os, sqlite3, subprocess, tempfile, threading
async def main():
    p = await asyncio.create_subprocess_exec("true")
    assert await p.wait() == 0
    await asyncio.to_thread(lambda: None)
asyncio.run(main())
def double(x): return 2 * x
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(double, [1, 2]) == [2, 4]
assert subprocess.run(["echo", "x"], capture_output=True).stdout == b"x\n"
with tempfile.TemporaryDirectory() as d:
    db = sqlite3.connect(d + "/db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table t (x)")
    db.commit()
os.mkfifo("fifo")
print("fine")
`

const nodeScript = `
const {Worker} = require("worker_threads");
const {execFileSync} = require("child_process");
require("fs").writeFileSync("f", execFileSync("echo", ["x"]));
new Worker("1", {eval: true}).on("exit", () => console.log("fine"));
`

const javaSource = `
public class Main {
	public static void main(String[] a) throws Exception {
		Thread t = new Thread(() -> {});
		t.start();
		t.join();
		if (new ProcessBuilder("true").start().waitFor() == 0) System.out.println("fine");
	}
}
`

// Ordinary programs must not notice the filter. Each ends its output with
// "fine"; the control run shows that a failure is the filter's doing.
func TestOrdinaryPrograms(t *testing.T) {
	o := &Options{Arch: runtime.GOARCH, Spawn: SpawnProcesses, SocketFamilies: []uint16{AFUnix}, ExecFiles: true}
	// The programs get a home of their own, but a build cache that is filled.
	cache := os.Getenv("GOCACHE")
	if dir, err := os.UserCacheDir(); cache == "" && err == nil {
		cache = filepath.Join(dir, "go-build")
	}
	for _, c := range []struct {
		needs string // programs besides sh
		input map[string]string
		line  string
	}{
		{"ls cat", nil, "ls / | cat >f && test -s f && (sleep 0 & wait) && echo fine"},
		{"bash", nil, `bash -c 'cat <(echo x) >f; read -r x <f; trap : TERM; kill -TERM $$; ulimit -n 100; echo fine'`},
		{"python3", map[string]string{"main.py": pythonScript}, "python3 main.py"},
		{"perl", nil, `perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; my $p = fork // die; exit 0 unless $p; waitpid $p, 0; print "fine\n"'`},
		{"node", map[string]string{"main.js": nodeScript}, "node main.js"},
		{"java", map[string]string{"Main.java": javaSource}, "java Main.java"},
		{"git", nil, "git init -q . && echo x >f && git add f && git -c user.name=n -c user.email=e@x commit -qm m && git gc -q && git fsck && echo fine"},
		{"gcc", map[string]string{"main.c": "int puts(const char *); int main(void) { return puts(\"fine\") < 0; }\n"}, "gcc -pthread -O main.c -o main && ./main"},
		{"go", map[string]string{"main.go": "package main\n\nfunc main() { println(\"fine\") }\n"}, "go run main.go 2>&1"},
		{"tar gzip", nil, "mkdir d && echo x >d/f && ln -s f d/l && tar czf d.tgz d && tar xzf d.tgz && echo fine"},
		{"openssl", nil, "openssl genpkey -algorithm ed25519 -out key && openssl pkey -in key -pubout >/dev/null && echo fine"},
		{"gpg", nil, "mkdir -m 700 g && gpg -q --homedir g --batch --list-keys && echo fine"},
		{"ssh-agent", nil, "ssh-agent sh -c 'ssh-add -l; test $? = 1' && echo fine"},
		{"sqlite3", nil, "sqlite3 db 'pragma journal_mode=wal; create table t(x); insert into t values (1); select count(*) from t;' && echo fine"},
		{"vim", nil, "echo x >f && vim -u NONE -es -c '%s/x/fine/' -c wq f </dev/null; cat f"},
		{"make", map[string]string{"Makefile": "all: a b\n\t@echo fine\na b:\n\t@touch $@\n"}, "make -s -j2"},
		{"find xargs sort", nil, "touch a b && find . -type f -print0 | xargs -0 -n1 -P2 echo | sort >f && echo fine"},
		{"cp dd sync", nil, "dd if=/dev/zero of=f bs=4096 count=8 conv=fsync 2>/dev/null && cp --reflink=auto f g && sync f && echo fine"},
	} {
		t.Run(strings.Fields(c.needs)[0], func(t *testing.T) {
			for _, program := range strings.Fields(c.needs) {
				need.Program(t, program)
			}
			run := func(o *Options) (string, bool) {
				cmd := victim(t, "exec", o, "sh", "-c", c.line)
				cmd.Dir = t.TempDir()
				for name, text := range c.input {
					if err := os.WriteFile(cmd.Dir+"/"+name, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				cmd.Env = append(cmd.Env, "HOME="+cmd.Dir, "GOCACHE="+cache)
				out, err := cmd.CombinedOutput()
				return string(out), err == nil && strings.HasSuffix(strings.TrimSpace(string(out)), "fine")
			}
			if out, ok := run(nil); !ok {
				need.Missing(t, "program="+strings.Fields(c.needs)[0], "without a filter it does not work and says "+out)
			}
			if out, ok := run(o); !ok {
				t.Errorf("under the filter: %s", out)
			}
		})
	}
}
