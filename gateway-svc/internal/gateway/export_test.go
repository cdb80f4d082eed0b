package gateway

// For the tests, which stand outside the package.

type StoryEvent = storyEvent

var (
	InOrder     = inOrder
	WaitOf      = waitOf
	WriteCursor = writeCursor
	ReadCursor  = readCursor
)
