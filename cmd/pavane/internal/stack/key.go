package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// makeServiceKey writes a new key for the calls of the services to each other. It
// is for the owner only, and no process shows it in its environment.
func (s *Stack) makeServiceKey(context.Context) error {
	file := serviceKeyFile(s.cfg.Dir)
	if err := os.RemoveAll(file); err != nil {
		return fmt.Errorf("write the services' key: %w", err)
	}
	if err := os.WriteFile(file, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
		return fmt.Errorf("write the services' key: %w", err)
	}
	return nil
}

func serviceKeyFile(dir string) string { return filepath.Join(dir, "service.key") }
