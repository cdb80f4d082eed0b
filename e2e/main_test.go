// Package e2e_test owns the tests that run parts of Pavane as processes.
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
	os.Exit(pgtest.Main(m))
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
