package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/postgres"
	"pavane/shared/replay"
)

// replayer is the command that publishes retained rows again.
type replayer struct {
	target
	since, until string
	dryRun       bool
	cfg          replay.Config
	told         time.Time // when progress was shown last
}

func replayCommand() *cobra.Command {
	var r replayer
	c := &cobra.Command{
		Use:   "replay --to TOPIC",
		Short: "Publish retained events again, into another topic, for a consumer that comes late",
		Long: `Reads the rows that the outboxes still hold and publishes them, in the order of
their keys and as the same records, into a topic of their own, which is made when
it is missing. Nothing else changes. Times are like 2026-01-31T12:00:00Z, or a
duration back from now, like 90m.

Interrupted, it leaves a topic with a part of the events; the next run refuses
it: delete the topic, or --append everything again. A consumer of the kit drops
what it meets twice, also when it goes on with the services' own topics.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return r.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
	r.flags(c)
	f := c.Flags()
	f.StringVar(&r.cfg.To, "to", "", "the topic that gets the events; required")
	f.StringVar(&r.since, "since", "", "only events from this time on")
	f.StringVar(&r.until, "until", "", "only events from before this time")
	f.StringVar(&r.cfg.Key, "key", "", "only events of this key")
	f.StringVar(&r.cfg.Topic, "topic", "", "only events of this topic")
	f.IntVar(&r.cfg.Partitions, "partitions", 6, "partitions of each topic, the services' and the new one")
	f.IntVar(&r.cfg.ReplicationFactor, "replication-factor", 0, "copies of each partition of a new topic; 0: the broker's default")
	f.BoolVar(&r.cfg.Append, "append", false, "the topic may hold records already")
	f.BoolVar(&r.dryRun, "dry-run", false, "say what would be published, and publish nothing")
	f.Float64Var(&r.cfg.Rate, "rate", 0, "events per second; 0: as fast as it goes")
	return c
}

func (r *replayer) run(ctx context.Context, out, progress io.Writer) error {
	if r.cfg.To == "" {
		return errors.New("--to is missing: name the topic that gets the events")
	}
	var err error
	now := time.Now()
	if r.cfg.Since, err = when("--since", r.since, now); err != nil {
		return err
	}
	if r.cfg.Until, err = when("--until", r.until, now); err != nil {
		return err
	}
	if err := r.resolve(false, true, true); err != nil {
		return err
	}
	shut, err := r.open()
	defer shut()
	if err != nil {
		return err
	}
	plan, err := replay.Prepare(ctx, r.cfg)
	if err != nil {
		return err
	}
	r.tell(out, plan)
	if r.dryRun {
		return nil
	}
	r.cfg.Progress = func(done, total int64) {
		if time.Since(r.told) >= time.Second {
			r.told = time.Now()
			fmt.Fprintf(progress, "%d of %d events …\n", done, total)
		}
	}
	done, err := replay.Run(ctx, r.cfg)
	if err != nil {
		return fmt.Errorf("%d of %d events are in %s: %w", done, plan.Rows, r.cfg.To, err)
	}
	fmt.Fprintf(out, "%d events are in %s\n", done, r.cfg.To)
	return nil
}

// open connects to all that is needed; shut gives it back, whatever came of it.
func (r *replayer) open() (shut func(), err error) {
	var closers []func()
	shut = func() {
		for _, f := range closers {
			f()
		}
	}
	for _, p := range r.places() {
		db, err := postgres.Open(postgres.Config{URL: p.url, MaxConns: 1, Name: "pavane-replay", StatementTimeout: time.Minute})
		if err != nil {
			return shut, err
		}
		closers = append(closers, func() { db.Close() })
		r.cfg.Outboxes = append(r.cfg.Outboxes, db)
	}
	client, err := broker.Dial(r.security.Secure(broker.Config{Brokers: r.kafka, ClientID: "pavane-replay"}))
	if err != nil {
		return shut, err
	}
	closers = append(closers, client.Close)
	r.cfg.Kafka = client
	for _, topic := range slices.Sorted(maps.Values(contract.Topics())) {
		r.cfg.Sources = append(r.cfg.Sources, r.namespace+topic)
	}
	return shut, nil
}

func (r *replayer) tell(w io.Writer, p replay.Plan) {
	reach := "all that was ever published"
	if !p.Reaches.IsZero() {
		reach = "what was published since " + p.Reaches.Local().Format(time.DateTime)
	}
	state := "is made"
	if p.Holds >= 0 {
		state = fmt.Sprintf("holds %d records", p.Holds)
	}
	fmt.Fprintf(w, "%d events of %d keys go to %s, which %s; the outboxes hold %s\n", p.Rows, p.Keys, r.cfg.To, state, reach)
	if p.Cut > 0 {
		fmt.Fprintf(w, "of %d keys the first events are not among them: a consumer with an inbox waits for those\n", p.Cut)
	}
}

// when reads a time, or a duration back from now; empty is no time.
func when(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s %q: want a time like 2026-01-31T12:00:00Z, or a duration back from now like 90m", flag, text)
	}
	return t, nil
}
