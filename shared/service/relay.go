package service

import (
	"context"
	"fmt"

	"pavane/shared/failpoint"
	"pavane/shared/lifecycle"
)

// RunRelay publishes the outbox of a service's database until ctx ends, and does
// nothing else: an operator may run it beside the service, or in place of the
// service's own relay (PAVANE_RELAY=false there). Any number at once do no harm.
// It has the service's configuration and role, waits for the owner's migrations
// and for the topics, and serves /livez, /readyz and /metrics. Of the spec it
// needs Name and Topics.
func RunRelay(ctx context.Context, cfg Config, spec Spec) error {
	cfg.Relay, cfg.Migrate, cfg.CreateTopics = true, false, false
	spec.Migrations = nil // the kit's tables are all it uses
	s, err := prepare(ctx, cfg, spec, true)
	if err != nil {
		return err
	}
	defer s.close()
	publish, err := s.relayPart()
	if err != nil {
		return fmt.Errorf("%s: %w", spec.Name, err)
	}
	ctx = failpoint.With(ctx, s.failpoint)
	return lifecycle.Run(ctx, s.logger,
		lifecycle.Part{Name: "topics", Run: s.awaitTopics},
		publish,
		lifecycle.Part{Name: "http", Start: s.http.Start, Run: s.http.Run, Stop: s.http.Stop},
		s.leaving(),
	)
}
