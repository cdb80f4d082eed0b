package devstack

import (
	"os"
	"path/filepath"
	"testing"
)

// closed makes a directory of a stack that another user cannot walk to, below the
// temporary directory, and returns that of its server.
func closed(t *testing.T) (server string, remove func()) {
	t.Helper()
	stack, err := os.MkdirTemp("", "stack-")
	if err != nil {
		t.Fatal(err)
	}
	remove = func() { os.RemoveAll(stack) } //nolint:errcheck // it is looked at below
	t.Cleanup(remove)
	return filepath.Join(stack, "server"), remove
}

func TestTakeWorkDir_DirectoryOfAnotherStandInIsGone_TakesThatStandInAway(t *testing.T) {
	other := &account{uid: uint32(os.Geteuid()) + 1, gid: uint32(os.Getegid()) + 1}
	take := func(dir string) *workDir {
		t.Helper()
		w, err := takeWorkDir(t.Context(), other, dir, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	gone, remove := closed(t)
	kept, _ := closed(t)
	used, removeUsed := closed(t)
	first, second, third := take(gone), take(kept), take(used)
	for _, w := range []*workDir{first, second} {
		if err := w.release(); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	removeUsed()
	next, _ := closed(t)
	last := take(next)
	for name, w := range map[string]*workDir{"whose directory is gone": first, "whose directory is there": second, "in use": third} {
		_, err := os.Stat(w.path)
		if want := w != first; (err == nil) != want {
			t.Errorf("the stand-in %s is there: %t, want %t", name, err == nil, want)
		}
	}
	for _, w := range []*workDir{third, last} {
		if err := w.release(); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []*workDir{second, third, last} {
		os.RemoveAll(w.path) //nolint:errcheck // best effort
	}
}
