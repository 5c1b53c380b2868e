package spec

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

const networkHint = `write "host:port", "*.domain:port", "address/bits:port" or "[v6 address]:port", with "/tcp" for plain TCP`

// ParseNetworkRule returns the one canonical form of a rule
//
//	HOST ":" PORT ["/tcp"]
//
// where HOST is a name, "*." and a name, an IPv4 address or prefix, or an IPv6
// address or prefix in brackets. Names come back in lower case and IDNA 2008
// form, addresses as RFC 5952 has them. Forms that two programs may read
// differently are refused, not repaired: a trailing dot, user information,
// shortened or octal IPv4 addresses, IPv4 inside IPv6, zones, host bits in a
// prefix.
func ParseNetworkRule(s string) (string, error) {
	bad := func(hint, why string) (string, error) {
		return "", badValue(hint, "network rule %s: %s", quote(s), why)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return "", &valueError{CodeNUL, "network rule contains a NUL", "remove it"}
	}
	rest, tcp := strings.CutSuffix(s, "/tcp")
	host, port, ok := cutLast(rest)
	if !ok || strings.HasSuffix(rest, "]") {
		return bad(networkHint, "no port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		return bad(networkHint, "port "+quote(port)+" is not a number from 1 to 65535")
	}
	switch {
	case strings.Contains(host, "://"):
		return bad("write the host and port only", "a URL is not a host")
	case host == "":
		return bad(networkHint, "no host")
	case host == "*":
		return bad(`name every address with "0.0.0.0/0:`+port+`" and "[::/0]:`+port+`"`, `"*" alone is not a host`)
	case strings.IndexByte(host, '@') >= 0:
		return bad("remove everything up to the \"@\"", "user information is not part of a host")
	}
	host, hint, why := canonicalHost(host)
	if why != "" {
		return bad(hint, why)
	}
	rule := host + ":" + port
	if tcp {
		rule += "/tcp"
	}
	return rule, nil
}

// canonicalHost returns the canonical host, or why it has none.
func canonicalHost(host string) (canonical, hint, why string) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return "", networkHint, "brackets do not match"
		}
		a, hint, why := canonicalAddress(inner, true)
		return "[" + a + "]", hint, why
	}
	if strings.Contains(host, ":") {
		return "", networkHint, "an IPv6 address needs brackets"
	}
	if strings.Contains(host, "/") || endsInNumber(host) {
		return canonicalAddress(host, false)
	}
	return canonicalName(host)
}

// canonicalAddress reads an address or a prefix of one family.
func canonicalAddress(s string, v6 bool) (canonical, hint, why string) {
	const hint4 = "write four decimal numbers without leading zeros"
	text, bits, isPrefix := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil && v6:
		return "", networkHint, "not an IPv6 address"
	case err != nil:
		return "", hint4, "not an IPv4 address"
	case addr.Is4() == v6:
		return "", networkHint, "brackets are for IPv6 addresses and only for them"
	case addr.Zone() != "":
		return "", "remove it", "an address with a zone means another host on every machine"
	case addr.Is4In6():
		return "", "write " + quote(addr.Unmap().String()), "an IPv4 address inside an IPv6 address"
	case !isPrefix:
		return addr.String(), "", ""
	}
	n, err := strconv.Atoi(bits)
	if err != nil || strconv.Itoa(n) != bits || n < 0 || n > addr.BitLen() {
		return "", "", "prefix length " + quote(bits) + " is not a number from 0 to " + strconv.Itoa(addr.BitLen())
	}
	prefix := netip.PrefixFrom(addr, n)
	if m := prefix.Masked(); m != prefix {
		return "", "write " + quote(m.String()), "the address has bits beyond its prefix length"
	}
	return prefix.String(), "", ""
}

// endsInNumber says whether a reader of URLs takes host for an IPv4 address:
// its last label is all digits, or hexadecimal (URL standard, "ends in a number").
func endsInNumber(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if last == "" {
		return false
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// names follows IDNA 2008 as UTS 46 maps it for look-ups, non-transitional, so
// that one spelling leads to one name (RFC 5891, section 5).
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true), idna.StrictDomainName(true),
	idna.VerifyDNSLength(true), idna.Transitional(false))

func canonicalName(host string) (canonical, hint, why string) {
	name, wildcard := strings.CutPrefix(host, "*.")
	if strings.Contains(name, "*") {
		return "", `write "*.domain:port"`, `"*" may only stand for the first label`
	}
	if strings.HasSuffix(name, ".") {
		return "", "write it without", "a trailing dot"
	}
	ascii, err := names.ToASCII(name)
	if err != nil {
		return "", networkHint, "not a host name"
	}
	// Mapping may uncover what the checks above would have refused: full-width
	// digits and dots become an address, for one.
	again, err := names.ToASCII(ascii)
	if err != nil || again != ascii || endsInNumber(ascii) || strings.HasSuffix(ascii, ".") || !isHostName(ascii) {
		return "", networkHint, "not a host name"
	}
	if wildcard {
		ascii = "*." + ascii
	}
	return ascii, "", ""
}

// isHostName checks for letters, digits, hyphens and dots (RFC 1123, section 2.1).
func isHostName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && !strings.Contains(s, "..")
}
