// Package e2e_test owns the tests that run Pavane's binaries as processes.
package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"pavane/migrations"
	"pavane/shared/pgtest"
)

// errRollback ends a transaction on purpose.
var errRollback = errors.New("rolled back on purpose")

func kit() fs.FS { return migrations.Kit() }

func TestMain(m *testing.M) {
	if job := os.Getenv(relayJobEnv); job != "" {
		os.Exit(beRelay(job))
	}
	os.Exit(run(m))
}

// run prepares what the tests share, and takes it away.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pavane-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // some tests run as another user
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	shared.postgres = os.Getenv("PAVANE_POSTGRES") // pgtest sets it when nobody else has
	return pgtest.Main(m)
}

func beRelay(spec string) int {
	var job relayJob
	err := json.Unmarshal([]byte(spec), &job)
	if err == nil {
		err = runRelay(job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay process:", err)
		return 1
	}
	return 0
}
