package devstack

import (
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// startTestPostgres starts a server that the test's end stops and removes.
func startTestPostgres(t *testing.T, cfg PostgresConfig) *Postgres {
	t.Helper()
	cfg.NoSync = true
	p, err := StartPostgres(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Stop(context.Background()), os.RemoveAll(p.Dir())); err != nil {
			t.Error(err)
		}
	})
	return p
}

// query runs one statement and returns its single text value.
func query(t *testing.T, url, statement string) string {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var v string
	if err := db.QueryRowContext(testContext(t), statement).Scan(&v); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return v
}

func TestPostgres_StopOfATemporaryServer_LeavesNothing(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, PostgresConfig{})
	for range 2 { // the second finds it there
		if err := p.CreateDatabase(testContext(t), `odd "name"`); err != nil {
			t.Fatal(err)
		}
	}
	pid, dir := p.Pid(), p.Dir()
	if err := p.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Errorf("server %d still runs", pid)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory %s is still there (%v)", dir, err)
	}
}

func TestPostgres_WrongPassword_IsRefused(t *testing.T) {
	t.Parallel()
	p := startTestPostgres(t, PostgresConfig{})
	db, err := sql.Open("postgres", strings.Replace(p.URL("postgres"), p.password, "wrong", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if db.PingContext(testContext(t)) == nil {
		t.Error("a wrong password was accepted")
	}
}

func TestPostgres_SameDirectoryAgain_KeepsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	first := startTestPostgres(t, PostgresConfig{Dir: dir, Settings: map[string]string{"shared_buffers": "16MB"}})
	if got := query(t, first.URL("postgres"), `show shared_buffers`); got != "16MB" {
		t.Errorf("setting was not taken over: %s", got)
	}
	if err := first.CreateDatabase(testContext(t), "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(testContext(t), PostgresConfig{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second server in a directory in use: %v", err)
	}
	if err := first.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	second := startTestPostgres(t, PostgresConfig{Dir: dir})
	if got := query(t, second.URL("orders"), `select current_database()`); got != "orders" {
		t.Errorf("connected to %s", got)
	}
}

