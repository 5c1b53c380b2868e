package spec

import (
	"net/netip"
	"strings"
)

// target is what one network rule reaches. Rules that reach the same are equal
// targets.
type target struct {
	port   string       // and "/tcp", where it stands
	name   string       // of a host, with "*." where it stands
	prefix netip.Prefix // of addresses, where there is no name
}

// targetOf reads a canonical rule.
func targetOf(rule string) target {
	host, port := rule, ""
	if i := strings.LastIndexByte(rule, ':'); i >= 0 {
		host, port = rule[:i], rule[i+1:]
	}
	bare := strings.Trim(host, "[]")
	if prefix, err := netip.ParsePrefix(bare); err == nil {
		return target{port: port, prefix: prefix}
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		return target{port: port, prefix: netip.PrefixFrom(addr, addr.BitLen())}
	}
	return target{port: port, name: host}
}

// String is the canonical rule.
func (t target) String() string {
	host := t.name
	if t.prefix.IsValid() {
		host = t.prefix.String()
		if t.prefix.IsSingleIP() {
			host = t.prefix.Addr().String()
		}
		if t.prefix.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + t.port
}

// wider is the next target that reaches more than t: a prefix one bit shorter,
// or every host of a name's domain. "*." stands for one label here: where it
// stands for more, a difference too many is reported, and none too few.
func (t target) wider() (target, bool) {
	if t.prefix.IsValid() {
		if t.prefix.Bits() == 0 {
			return target{}, false
		}
		t.prefix = netip.PrefixFrom(t.prefix.Addr(), t.prefix.Bits()-1).Masked()
		return t, true
	}
	label, domain, ok := strings.Cut(t.name, ".")
	t.name = "*." + domain
	return t, ok && label != "*"
}

// half is the other half of the next shorter prefix.
func (t target) half() (target, bool) {
	whole, ok := t.wider()
	if !ok || !t.prefix.IsValid() {
		return target{}, false
	}
	t.prefix = netip.PrefixFrom(flip(t.prefix.Addr(), whole.prefix.Bits()), t.prefix.Bits())
	return t, true
}

// flip returns a with one bit changed; the first is 0.
func flip(a netip.Addr, bit int) netip.Addr {
	bytes := a.AsSlice()
	bytes[bit/8] ^= 0x80 >> (bit % 8)
	flipped, _ := netip.AddrFromSlice(bytes)
	return flipped
}

type targets map[target]bool

// targetsOf are the targets of rules without those inside others. Two halves
// of a prefix are the prefix.
func targetsOf(rules []string) targets {
	set := targets{}
	for _, r := range rules {
		set.add(targetOf(r))
	}
	for t := range set {
		if w, ok := t.wider(); ok && set.reaches(w) {
			delete(set, t)
		}
	}
	return set
}

// add joins halves upwards; they stay for the sake of rules they cover.
func (s targets) add(t target) {
	for !s[t] {
		s[t] = true
		half, ok := t.half()
		if !ok || !s[half] {
			return
		}
		t, _ = t.wider()
	}
}

func (s targets) reaches(t target) bool {
	for ok := true; ok; t, ok = t.wider() {
		if s[t] {
			return true
		}
	}
	return false
}

func moreNetwork(from, to Spec) []gain {
	have := targetsOf(from.Capabilities.Network.Allow)
	var list []gain
	if to.Capabilities.Network.Loopback && !from.Capabilities.Network.Loopback {
		list = append(list, gain{"capabilities.network", "", "there is a loopback of the boundary's own", "there is no loopback any more"})
	}
	for t := range targetsOf(to.Capabilities.Network.Allow) {
		if !have.reaches(t) {
			list = append(list, gain{"capabilities.network.allow", t.String(), "may be reached", "may no longer be reached"})
		}
	}
	return list
}
