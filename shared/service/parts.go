package service

import (
	"context"
	"errors"
	"time"

	"pavane/shared/broker"
	"pavane/shared/lifecycle"
	"pavane/shared/postgres"
	"pavane/shared/react"
	"pavane/shared/relay"
)

// flushTime is how long the relay may go on publishing after everything else has
// stopped. What is left then is published by the next start.
const flushTime = 3 * time.Second

// allParts lists what the process does in the order of its start, which is the
// reverse of the order of its stop.
func (s *Service) allParts() ([]lifecycle.Part, error) {
	parts := []lifecycle.Part{{Name: "topics", Run: s.awaitTopics}}
	if s.db != nil && s.cfg.Relay {
		p, err := s.relayPart()
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	} else if s.db != nil {
		s.metrics.MustRegister(relay.NewBacklogCollector(s.relayDB)) // nobody else may be there to tell
	}
	if s.admission != nil {
		parts = append(parts, lifecycle.Part{Name: "admission", Run: s.admission.Run})
	}
	parts = append(parts, lifecycle.Part{Name: "http", Start: s.http.Start, Run: s.http.Run, Stop: s.http.Stop})
	parts = append(parts, s.parts...)
	if len(s.readTopics()) > 0 {
		p, err := s.consumerPart()
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return append(parts,
		s.members.part(s.http.Addr),
		s.leaving(),
	), nil
}

// leaving has /readyz fail from the beginning of the stop.
func (s *Service) leaving() lifecycle.Part {
	return lifecycle.Part{Name: "readiness", Stop: func(context.Context) error {
		s.stopping.Store(true)
		return nil
	}}
}

// awaitTopics lets relay and consumer begin once the topics are as they must be.
func (s *Service) awaitTopics(ctx context.Context) error {
	if err := s.ensureTopics(ctx, s.cfg.CreateTopics); err != nil {
		return err
	}
	close(s.topicsReady)
	return nil
}

// ensureTopics waits for Kafka and for the topics, and creates them when told to.
// Topics of another shape than configured are an error: waiting cannot mend them.
func (s *Service) ensureTopics(ctx context.Context, create bool) error {
	topics := make([]broker.Topic, 0, len(s.spec.Topics))
	for _, name := range s.topicNames() {
		topics = append(topics, broker.Topic{Name: name, Partitions: s.cfg.Partitions, ReplicationFactor: s.cfg.ReplicationFactor})
	}
	retry := func(err error) bool {
		return errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrForbidden)
	}
	return s.until(ctx, "kafka", retry, func(ctx context.Context) error {
		if create {
			if err := s.broker.EnsureTopics(ctx, topics); err != nil {
				return err
			}
		}
		return s.broker.CheckTopics(ctx, topics)
	})
}

// afterTopics runs f once the topics are there.
func (s *Service) afterTopics(f func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-s.topicsReady:
			return f(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// relayPart publishes until it is told to stop, and then what is committed by
// then: the parts that write have stopped before it.
func (s *Service) relayPart() (lifecycle.Part, error) {
	var err error
	if s.bell, err = postgres.OpenBell(s.relayPool(), "outbox"); err != nil {
		return lifecycle.Part{}, err
	}
	r, err := relay.New(relay.Config{
		DB: s.relayDB, Publisher: s.broker, Wake: s.outbox.Wake(), Bell: s.bell, Partitions: s.cfg.Partitions, Topics: s.topicNames(),
		Retention: s.cfg.Retention, Logger: s.logger, Metrics: s.metrics, Tracer: s.tracer,
	})
	if err != nil {
		return lifecycle.Part{}, err
	}
	run := func(ctx context.Context) error {
		if err := r.Run(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := r.Flush(ctx); err != nil {
			s.logger.InfoContext(ctx, "some events wait for the next start", "error", err)
		}
		return nil
	}
	return lifecycle.Part{Name: "relay", Run: s.afterTopics(run)}, nil
}

func (s *Service) consumerPart() (lifecycle.Part, error) {
	cfg := react.ConsumerConfig{
		Service: s.group(), DB: s.db, Outbox: s.outbox, Source: s.broker, Topics: s.readTopics(),
		Partitions: s.cfg.Partitions, Reactions: s.reactions, Sources: s.sources(), Kinds: s.spec.Topics, Serial: s.serial, Pace: s.spec.Pace, Session: s.cfg.Session, Logger: s.logger, Metrics: s.metrics, Tracer: s.tracer,
	}
	if s.spec.Consumer != nil {
		s.spec.Consumer(&cfg)
	}
	c, err := react.NewConsumer(cfg)
	if err != nil {
		return lifecycle.Part{}, err
	}
	s.consumer = c
	return lifecycle.Part{Name: "consumer", Run: s.afterTopics(c.Run)}, nil
}
