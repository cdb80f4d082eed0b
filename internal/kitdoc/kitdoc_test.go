// Package kitdoc_test holds docs/kit.md to its word: it makes the files that the
// page shows, as a module outside of this one, tests and runs them.
package kitdoc_test

import (
	"context"
	"crypto/rand"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
	"pavane/internal/devstack"
	"pavane/shared/brokertest"
	"pavane/shared/pgtest"

	// What the page uses, so that go test repeats this when the kit changes.
	_ "pavane/shared/sagatest"
	_ "pavane/shared/service"
)

const (
	page     = "../../docs/kit.md"
	patience = 4 * time.Minute // the first time, everything is compiled
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestKitPage_AsAModuleOfItsOwn_HandlesTheFirstEventOnce(t *testing.T) {
	t.Parallel()
	dir := module(t)
	run(t, dir, "go", "vet", ".")
	run(t, dir, "go", "test", "-count=1", ".")
	binary := build(t, dir)

	// In earnest: the owner migrates and grants, the service has the other role.
	owner, runtime := pgtest.Roles(t)
	u, err := url.Parse(runtime)
	must(t, err)
	env := []string{"PAVANE_BROKERS=" + brokertest.Start(t), "PAVANE_NAMESPACE=" + strings.ToLower(rand.Text()) + ".", "PAVANE_CREATE_TOPICS=true"}
	migrating := exec.CommandContext(t.Context(), binary, "-migrate")
	migrating.Env = append(append(os.Environ(), "PAVANE_DATABASE="+owner, "PAVANE_RUNTIME_ROLE="+u.User.Username()), env...)
	if out, err := migrating.CombinedOutput(); err != nil {
		t.Fatalf("-migrate: %v\n%s", err, out)
	}
	requireBothCounted(t, serve(t, binary, append(env, "PAVANE_DATABASE="+runtime, "PAVANE_MIGRATE=false")), runtime)
}

// The page has the demo's Postgres and broker serve the service, too.
func TestKitPage_BesideARunningDemo_ItsDatabaseAndBrokerAreEnough(t *testing.T) {
	t.Parallel()
	binary := build(t, module(t))
	bin, err := demo.Build(t.TempDir())
	must(t, err)
	d := demo.Start(t, demo.Config{Bin: bin, Dir: t.TempDir(), Args: []string{"--no-orders", "--database", "parcels"}})
	said := regexp.MustCompile(`(PAVANE_DATABASE)='(\S+)' (PAVANE_BROKERS=\S+)`).FindStringSubmatch(d.Said("for a service of your own"))
	if said == nil {
		t.Fatalf("pavane up does not say where database and broker are: %q", d.Said("for a service of your own"))
	}
	requireBothCounted(t, serve(t, binary, []string{said[1] + "=" + said[2], said[3], "PAVANE_CREATE_TOPICS=true"}), said[2])
}

// requireBothCounted sends two parcels and waits until they are counted, once each.
func requireBothCounted(t *testing.T, service, database string) {
	t.Helper()
	db := pgtest.Open(t, database)
	for range 2 {
		put(t, service+"/v1/parcels/p-1", `{"customer":"ada"}`)
	}
	count := func() (n int) {
		must(t, db.SQL().QueryRowContext(t.Context(), `select coalesce(max(c.parcels), 0) from customers c`).Scan(&n))
		return n
	}
	await.True(t, time.Minute, "both parcels counted", func() bool { return count() >= 2 })
	if n := count(); n != 2 {
		t.Errorf("ada has %d parcels, want 2", n)
	}
}

func build(t *testing.T, dir string) (binary string) {
	t.Helper()
	run(t, dir, "go", "build", "-o", "parcel-svc", ".")
	return filepath.Join(dir, "parcel-svc")
}

// module makes the page's files in a folder outside the repository.
func module(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	root, err := filepath.Abs("../..")
	must(t, err)
	dir := t.TempDir()
	files := blocks(string(text))
	if len(files) < 5 {
		t.Fatalf("found only %v in %s", slices.Sorted(maps.Keys(files)), page)
	}
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644))
	run(t, dir, "go", "mod", "init", "parcel-svc")
	run(t, dir, "go", "mod", "edit", "-require=pavane@v0.0.0", "-replace=pavane="+root)
	return dir
}

// blocks returns the fenced blocks that follow a line <!-- file: NAME -->.
func blocks(text string) map[string]string {
	files := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^<!-- file: (\\S+) -->\n```\\w+\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		files[m[1]] = m[2]
	}
	return files
}

// run runs a command in dir. A module of its own reads more go.mod files than
// this one, so the first time some are fetched.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// serve starts the service and returns its address once it is ready.
func serve(t *testing.T, binary string, env []string) string {
	t.Helper()
	port, err := devstack.FreePort(0)
	must(t, err)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	log := &strings.Builder{}
	cmd := exec.Command(binary)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), env...), "PAVANE_HTTP_ADDR="+addr)
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v\n%s", err, log)
		}
	})
	await.True(t, time.Minute, "the service is ready", func() bool {
		res, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return "http://" + addr
}

func put(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("PUT %s: %s: %s", url, res.Status, text)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
