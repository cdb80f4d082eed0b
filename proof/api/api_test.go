// Package api_test owns the proof that the gateway's OpenAPI document says what
// the gateway does: schemathesis makes thousands of requests out of it, right
// ones and wrong ones, and holds each answer of a running demo against it.
// `make schemathesis` runs it.
package api_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pavane/internal/demo"
)

// report is what schemathesis says of a run.
type report struct {
	Complete  bool `json:"complete"`
	TestCases struct {
		Generated int `json:"generated"`
		Errored   int `json:"errored"`
	} `json:"test_cases"`
	Operations struct{ Total, Tested int }
}

func TestGateway_GeneratedRequests_AreAnsweredAsDescribed(t *testing.T) {
	bin, program := os.Getenv("PAVANE_BIN"), os.Getenv("PAVANE_SCHEMATHESIS")
	if bin == "" || program == "" {
		t.Skip("PAVANE_BIN and PAVANE_SCHEMATHESIS are not set; make schemathesis runs it")
	}
	requests := number(t, "PAVANE_REQUESTS")
	d := demo.Start(t, demo.Config{Bin: bin, Dir: t.TempDir()})
	_, token, _ := strings.Cut(strings.Fields(d.Await("page: "))[2], "#operator=")
	if token == "" {
		t.Fatal("`pavane up` shows no operator's token")
	}
	file := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.CommandContext(t.Context(), program, "--config-file", "schemathesis.toml", "run", d.State().Gateway+"/openapi.json",
		"--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure", "--no-color", "--workers", "1",
		"--generation-database", "none", "--seed", os.Getenv("PAVANE_REQUESTS_SEED"), "--max-examples", strconv.Itoa(examples(requests)),
		"--header", "X-Pavane-Operator: "+token, "--report", "json", "--report-json-path", file)
	out, err := cmd.CombinedOutput()
	said, failures, _ := strings.Cut(string(out), " FAILURES ")
	t.Log(said)
	if err != nil {
		t.Errorf("schemathesis: %v\n%s", err, failures)
	}
	r := read(t, file)
	if !r.Complete || r.TestCases.Generated < requests || r.TestCases.Errored > 0 || r.Operations.Tested != r.Operations.Total || r.Operations.Total == 0 {
		t.Errorf("want a complete run of at least %d requests over all operations, got %+v", requests, r)
	}
}

// examples is how many requests each operation must get, so that there are
// enough over all: those without parameters have only a few.
func examples(requests int) int { return max(requests/7, 10) }

func number(t *testing.T, variable string) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number from 1 on", variable, os.Getenv(variable))
	}
	return n
}

func read(t *testing.T, file string) (r report) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("schemathesis left no report: %v", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("read the report of schemathesis: %v", err)
	}
	return r
}