func TestPostgres_Crashed_RestartRecoversWhatWasCommitted(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(p *Postgres) error{
		"killed":          func(p *Postgres) error { p.Kill(); return nil },
		"stopped at once": func(p *Postgres) error { return p.StopImmediate(testContext(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startTestPostgres(t, PostgresConfig{})
			url := p.URL("postgres")
			if err := p.CreateDatabase(testContext(t), "committed"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(crash(p), p.Restart(testContext(t))); err != nil {
				t.Fatal(err)
			}
			if p.URL("postgres") != url {
				t.Errorf("address changed from %s to %s", url, p.URL("postgres"))
			}
			if got := query(t, p.URL("committed"), `select current_database()`); got != "committed" {
				t.Errorf("connected to %s", got)
			}
		})
	}
}

// TestPostgres_StarterKilled_ServerIsGone relies on the death signal where there is one, else on the next start.
func TestPostgres_StarterKilled_ServerIsGone(t *testing.T) {
	t.Parallel()
	s := startRole(t, "postgres", "", nil)
	words := s.ready(t)
	pid, dir := number(t, words[0]), words[2]
	if !alive(pid) {
		t.Fatalf("server %d does not run", pid)
	}
	s.kill9()
	if runtime.GOOS == "linux" {
		if err := waitGone(testContext(t), pid); err != nil {
			t.Fatalf("server %d outlives its starter: %v", pid, err)
		}
	}
	startTestPostgres(t, PostgresConfig{})
	if alive(pid) {
		t.Errorf("server %d outlives the next start", pid)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory %s outlives the next start (%v)", dir, err)
	}
}

func TestPostgres_LeftoverRuns_IsStoppedBeforeTheStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pg")
	old := startTestPostgres(t, PostgresConfig{Dir: dir})
	pid := old.Pid()
	old.dir.lock.Unlock() // as the death of its starter does
	var told []string
	fresh := startTestPostgres(t, PostgresConfig{Dir: dir, Progress: func(s string) { told = append(told, s) }})
	if alive(pid) || fresh.Pid() == pid {
		t.Errorf("leftover server %d still runs", pid)
	}
	if len(told) != 1 || !strings.Contains(told[0], "left behind") {
		t.Errorf("progress said %q", told)
	}
}

func TestReap_NumberOfAnotherProcess_IsNotTouched(t *testing.T) {
	t.Parallel()
	w := &workDir{path: t.TempDir()}
	s := startRole(t, "broker", t.TempDir(), nil)
	pid := number(t, s.ready(t)[0])
	if err := w.notePid(pid); err != nil {
		t.Fatal(err)
	}
	if err := w.reapLeftovers(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("ended a process that only has the number of an old server")
	}
}

func TestPostgres_TwoStartersAtOnce_BothServe(t *testing.T) {
	t.Parallel()
	one, two := startRole(t, "postgres", "", nil), startRole(t, "postgres", "", nil)
	for _, s := range []*starter{one, two} {
		if got := query(t, s.ready(t)[1], `select 'served'`); got != "served" {
			t.Errorf("got %q", got)
		}
	}
}

// TestPostgres_OrdinaryUser_Serves has a user without any rights start the server when we are root; otherwise all
// tests here are that already.
func TestPostgres_OrdinaryUser_Serves(t *testing.T) {
	t.Parallel()
	var as *account
	if os.Geteuid() == 0 {
		as = &account{uid: nobodyID, gid: nobodyID}
	}
	s := startRole(t, "postgres", "", as)
	words := s.ready(t)
	if got := query(t, words[1], `select 'served'`); got != "served" {
		t.Errorf("got %q", got)
	}
	s.end()
	if _, err := os.Stat(words[2]); !os.IsNotExist(err) {
		t.Errorf("directory %s is still there (%v)", words[2], err)
	}
}

func TestPostgres_ContextEndsWhileStarting_LeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(testContext(t))
	stop := errors.New("changed my mind")
	var dir string
	_, err := StartPostgres(ctx, PostgresConfig{Progress: func(s string) {
		_, dir, _ = strings.Cut(s, " in ")
		cancel(stop)
	}})
	if !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(dir); dir == "" || !os.IsNotExist(err) {
		t.Errorf("directory %q is still there (%v)", dir, err)
	}
}

// fakePostgres is a .txz with bin/postgres, bin/initdb and bin/pg_ctl, shell scripts that fail.
const fakePostgres = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4Cf/AKRdADEaShsFkZA3OlG9V3Gz1uIDp1blt7B8uc1S3lA4UQK0b/PawppfIyWxkofTkBx37TQzPBSP5oPQF3Nks2lO1ImQ/rWXIAMHg8DsSx+HjZMla9Jdq/O+C6AUIYnC61Dc8zGuSVICFBZ8bU0SHHqKM0DVlNhTrjjXT/BrFG7hkTISq5xd5nwBtmCjwMvSXmZStPAbwnExRM9XOByP2Z87qm7HFyUAAPtqd8SONN/LAAHAAYBQAABSezhuscRn+wIAAAAABFla"

// mirror serves the fake Postgres under any name, as a Maven repository does, and counts the downloads.
func mirror(t *testing.T, downloads *atomic.Int64) string {
	t.Helper()
	txz, err := base64.StdEncoding.DecodeString(fakePostgres)
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	f, err := z.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(txz); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			http.NotFound(w, r)
			return
		}
		downloads.Add(1)
		_, _ = w.Write(jar.Bytes())
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFetch_TwoProcessesAtOnce_FetchOnceAndBothHaveIt(t *testing.T) {
	t.Parallel()
	var downloads atomic.Int64
	arg := filepath.Join(t.TempDir(), "cache") + " " + mirror(t, &downloads)
	one, two := startRole(t, "fetch", arg, nil), startRole(t, "fetch", arg, nil)
	for _, s := range []*starter{one, two} {
		if _, err := os.Stat(filepath.Join(s.ready(t)[0], "postgres")); err != nil {
			t.Error(err)
		}
	}
	if n := downloads.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestFetch_NoSuchMirror_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := PostgresConfig{Mirror: "http://" + loopback + ":1"}.fetch(testContext(t), dir)
	if err == nil || !strings.Contains(err.Error(), "install PostgreSQL") {
		t.Fatalf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "unpack-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
