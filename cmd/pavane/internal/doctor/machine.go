package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/devstack"
)

const (
	// wantFree is what a demo may write within hours: most of it Postgres' log,
	// which it keeps up to a gigabyte of.
	wantFree = 2 << 30

	// askWithin is how long a program may take to say its version.
	askWithin = 20 * time.Second
)

// Machine looks at what `pavane up` needs to run in dir with its gateway at port.
// It starts nothing and leaves nothing behind.
func Machine(ctx context.Context, dir string, port int) []Finding {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return []Finding{
		services(), postgres(ctx), directory(dir), leftovers(dir), portOf(port),
		kafka(ctx), tool(ctx, "Go", "building and testing need it", "go", "version"),
		tool(ctx, "Docker", "compose.yaml needs it", "docker", "compose", "version"),
	}
}

// services looks for what `pavane up` starts.
func services() Finding {
	dir, err := stack.Binaries()
	if err != nil {
		return Bad("services", "%v", err)
	}
	return Fine("services", "the binaries are in %s", dir)
}

func postgres(ctx context.Context) Finding {
	found, err := devstack.PostgresHere(ctx)
	if err != nil {
		return Bad("Postgres", "%v", err)
	}
	return Fine("Postgres", "%s", found)
}

func kafka(ctx context.Context) Finding {
	if err := devstack.HaveKafka(ctx); err != nil {
		return Note("Kafka", "the embedded broker does without; --real-kafka and the proofs need one: %v", err)
	}
	return Fine("Kafka", "the embedded broker, and what Apache Kafka needs")
}

// directory tries whether the demo may write its data, and whether it has room.
func directory(dir string) Finding {
	above := existing(dir)
	trial, err := os.MkdirTemp(above, ".pavane-doctor-")
	if err != nil {
		return Bad("data", "%s cannot be written: %v; take another directory with --dir, or PAVANE_DIR", above, err)
	}
	defer os.Remove(trial) //nolint:errcheck // it is empty
	var fs syscall.Statfs_t
	if err := syscall.Statfs(above, &fs); err != nil {
		return Bad("data", "%s: %v", above, err)
	}
	return room(dir, uint64(fs.Bavail)*uint64(fs.Bsize)) //nolint:unconvert,gosec // the types differ from system to system
}

func room(dir string, free uint64) Finding {
	const giga = 1 << 30
	if free < wantFree {
		return Bad("data", "%s has %.1f GB left, want %d: make room, or take another directory with --dir", dir, float64(free)/giga, wantFree/giga)
	}
	return Fine("data", "%s, %.0f GB free", dir, float64(free)/giga)
}

// existing is dir, or the nearest above it that is there.
func existing(dir string) string {
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
	}
}

// leftovers looks for processes of a demo that was killed.
func leftovers(dir string) Finding {
	running, left, err := stack.Left(dir)
	switch {
	case err != nil:
		return Bad("leftovers", "%v", err)
	case running:
		return Fine("leftovers", "none: a demo runs in %s", dir)
	case len(left) > 0:
		return Note("leftovers", "%s of a demo that was killed still run; the next `pavane up` ends them", strings.Join(left, ", "))
	}
	return Fine("leftovers", "none")
}

func portOf(port int) Finding {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return Note("port", "%d is taken; the gateway steps over it, or takes another with --port", port)
	case err != nil:
		return Bad("port", "%d on loopback: %v; take another with --port", port, err)
	}
	defer l.Close() //nolint:errcheck // nobody has connected
	return Fine("port", "%d is free", port)
}

// tool looks for a program that not everybody needs.
func tool(ctx context.Context, subject, why, name string, args ...string) Finding {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return Note(subject, "%s, and `%s` fails: %s", why, strings.Join(append([]string{name}, args...), " "), reason(err))
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return Fine(subject, "%s", first)
}

// reason is what a program said when it failed, or why it did not start.
func reason(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		first, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return first
	}
	return fmt.Sprint(err)
}
