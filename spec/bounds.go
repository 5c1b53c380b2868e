package spec

// Bounds of single values.
const (
	MaxPath        = 4095 // bytes; PATH_MAX without its NUL (limits.h)
	MaxEnvEntries  = 256
	MaxEnvBytes    = 128 << 10 // names, values, and the '=' and NUL between them
	MaxArgBytes    = 128 << 10 // the arguments and their NULs; a single one has this bound on Linux (MAX_ARG_STRLEN)
	MinDescriptor  = 3
	MaxDescriptor  = 200
	DefaultStorage = 1 << 30 // bytes; every boundary has a /dev/shm in memory, and memory needs a bound
)

// ParseFD checks the number of a host descriptor.
func ParseFD(n int) (int, error) {
	switch {
	case n >= 0 && n < MinDescriptor:
		return 0, badValue("standard streams are set by capture and stdin", "descriptor %d is a standard stream, expected %d to %d", n, MinDescriptor, MaxDescriptor)
	case n < 0 || n > MaxDescriptor:
		return 0, tooMuch("", "descriptor %d, expected %d to %d", n, MinDescriptor, MaxDescriptor)
	}
	return n, nil
}
