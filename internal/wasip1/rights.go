package wasip1

// rights of a descriptor. They are the guest's own: it can give them up, and
// what it opens through a directory has no more than the directory passes on.
// They say nothing about what the boundary grants.
type rights uint64

const (
	rightDatasync rights = 1 << iota
	rightRead
	rightSeek
	rightSetFlags
	rightSync
	rightTell
	rightWrite
	rightAdvise
	rightAllocate
	rightCreateDirectory
	rightCreateFile
	rightLinkSource
	rightLinkTarget
	rightOpen
	rightReaddir
	rightReadlink
	rightRenameSource
	rightRenameTarget
	rightPathStat
	rightPathSetSize
	rightPathSetTimes
	rightStat
	rightSetSize
	rightSetTimes
	rightSymlink
	rightRemoveDirectory
	rightUnlink
	rightPoll
	rightShutdown
	rightAccept
	allRights = 1<<iota - 1
)

// Which rights apply to what.
const (
	fileRights = rightDatasync | rightRead | rightSeek | rightSetFlags | rightSync | rightTell | rightWrite |
		rightAdvise | rightAllocate | rightStat | rightSetSize | rightSetTimes | rightPoll
	dirRights = rightDatasync | rightSetFlags | rightSync | rightCreateDirectory | rightCreateFile | rightLinkSource |
		rightLinkTarget | rightOpen | rightReaddir | rightReadlink | rightRenameSource | rightRenameTarget |
		rightPathStat | rightPathSetSize | rightPathSetTimes | rightStat | rightSetTimes | rightSymlink |
		rightRemoveDirectory | rightUnlink
	streamRights = rightSetFlags | rightStat | rightPoll
)

// Descriptor flags, open flags, lookup flags, flags for times.
const (
	flagAppend   = 1
	flagDsync    = 2
	flagNonblock = 4
	flagRsync    = 8
	flagSync     = 16
	allFlags     = 31

	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
	allOpen       = 15

	lookupFollow = 1

	setAtim    = 1
	setAtimNow = 2
	setMtim    = 4
	setMtimNow = 8
	allSet     = 15
)
