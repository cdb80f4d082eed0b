package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// oldestPostgres is the lowest major version that is taken from the machine.
const oldestPostgres = 15

// fetchedPostgres is what is fetched when the machine has none. 17 and not newer: the 18 builds for
// Apple silicon need a translator.
const fetchedPostgres = string(embedded.V17)

// versionNumber finds the major version in "postgres (PostgreSQL) 17.5 (Debian 17.5-1)".
var versionNumber = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// binaries returns a directory with initdb and postgres that the account can run: the configured one, else the
// machine's own unless a version is asked for, else a fetched one in the cache.
func (c PostgresConfig) binaries(ctx context.Context, as *account) (string, error) {
	if c.BinDir != "" {
		return c.BinDir, nil
	}
	if c.Version == "" {
		if dir := machinePostgres(ctx, as); dir != "" {
			return dir, nil
		}
	}
	cache := c.CacheDir
	if cache == "" {
		cache = CacheDir()
	}
	cache, err := as.reachable(cache)
	if err != nil {
		return "", err
	}
	return c.fetch(ctx, filepath.Join(cache, "postgres"))
}

// PostgresHere says in words which Postgres StartPostgres would run on this machine, and as whom. It fetches none.
func PostgresHere(ctx context.Context) (string, error) {
	as := serverAccount()
	by := ""
	if as != nil {
		by = fmt.Sprintf(", run by user %d since it refuses root", as.uid)
	}
	if dir := machinePostgres(ctx, as); dir != "" {
		return fmt.Sprintf("%d in %s%s", usable(ctx, as, dir), dir, by), nil
	}
	cache, err := as.reachable(CacheDir())
	if err != nil {
		return "", err
	}
	home := fetchedHome(filepath.Join(cache, "postgres"), fetchedPostgres)
	if _, err := os.Stat(filepath.Join(home, "bin", "postgres")); err == nil {
		return fmt.Sprintf("%s in %s%s", fetchedPostgres, home, by), nil
	}
	return fmt.Sprintf("none yet: the first start fetches %s, about 15 MB%s", fetchedPostgres, by), nil
}

// toFetch is the version that fetch fetches.
func (c PostgresConfig) toFetch() string { return cmp.Or(c.Version, fetchedPostgres) }

// fetchedHome is where a fetched Postgres lies below dir.
func fetchedHome(dir, version string) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
}

// machinePostgres looks at the usual places: first what PATH and pg_config name, since somebody chose it,
// then the newest of the package managers' directories. It returns "" when there is none.
func machinePostgres(ctx context.Context, as *account) string {
	for _, dir := range chosenDirs(ctx) {
		if usable(ctx, as, dir) >= oldestPostgres {
			return dir
		}
	}
	best, newest := "", oldestPostgres-1
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                   // packages of the project for Red Hat
		"/usr/libexec/postgresql*",                           // Alpine
		"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew, Apple silicon
		"/usr/local/opt/postgresql*/bin",                     // Homebrew, Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if v := usable(ctx, as, dir); v > newest {
				best, newest = dir, v
			}
		}
	}
	return best
}

// chosenDirs lists the directories that PATH and pg_config point at, links resolved: Postgres finds its
// other files relative to the real place.
func chosenDirs(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	return slices.Compact(dirs)
}

// usable returns the major version of the Postgres in dir, or 0 when the account cannot run one from there.
func usable(ctx context.Context, as *account, dir string) int {
	if !as.reaches(dir) {
		return 0
	}
	if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	m := versionNumber.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.Atoi(string(m[1]))
	return v
}

// fetch returns the bin directory of the fetched Postgres below dir, fetching and unpacking it when it is
// not there yet. Processes that want it at the same time wait for the first. It appears by one rename, so a half
// unpacked one is never seen.
func (c PostgresConfig) fetch(ctx context.Context, dir string) (string, error) {
	version := c.toFetch()
	home := fetchedHome(dir, version)
	bin := filepath.Join(home, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache for Postgres: %w", err)
	}
	lock, err := waitLock(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("wait for another process that fetches Postgres: %w", err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		return bin, nil
	}
	report(c.Progress, "fetching Postgres %s (about 15 MB, once)", version)
	tmp, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return "", fmt.Errorf("make cache for Postgres: %w", err)
	}
	defer os.RemoveAll(tmp)
	unpacked := filepath.Join(tmp, "postgres")
	if err := c.unpack(ctx, dir, unpacked, filepath.Join(tmp, "run")); err != nil {
		remedy := fmt.Sprintf("install PostgreSQL %d or newer", oldestPostgres)
		if c.Version != "" {
			remedy = "ask for one that is published, such as " + fetchedPostgres
		}
		return "", fmt.Errorf("fetch Postgres %s: %w; %s, or check the network", version, err, remedy)
	}
	if err := openDirs(unpacked); err != nil {
		return "", fmt.Errorf("make fetched Postgres readable: %w", err)
	}
	if err := os.Rename(unpacked, home); err != nil {
		return "", fmt.Errorf("put fetched Postgres in place: %w", err)
	}
	return bin, nil
}

// unpack lets the library fetch into cache and unpack into dst. The library has one call, Start, that
// also runs initdb and starts a daemon; both are unwanted (it refuses root, and the daemon would outlive us).
// An encoding that does not exist makes it end right after unpacking.
func (c PostgresConfig) unpack(ctx context.Context, cache, dst, run string) error {
	port, err := FreePort(0)
	if err != nil {
		return err
	}
	config := embedded.DefaultConfig().Version(embedded.PostgresVersion(c.toFetch())).Port(uint32(port)).CachePath(cache).
		BinariesPath(dst).RuntimePath(run).Encoding("none-unpack-only").Logger(io.Discard)
	if c.Mirror != "" {
		config = config.BinaryRepositoryURL(strings.TrimSuffix(c.Mirror, "/"))
	}
	server := embedded.NewDatabase(config)
	ended := make(chan error, 1)
	go func() { ended <- server.Start() }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx) // the library cannot be interrupted; it ends by itself
	case err = <-ended:
	}
	if err == nil {
		return errors.Join(errors.New("the library accepted an encoding that does not exist"), server.Stop())
	}
	if _, statErr := os.Stat(filepath.Join(dst, "bin", "postgres")); statErr != nil {
		return err
	}
	return nil
}

// openDirs lets every user walk below root and read what is there: the server may run as another user, and
// the umask of this process may be closed.
func openDirs(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
