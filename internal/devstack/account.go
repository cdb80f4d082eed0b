package devstack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// nobodyID is the user and group of last resort on a machine without a user database.
const nobodyID = 65534

// account is the user that a server runs as.
type account struct{ uid, gid uint32 }

// serverAccount returns nil when Postgres may run as ourselves. Postgres refuses to run as root, so root gets
// the user "postgres" or "nobody" or, in an image without users, 65534.
func serverAccount() *account {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &account{uid: uint32(uid), gid: uint32(gid)}
		}
	}
	return &account{uid: nobodyID, gid: nobodyID}
}

// own hands path over to the account; a nil account is ourselves and owns it already.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// reaches says whether the account can walk to dir, so far as dir exists. Only the classic permission bits
// are looked at.
func (a *account) reaches(dir string) bool {
	if a == nil {
		return true
	}
	for p := dir; ; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err == nil && !a.mayEnter(info) {
			return false
		}
		if p == filepath.Dir(p) {
			return true
		}
	}
}

func (a *account) mayEnter(info os.FileInfo) bool {
	bit := os.FileMode(0o001)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case st.Uid == a.uid:
			bit = 0o100
		case st.Gid == a.gid:
			bit = 0o010
		}
	}
	return info.Mode().Perm()&bit != 0
}

// reachable returns dir as an absolute path when the account can walk to it. Otherwise (root's home is
// closed to others) it returns a stand-in below the temporary directory, the same one for the same dir, so that
// the next start finds it again.
func (a *account) reachable(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("make %s absolute: %w", dir, err)
	}
	if a.reaches(abs) {
		return abs, nil
	}
	root, err := ownTempDir(os.TempDir())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(root, filepath.Base(abs)+"-"+hex.EncodeToString(sum[:4])), nil
}

// ownTempName is the name of this user's directory below the temporary directory.
func ownTempName() string { return "pavane-" + strconv.Itoa(os.Geteuid()) }

// ownTempDir makes this user's directory below one that is open to all. The name is known to everybody, so a
// directory (or link) that somebody else put there is refused.
func ownTempDir(below string) (string, error) {
	dir := filepath.Join(below, ownTempName())
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("make directory for servers: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("look at directory for servers: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || (ok && int(st.Uid) != os.Geteuid()) {
		return "", fmt.Errorf("%s belongs to somebody else; remove it or set TMPDIR", dir)
	}
	return dir, os.Chmod(dir, 0o755) // the umask may have closed it
}
