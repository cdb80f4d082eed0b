package devstack

import (
	"os"
	"path/filepath"
	"syscall"
)

// ofdSetLock is F_OFD_SETLK of fcntl(2): a lock of an open file, which other
// opens of the same process meet as well.
const ofdSetLock = 37

// reserve keeps a port from all others of this user who ask for any, until this
// process ends, however it ends: between a look for a port and the bind of its
// server, and while that server is started again, another one could take it. A
// reservation is a lock on the port's byte of one file. Where there can be no such
// file, all is as without.
func reserve(port int) bool {
	path := filepath.Join(os.TempDir(), ownTempName()+"-ports")
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return true
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: int64(port), Len: 1}
	if syscall.FcntlFlock(uintptr(fd), ofdSetLock, &lock) != nil {
		_ = syscall.Close(fd)
		return false
	}
	return true // the descriptor stays open: it is the reservation
}
