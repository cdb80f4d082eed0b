package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"

	"pavane/shared/service"
)

// Compare asks the built services in bin for their tables of reactions with
// -describe and returns an error when one says something else than its source:
// the binary is old, or its table is not written the way Read can follow.
func Compare(ctx context.Context, root fs.FS, bin string) error {
	c, err := Read(root)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range c.Services {
		out, err := exec.CommandContext(ctx, filepath.Join(bin, s.Name), "-describe").Output()
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s for its reactions: %w", s.Name, err))
			continue
		}
		errs = append(errs, c.compare(s, out))
	}
	return errors.Join(errs...)
}

// compare takes what -describe printed.
func (c Catalogue) compare(s Service, described []byte) error {
	var d service.Description
	if err := json.Unmarshal(described, &d); err != nil {
		return fmt.Errorf("%s -describe: %w", s.Name, err)
	}
	if d.Service != s.Name || len(d.Reactions) != len(s.Rows) {
		return fmt.Errorf("%s -describe: %q with %d reactions; the source has %d", s.Name, d.Service, len(d.Reactions), len(s.Rows))
	}
	for i, r := range d.Reactions {
		if row := s.Rows[i]; r.On != row.On || r.Origin != row.Origin || !slices.Equal(r.Emits, row.Emits) {
			return fmt.Errorf("%s -describe: reaction %d is %+v; the source has %+v", s.Name, i+1, r, row)
		}
	}
	for _, e := range d.Events {
		if of, _ := c.event(e.Kind); of.Failure != e.Failure || of.Undoes != e.Undoes {
			return fmt.Errorf("%s -describe: event %+v; the source has failure %t, undoes %q", s.Name, e, of.Failure, of.Undoes)
		}
	}
	return nil
}
