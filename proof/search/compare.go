package search

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// updateEnv names the variable that lets RequireFile write.
const updateEnv = "PAVANE_UPDATE_MACHINES"

// RequireFile fails the test unless testdata/machine.json of its package says
// what m says. With PAVANE_UPDATE_MACHINES=1 it writes the file instead.
func RequireFile(t testing.TB, m Machine) {
	t.Helper()
	require(t, m, machineFile)
}

// RequireCardFile is RequireFile for testdata/machine_card.json, the machine of a
// payment by card.
func RequireCardFile(t testing.TB, m Machine) {
	t.Helper()
	require(t, m, cardFile)
}

func require(t testing.TB, m Machine, name string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv(updateEnv) != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, m.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, m.Format()) {
		t.Fatalf("%s is not what the code does (%v); look at the difference after %s=1 go test -run TestMachine_File .", path, err, updateEnv)
	}
}
