package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"pavane/shared/event"
	"pavane/shared/fault"
)

// chapter is what one service knows of an order (GET /v1/story/{key}).
type chapter struct {
	Written []storyEvent   `json:"written"`
	Applied []storyApplied `json:"applied"`
	Parked  []storyParked  `json:"parked"`

	KeptSince *time.Time `json:"kept_since"`
}

// storyEvent is one event of the order, as its publisher holds it.
type storyEvent struct {
	Service       string          `json:"service" doc:"who published it"`
	ID            string          `json:"id"`
	Kind          string          `json:"kind"`
	Sequence      int64           `json:"sequence" doc:"its place among the service's events of the order"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	CausationID   string          `json:"causation_id,omitempty" doc:"the event whose handling led to it; empty at the start"`
	TraceParent   string          `json:"traceparent,omitempty" doc:"W3C trace context of the request or event behind it"`
	CreatedAt     time.Time       `json:"created_at" doc:"when it was committed, by the clock of its database"`
	PlannedAt     *time.Time      `json:"planned_at,omitempty" doc:"when the relay took it up"`
	AckedAt       *time.Time      `json:"acked_at,omitempty" doc:"when Kafka had it; absent until then"`
	Topic         string          `json:"topic"`
	Partition     int32           `json:"partition"`
	Offset        *int64          `json:"offset,omitempty"`
	Data          json.RawMessage `json:"data"`
}

// storyApplied says how far a service has applied another's events.
type storyApplied struct {
	Service      string    `json:"service" doc:"who applied"`
	Source       string    `json:"source" doc:"whose events"`
	LastSequence int64     `json:"last_sequence"`
	AppliedAt    time.Time `json:"applied_at" doc:"of the last one"`
}

// storyParked is an event that waits in a service's parking lot.
type storyParked struct {
	Service   string    `json:"service" doc:"who parked it"`
	Source    string    `json:"source" doc:"who published it"`
	Sequence  int64     `json:"sequence"`
	Kind      string    `json:"kind"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Cause     string    `json:"cause"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	ParkedAt  time.Time `json:"parked_at"`
}

// Story is an order's story over all services.
type Story struct {
	OrderID string         `json:"order_id"`
	Events  []storyEvent   `json:"events" nullable:"false" doc:"each after the one that caused it"`
	Applied []storyApplied `json:"applied" nullable:"false"`
	Parked  []storyParked  `json:"parked" nullable:"false"`
	Missing []Missing      `json:"missing" nullable:"false" doc:"the services that did not answer"`

	KeptSince *time.Time `json:"kept_since,omitempty" doc:"events from before may be missing: a service's outbox keeps them no longer"`
}

type storyOutput struct{ Body Story }

func (g *Gateway) story(ctx context.Context, in *orderInput) (*storyOutput, error) {
	if err := g.mayRead(ctx, in.ID); err != nil {
		return nil, err
	}
	s := g.tell(ctx, in.ID)
	if len(s.Events)+len(s.Applied)+len(s.Parked)+len(s.Missing) == 0 {
		return nil, fault.NotFound("no service knows an order %s", in.ID)
	}
	return &storyOutput{Body: s}, nil
}

// tell asks every service for its chapter and joins them.
func (g *Gateway) tell(ctx context.Context, id string) Story {
	s := Story{OrderID: id, Applied: []storyApplied{}, Parked: []storyParked{}}
	var events []storyEvent
	ga := &gather{}
	for _, service := range storytellers() {
		ga.part(ctx, g.upstream, service, "/v1/story/"+id, func(body []byte) error {
			c, err := parse[chapter](service, body)
			if err != nil {
				return err
			}
			if since := c.value.KeptSince; since != nil && (s.KeptSince == nil || since.After(*s.KeptSince)) {
				s.KeptSince = since
			}
			for _, e := range c.value.Written {
				e.Service = service
				events = append(events, e)
			}
			for _, a := range c.value.Applied {
				a.Service = service
				s.Applied = append(s.Applied, a)
			}
			for _, p := range c.value.Parked {
				p.Service = service
				s.Parked = append(s.Parked, p)
			}
			return nil
		})
	}
	s.Missing = ga.done()
	s.Events = event.InOrder(events, storyEvent.position)
	slices.SortFunc(s.Applied, func(a, b storyApplied) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Source, b.Source))
	})
	slices.SortFunc(s.Parked, func(a, b storyParked) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Sequence, b.Sequence))
	})
	return s
}

func (e storyEvent) position() event.Position {
	return event.Position{Service: e.Service, Sequence: e.Sequence, ID: e.ID, CausationID: e.CausationID, CreatedAt: e.CreatedAt}
}
