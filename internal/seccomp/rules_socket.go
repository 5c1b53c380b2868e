package seccomp

// Socket types and protocols, from linux/net.h, linux/in.h and
// linux/netlink.h; the same on both architectures.
const (
	sockTypeMask  = 0xf // the rest of the type argument are SOCK_CLOEXEC and SOCK_NONBLOCK
	sockStream    = 1
	sockDgram     = 2
	sockSeqpacket = 5

	protoAny     = 0
	protoTCP     = 6
	protoUDP     = 17
	netlinkRoute = 0
)

// socketRules holds every family that can be granted, and what of it.
var socketRules = map[uint16]func(g graph) *decision{
	AFUnix: graph.allow,
	AFInet: inetSocket, AFInet6: inetSocket,
	// getaddrinfo(3) and getifaddrs(3) ask for addresses; the other protocols
	// reach audit, packet filters and socket tables.
	AFNetlink: func(g graph) *decision {
		return g.low32(2, g.errno(eACCES), arm{values[uint32](netlinkRoute), g.allow()})
	},
}

// inetSocket is TCP and UDP. Raw sockets, packet sockets in their old form
// (SOCK_PACKET) and every further protocol are refused.
func inetSocket(g graph) *decision {
	protocol := g.low32(2, g.errno(eACCES), arm{values[uint32](protoAny, protoTCP, protoUDP), g.allow()})
	return g.look(lowWord(1), sockTypeMask, g.errno(eACCES), arm{values[uint32](sockStream, sockDgram), protocol})
}

// socket(int family, int type, int protocol): all three are 32 bits. EACCES is
// what socket(2) documents for a type that is not permitted.
var socketFamily = rule{"EACCES for families the spec does not grant, and for all but TCP, UDP and NETLINK_ROUTE in the others", func(g graph, o Options) *decision {
	var arms []arm
	for _, f := range []uint16{AFUnix, AFInet, AFInet6, AFNetlink} {
		if o.family(f) {
			arms = append(arms, arm{values(f), socketRules[f](g)})
		}
	}
	return g.low32(0, g.errno(eACCES), arms...)
}}

// socketpair(int family, int type, ...). The kernel has pairs of AF_UNIX only,
// and of AF_TIPC where that is loaded.
var socketpairType = rule{"EACCES but for AF_UNIX; without the unix family EACCES but for stream and seqpacket pairs", func(g graph, o Options) *decision {
	pair := g.allow()
	if !o.family(AFUnix) {
		pair = g.look(lowWord(1), sockTypeMask, g.errno(eACCES), arm{values[uint32](sockStream, sockSeqpacket), g.allow()})
	}
	return g.low32(0, g.errno(eACCES), arm{values(AFUnix), pair})
}}
