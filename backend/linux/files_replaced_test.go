//go:build linux && (amd64 || arm64)

package linux_test

import (
	"os"
	"strings"
	"testing"

	"github.com/bvisor/bvisor/internal/need"
	"github.com/bvisor/bvisor/report"
)

// A rename or an unlink on the host detaches what is mounted over a name, so
// the boundary is not what the plan says any more: the run does not go on, and
// the report does not say that it ended well. That the workload may have been
// faster is what docs/threat-model.md says of it.
func TestHostReplacesWhatIsMountedOver(t *testing.T) {
	need.UserNamespace(t)
	for _, c := range []struct {
		name    string
		tree    []string
		grants  func(root string) mods
		act     string
		at      string
		replace func(t *testing.T, root string)
	}{
		{"a carved-out file", []string{".env", "file"}, func(root string) mods { return mods{grant("rw", root), grant("none", root+"/.env")} },
			"read", "/.env", func(t *testing.T, root string) {
				must(t, os.WriteFile(root+"/.env.new", []byte("fresh"), 0o600))
				must(t, os.Rename(root+"/.env.new", root+"/.env"))
			}},
		{"a file with fewer rights", []string{"a/fixed", "file"}, func(root string) mods { return mods{grant("rw", root), grant("r", root+"/a/fixed")} },
			"write", "/a/fixed", func(t *testing.T, root string) {
				must(t, os.WriteFile(root+"/new", []byte("fresh"), 0o600))
				must(t, os.Rename(root+"/new", root+"/a/fixed"))
			}},
		{"a directory above", []string{"a/b/closed/x", "file"}, func(root string) mods { return mods{grant("rw", root), grant("none", root+"/a/b/closed")} },
			"read", "/a/b/closed/x", func(t *testing.T, root string) {
				must(t, os.Rename(root+"/a", root+"/old"))
				must(t, os.MkdirAll(root+"/a/b/closed", 0o755))
				must(t, os.WriteFile(root+"/a/b/closed/x", []byte("fresh"), 0o644))
			}},
		{"a directory in a flat one", []string{"file", "sub/x"}, func(root string) mods { return mods{shallow("r", root)} },
			"read", "/late/x", func(t *testing.T, root string) {
				must(t, os.Mkdir(root+"/late", 0o755))
				must(t, os.WriteFile(root+"/late/x", []byte("fresh"), 0o644))
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree(t, c.tree...)
			end := paused(t, c.grants(root), c.act, root+c.at)
			c.replace(t, root)
			o := end()
			if got := o.Report.Outcome; got.Status != report.Killed || !strings.HasPrefix(got.Reason, "boundary: ") {
				t.Errorf("the outcome is %+v, expected killed because of the boundary", got)
			}
		})
	}
	t.Run("control: another name", func(t *testing.T) {
		root := tree(t, ".env", "file")
		end := paused(t, mods{grant("rw", root), grant("none", root+"/.env")}, "read", root+"/file")
		must(t, os.WriteFile(root+"/.env.new", []byte("fresh"), 0o600))
		must(t, os.Rename(root+"/.env.new", root+"/other"))
		end().succeeds(t)
	})
}
