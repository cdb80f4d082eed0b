package migrate

// CheckServer is for tests, which have no server that is too old.
var CheckServer = checkServer
