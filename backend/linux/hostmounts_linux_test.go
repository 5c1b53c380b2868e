package linux

import (
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:22 / /sys rw shared:2 master:1 - sysfs sysfs rw
25 24 0:23 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw
26 22 254:0 /home /srv/my\040homes rw - ext4 /dev/vda rw
27 22 0:30 / /home/u/tmp rw - tmpfs tmpfs rw
28 22 254:0 /home/u/.local /home/u/tmp/again rw - ext4 /dev/vda rw
garbage
29 22 0:31
`

func TestParseMounts(t *testing.T) {
	list := parseMounts(mountinfo)
	if len(list) != 7 {
		t.Fatalf("got %d mounts, want 7: %+v", len(list), list)
	}
	if want := (hostMount{device: "0:23", root: "/a", at: "/sys/fs/cgroup", fsType: "cgroup2", kernel: true}); list[3] != want {
		t.Errorf("got %+v, want %+v", list[3], want)
	}
	if list[4].at != "/srv/my homes" {
		t.Errorf("got %q, want the blank", list[4].at)
	}
}

func TestCovering(t *testing.T) {
	list := parseMounts(mountinfo)
	for name, want := range map[string]string{"/": "/", "/procession": "/", "/proc/1": "/proc", "/sys/fs/cgroup/x": "/sys/fs/cgroup", "/srv/my homes": "/srv/my homes"} {
		if m, ok := covering(list, name); !ok || m.at != want {
			t.Errorf("%s is shown by %q, want %q", name, m.at, want)
		}
	}
}

// A state directory has as many names as its file system has mounts.
func TestNames(t *testing.T) {
	list := parseMounts(mountinfo)
	for name, want := range map[string][]string{
		"/home/u/.local/state": {"/home/u/.local/state", "/srv/my homes/u/.local/state", "/home/u/tmp/again/state"},
		"/srv/my homes/u/x":    {"/srv/my homes/u/x", "/home/u/x"},
		"/home/u/tmp/x":        {"/home/u/tmp/x"},
		"/etc/x":               {"/etc/x"},
	} {
		got := names(list, name)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 2 0:1 /\134 /\011x rw - tmpfs t rw`)
	f.Fuzz(func(t *testing.T, text string) {
		list := parseMounts(text)
		if len(list) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d mounts of %q", len(list), text)
		}
		for _, m := range list {
			if m.device == "" || m.fsType == "" {
				t.Fatalf("%+v of %q", m, text)
			}
			names(list, m.at)
		}
	})
}
