package devstack

import (
	"os"
	"syscall"
)

const (
	// inMemory is where Linux keeps files in memory.
	inMemory   = "/dev/shm"
	tmpfsMagic = 0x01021994 // statfs(2)
	// enoughMemory leaves room for more than the files of a few test servers.
	enoughMemory = 4 << 30
)

// scratch is where files go that are of no use to anybody after this process: into
// memory, where there is plenty. Tests make and drop thousands of tables, and a file
// system that writes to a disk is busier with their files than Postgres with them.
func scratch() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(inMemory, &fs); err != nil || fs.Type != tmpfsMagic || fs.Bavail*uint64(fs.Bsize) < enoughMemory { // #nosec G115 -- a size is not below 0
		return os.TempDir()
	}
	return inMemory
}
