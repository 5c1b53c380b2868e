package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What learn never grants by itself. A program that is not trusted asked for it:
// the list is of what such programs are after, by name, and no list is complete.

// secretNames are parts of paths where credentials and private matters lie.
var secretNames = []string{".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".password-store",
	".bash_history", ".zsh_history", ".python_history", ".mozilla", ".thunderbird", "google-chrome", "chromium", "keyrings", "gcloud", "gh", ".vault-token",
	".pgpass", ".my.cnf", ".env", ".cargo/credentials", ".terraform.d", "shadow", "gshadow", "sudoers", "sudoers.d", "id_rsa", "id_ed25519", "credentials"}

// hostPlaces are the host's own: below them nothing is granted.
var hostPlaces = []string{"/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc/ssh", "/etc/ssl/private", "/var/lib", "/var/log", "/var/spool", "/var/cache", "/lost+found"}

// networkFiles are what a program reads to find other machines.
var networkFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/services", "/etc/protocols", "/etc/nsswitch.conf"}

// withheld says why a path is not granted, "" if it may be.
func withheld(path, cwd, home string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	for _, name := range []string{path, real} {
		if why := withheldName(name, home); why != "" {
			return why
		}
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return "it cannot be looked at: " + err.Error()
	case info.Mode()&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeDevice) != 0:
		return "it leads to another process or a device"
	case !below(real, cwd) && info.Mode().Perm()&0o044 == 0:
		return "only its owner may read it"
	}
	return ""
}

func withheldName(name, home string) string {
	switch {
	case slices.Contains(networkFiles, name):
		return "it serves to find other machines, and the network is not granted"
	case slices.ContainsFunc(hostPlaces, func(p string) bool { return below(name, p) }):
		return "it is the host's own"
	case strings.Count(name, "/") < 2 || name == "/usr/local":
		return "it is too much: a whole part of the host"
	case home != "" && below(home, name), filepath.Dir(name) == "/home":
		return "it holds a home directory"
	case strings.HasSuffix(name, ".key"):
		return "it looks like a private key"
	}
	parts := strings.Split(name, "/")
	for _, secret := range secretNames {
		if slices.Contains(parts, secret) || strings.Contains(secret, "/") && strings.Contains(name, "/"+secret) {
			return "credentials and private matters lie there"
		}
	}
	return ""
}

// below says whether name is dir or lies in it.
func below(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && filepath.IsLocal(rel)
}

// isELF says whether a file is a program or library: to be mapped for execution
// it needs that right.
func isELF(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	n, _ := f.Read(head)
	return string(head[:n]) == "\x7fELF"
}
