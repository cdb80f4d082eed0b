package compose

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/fault"
	"pavane/cmd/pavane/internal/stack"
	"pavane/internal/devstack"
)

// clockVariable names, in the image of deploy/clock, the file by which the clock of
// Postgres goes.
const clockVariable = "FAKETIME_TIMESTAMP_FILE="

var errNoClock = errors.New("the Postgres of this stack runs without libfaketime: it needs the image of deploy/clock, which compose.chaos.yaml builds")

// Missing says what the stack lacks to cause faults of a kind; nil: nothing.
func (s *Stack) Missing(ctx context.Context, kind string) error {
	if kind != fault.Clock {
		return nil
	}
	_, _, err := s.clock(ctx)
	return err
}

// clock returns the container of Postgres and the file by which its clock goes.
func (s *Stack) clock(ctx context.Context) (id, file string, err error) {
	if id, err = s.find(ctx, stack.Postgres); err != nil {
		return "", "", err
	}
	c, err := s.docker.inspect(ctx, id)
	if err != nil {
		return "", "", err
	}
	for _, v := range c.Config.Env {
		if file, ok := strings.CutPrefix(v, clockVariable); ok {
			return id, file, nil
		}
	}
	return "", "", errNoClock
}

// MoveClock has the clock of Postgres, and with it that of every service, jump to
// so much after the machine's; 0 puts it right. It stays so through restarts of
// the container, until another one is made.
func (s *Stack) MoveClock(ctx context.Context, by time.Duration) error {
	id, file, err := s.clock(ctx)
	if err != nil {
		return err
	}
	text := fmt.Appendf(nil, "%+d\n", int64(by.Seconds()))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err = w.WriteHeader(&tar.Header{Name: path.Base(file), Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write(text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	if err := s.docker.put(ctx, id, path.Dir(file), archive.Bytes()); err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	return devstack.AwaitClock(ctx, s.state.Postgres, by)
}
