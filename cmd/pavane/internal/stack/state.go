package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"pavane/cmd/pavane/internal/authority"
	"pavane/cmd/pavane/internal/client"
	"pavane/internal/devstack"
)

// State is what a running stack leaves in its directory: for the commands that
// look at it, and for the next start, which ends what a kill -9 left behind.
type State struct {
	Pid       int                `json:"pid"`                 // of `pavane up`
	Identity  string             `json:"identity"`            // of that process, as of others below
	Gateway   string             `json:"gateway"`             // http://host:port
	Authority string             `json:"authority,omitempty"` // directory with the key of tokens; empty: the gateway asks for none
	Postgres  string             `json:"postgres"`            // URL of the server, with a superuser; the database is left open
	Provider  string             `json:"provider"`            // http://host:port of the card provider's simulator
	Kafka     []string           `json:"kafka"`               // host:port
	Namespace string             `json:"namespace"`           // before the names of topics
	Started   time.Time          `json:"started"`
	Services  map[string]Process `json:"services"`
	Servers   map[string]Process `json:"servers,omitempty"` // that are processes of ours
	Control   Control            `json:"control"`
}

// Control is where the running demo takes orders to break something: only from
// who can read the state file, which holds the token.
type Control struct {
	URL   string `json:"url,omitempty"` // http://127.0.0.1:port
	Token string `json:"token,omitempty"`
}

// Process is a child process that can be told from a later one of the same pid.
type Process struct {
	Pid      int    `json:"pid"`
	Identity string `json:"identity"`
}

const (
	// requestLife is how long the token of one request is good for.
	requestLife = time.Minute
	toolName    = "pavane"
)

// Token is one with which the tool sees everything and acts for everybody, for a
// while.
func (s State) Token(life time.Duration) (string, error) {
	a, err := authority.Load(s.Authority)
	if err != nil {
		return "", err
	}
	return a.Token(toolName, authority.Operators, life)
}

// Client calls the gateway, with a token where it asks for one.
func (s State) Client() *client.Client {
	c := client.New(s.Gateway)
	if s.Authority == "" {
		return c
	}
	return c.With(func() (string, error) { return s.Token(requestLife) })
}

// Database is the URL of a database on the stack's server.
func (s State) Database(name string) string {
	u, err := url.Parse(s.Postgres)
	if err != nil {
		return s.Postgres // opening it says what is wrong
	}
	u.Path = "/" + name
	return u.String()
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

// DefaultDir is where the demo keeps its data: PAVANE_DIR, else pavane below
// XDG_DATA_HOME or ~/.local/share.
func DefaultDir() string {
	if dir := os.Getenv("PAVANE_DIR"); dir != "" {
		return dir
	}
	if base := os.Getenv("XDG_DATA_HOME"); base != "" {
		return filepath.Join(base, "pavane")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("pavane-%d", os.Geteuid()), "demo")
	}
	return filepath.Join(home, ".local", "share", "pavane")
}

// Load reads the state of the stack that runs in dir.
func Load(dir string) (State, error) {
	s, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("nothing runs in %s: start `pavane up`, or say where to look with --dir, or with --postgres and --kafka", dir)
	}
	return s, err
}

func readState(dir string) (State, error) {
	var s State
	b, err := os.ReadFile(stateFile(dir))
	if err != nil {
		return s, fmt.Errorf("read the state of the stack: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read the state of the stack: %s: %w: remove the file if nothing runs", stateFile(dir), err)
	}
	return s, nil
}

// write replaces the file at once, so that no reader sees half of it. It holds
// the database's password, so it is for the owner only.
func (s State) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the state of the stack: %w", err)
	}
	fresh := stateFile(dir) + ".new"
	if err := os.WriteFile(fresh, b, 0o600); err != nil {
		return fmt.Errorf("write the state of the stack: %w", err)
	}
	if err := os.Rename(fresh, stateFile(dir)); err != nil {
		return fmt.Errorf("write the state of the stack: %w", err)
	}
	return nil
}

// lock takes the directory for this process. The kernel gives it up when the
// process ends, however it ends.
func lock(dir string) (*devstack.Lock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	l, err := devstack.TryLock(filepath.Join(dir, "up.lock"))
	if errors.Is(err, devstack.ErrLocked) {
		if s, err := readState(dir); err == nil {
			return nil, fmt.Errorf("%s is in use: `pavane up` runs already as process %d at %s; stop it, or take another directory with --dir", dir, s.Pid, s.Gateway)
		}
		return nil, fmt.Errorf("%s is in use by another `pavane up`; stop it, or take another directory with --dir", dir)
	}
	return l, err
}
