package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"pavane/cmd/pavane/internal/authority"
)

// writeSecrets writes what the services are told in files, for their owner only:
// the environment of a process is shown to more. The services' key is a new one.
func (s *Stack) writeSecrets(context.Context) error {
	secrets := map[string]string{"service-key": rand.Text() + rand.Text()}
	if s.cfg.Control.Token != "" {
		secrets["operator-token"] = s.cfg.Control.Token
	}
	for _, svc := range services() {
		if svc.database != "" {
			secrets[svc.database+"-url"] = s.runtimeURL(svc)
			secrets[svc.database+"-owner-url"] = DatabaseURL(s.cfg.Postgres, svc.database)
		}
	}
	if err := os.RemoveAll(secretFile(s.cfg.Dir, "")); err != nil {
		return fmt.Errorf("write the services' secrets: %w", err)
	}
	if err := os.Mkdir(secretFile(s.cfg.Dir, ""), 0o700); err != nil {
		return fmt.Errorf("write the services' secrets: %w", err)
	}
	if s.cfg.Auth {
		s.state.Authority = secretFile(s.cfg.Dir, "")
		if err := authority.Make(s.state.Authority); err != nil {
			return err
		}
	}
	for name, secret := range secrets {
		if err := os.WriteFile(secretFile(s.cfg.Dir, name), []byte(secret), 0o600); err != nil {
			return fmt.Errorf("write the services' secrets: %w", err)
		}
	}
	return nil
}

func secretFile(dir, name string) string { return filepath.Join(dir, "secrets", name) }
