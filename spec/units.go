package spec

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MaxLimit is the largest number in a spec: the largest that every JSON reader
// keeps exact (RFC 8259, section 6).
const MaxLimit = 1<<53 - 1

// sizeUnits are the units of a size. "KB" is missing on purpose: it stands for
// 1000 in one program and 1024 in the next.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"B", 1},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
}

const (
	sizePattern     = `^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`
	durationPattern = `^([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+$`
)

// ParseSize reads a number of bytes such as "64MiB", "10MB" or "4096".
func ParseSize(s string) (int64, error) {
	digits, unit := splitNumber(s)
	if digits == "" {
		return 0, badValue(`write a number of bytes, as in "64MiB" or "4096"`, "%s is not a size", quote(s))
	}
	factor := int64(1)
	if unit != "" {
		factor = 0
		for _, u := range sizeUnits {
			if u.name == unit {
				factor = u.bytes
			}
		}
	}
	if factor == 0 {
		return 0, badUnit(s, digits, unit)
	}
	if len(digits) > 1 && digits[0] == '0' {
		return 0, badValue("remove them", "size %s has leading zeros", quote(s))
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > MaxLimit/factor {
		return 0, tooMuch("", "size %s is above %d bytes", quote(s), int64(MaxLimit))
	}
	return n * factor, nil
}

func splitNumber(s string) (digits, unit string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

func badUnit(s, digits, unit string) *valueError {
	switch {
	case strings.HasPrefix(unit, "."):
		return badValue("use a smaller unit", "size %s is not a whole number", quote(s))
	case strings.EqualFold(unit, "k") || strings.EqualFold(unit, "kb"):
		e := badValue(strconv.Quote(digits+"kB")+" is 1000 bytes each, "+strconv.Quote(digits+"KiB")+" is 1024",
			"size %s has an unclear unit", quote(s))
		e.code = CodeWrongCase
		return e
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, unit) {
			e := badValue("write "+strconv.Quote(digits+u.name), "size %s has a unit in the wrong case", quote(s))
			e.code = CodeWrongCase
			return e
		}
	}
	return badValue("units are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB", "size %s has an unknown unit", quote(s))
}

var durationForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(durationPattern) })

// ParseDuration reads a duration such as "30s", "500ms" or "1h30m".
func ParseDuration(s string) (time.Duration, error) {
	const hint = `write it with a unit, as in "30s", "500ms" or "1h30m"`
	if !durationForm().MatchString(s) {
		if digits, unit := splitNumber(s); digits != "" && unit == "" {
			return 0, badValue(hint, "duration %s has no unit", quote(s))
		}
		return 0, badValue(hint, "%s is not a duration", quote(s))
	}
	d, err := time.ParseDuration(s)
	if err != nil || d > MaxLimit {
		return 0, tooMuch("", "duration %s is above %d nanoseconds (104 days)", quote(s), int64(MaxLimit))
	}
	return d, nil
}

const ratePattern = `^[1-9][0-9]{0,5}%$`

var rateForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(ratePattern) })

// ParseRate reads a part of one processor such as "50%" or, of two, "200%". The
// result is in thousandths of a processor.
func ParseRate(s string) (int64, error) {
	if !rateForm().MatchString(s) {
		return 0, badValue(`write whole percents of one processor, as in "50%" or "200%"`, "%s is not a rate", quote(s))
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "%"), 10, 64)
	return n * 10, err
}

// RateWords is a rate as ParseRate reads it.
func RateWords(rate int64) string { return strconv.FormatInt(rate/10, 10) + "%" }

// ParseLimit reads a budget's limit in the form of its dimension: a duration,
// a size, or a count.
func ParseLimit(d Dimension, s string) (int64, error) {
	n, err := int64(0), error(nil)
	switch d {
	case Wall, CPU:
		var t time.Duration
		t, err = ParseDuration(s)
		n = int64(t)
	case Memory, Storage, Network_, Output:
		n, err = ParseSize(s)
	case Processes, Handles, Fuel, CallDepth:
		n, err = parseCount(s)
	default:
		_, err = ParseDimension(string(d))
	}
	if err != nil {
		return 0, err
	}
	return n, checkLimit(n)
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		return 0, badValue("write it in decimal", "%s is not a count", quote(s))
	}
	return n, nil
}

func checkLimit(n int64) error {
	switch {
	case n < 1:
		return tooMuch("leave the key out to leave it unset", "limit %d is below 1", n)
	case n > MaxLimit:
		return tooMuch("", "limit %d is above %d", n, int64(MaxLimit))
	}
	return nil
}

// The limits of MaxLimit must fit a time.Duration.
const _ = uint64(math.MaxInt64 - MaxLimit)
