package gateway

// For the tests, which stand outside the package.

var (
	WaitOf      = waitOf
	WriteCursor = writeCursor
	ReadCursor  = readCursor
)
