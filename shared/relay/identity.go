package relay

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/failpoint"
	"pavane/shared/postgres"
)

const (
	identitySQL = `select system_identifier::text, pg_snapshot_xmax(pg_current_snapshot())::text::numeric < pg_snapshot_xmax($1::pg_snapshot)::text::numeric
from pg_control_system()`
	adoptSQL = `insert into relay_identity (system_identifier) values ($1) on conflict (one) do update set one = excluded.one returning system_identifier`
	// incarnationSQL begins a new incarnation where a crash has emptied the table.
	incarnationSQL = `insert into relay_incarnation default values on conflict (one) do update set one = excluded.one returning id::text`
)

// check refuses a database that is not the one whose journal this is: a dump
// restored into another cluster keeps the journal but counts transactions anew,
// and rows would be skipped in silence. It runs at the start and after each
// crash of the server.
func (r *Relay) check(ctx context.Context) error {
	head, err := loadHead(ctx, r.cfg.DB)
	if err != nil {
		return err
	}
	var (
		system, adopted string
		backwards       bool
	)
	if err := r.cfg.DB.SQL().QueryRowContext(ctx, identitySQL, head.target.snapshot).Scan(&system, &backwards); err != nil {
		return fmt.Errorf("relay: identity of the database: %w", err)
	}
	err = r.cfg.DB.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := tx.QueryRowContext(ctx, adoptSQL, system).Scan(&adopted); err != nil {
			return err
		}
		return failpoint.Hit(ctx, "relay.before_adopt")
	})
	if err == nil {
		err = failpoint.Hit(ctx, "relay.after_adopt")
	}
	if err != nil {
		return fmt.Errorf("relay: identity of the database: %w", err)
	}
	if adopted != system || backwards {
		return fmt.Errorf("%w: the journal was written in database cluster %s, this is %s (transaction ids run backwards: %t); "+
			"after a restore compare log and outbox with pavane audit, then delete the rows of relay_identity, relay_journal and relay_ack", ErrRefuse, adopted, system, backwards)
	}
	r.incarnation, err = incarnation(ctx, r.cfg.DB)
	r.compared = false
	return err
}

// incarnation names the present life of the server, which ends with a crash or
// a promotion.
func incarnation(ctx context.Context, db *postgres.DB) (id string, err error) {
	if err := db.SQL().QueryRowContext(ctx, incarnationSQL).Scan(&id); err != nil {
		return "", fmt.Errorf("relay: incarnation of the server: %w", err)
	}
	return id, nil
}
