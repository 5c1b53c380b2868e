package spec

// Preset is a named set of grants. Expand makes them visible.
type Preset struct {
	Name    string  `json:"name"`
	Summary string  `json:"summary"`
	Grants  []Grant `json:"grants"`
}

// Presets are all presets there are.
func Presets() []Preset {
	return []Preset{system()}
}

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

// system is what ordinary programs of a distribution need to start. Every path
// is optional, since no distribution has them all, and costs one mount.
//
// Of /etc it holds single files. passwd, group, nsswitch.conf and hosts are
// missing because the boundary makes its own; shadow and the rest because
// programs start without them. So do network names (services, protocols), what
// only tools of the system read (ld.so.conf) and what /usr has a default for
// (terminfo, mime.types): each file costs every launch a mount. /var, /run and home directories hold state of
// the host and its users, which no program needs to start.
func system() Preset {
	const origin Origin = "preset:system"
	return Preset{
		Name:    "system",
		Summary: "programs and libraries of the distribution, and the few files of /etc they read to start",
		Grants: []Grant{
			// On a merged /usr all but /usr are symbolic links into it
			// (file-hierarchy(7)).
			{Access: "rx", Optional: true, Origin: origin, Paths: []string{
				"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}},
			{Access: "r", Optional: true, Origin: origin, Paths: []string{
				"/etc/alternatives", // links from /usr/bin back into /usr (update-alternatives(1))
				"/etc/crypto-policies",
				"/etc/ld.so.cache", // ld.so(8)
				"/etc/localtime",   // tzset(3)
				"/etc/os-release",
				"/etc/pki/ca-trust/extracted", // where Fedora's links below /etc/pki/tls/certs lead
				"/etc/pki/tls/certs",
				"/etc/ssl/certs",
				"/etc/ssl/openssl.cnf",
			}},
		},
	}
}
