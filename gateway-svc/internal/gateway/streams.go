package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/broker"
	"pavane/shared/event"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

var orderID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)

// streamed is an event as the streams show it: a CloudEvent and its place in the
// log.
type streamed struct {
	SpecVersion   string          `json:"specversion"`
	ID            string          `json:"id"`
	Source        string          `json:"source"`
	Type          string          `json:"type"`
	Subject       string          `json:"subject" doc:"the order's id"`
	Time          time.Time       `json:"time"`
	Sequence      int64           `json:"sequence"`
	CorrelationID string          `json:"correlationid,omitempty"`
	CausationID   string          `json:"causationid,omitempty"`
	TraceParent   string          `json:"traceparent,omitempty"`
	Data          json.RawMessage `json:"data"`
	Topic         string          `json:"topic"`
	Partition     int32           `json:"partition"`
	Offset        *int64          `json:"offset" doc:"null while it is not in the log yet"`
}

// unreadable stands in for a record that is no event.
type unreadable struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
}

func (g *Gateway) registerStreams(s *httpapi.Server) {
	s.Handle("GET /v1/events", http.HandlerFunc(g.events))
	s.Handle("GET /v1/orders/{id}/events", http.HandlerFunc(g.orderEvents))
	g.describeStream(s.API(), g.secured(huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: "/v1/events", Summary: "Stream all events as they land in the log",
		Description: "Server-sent events. The event's name is its kind, its id a place in the log: a client that comes back with " +
			"Last-Event-ID misses nothing the log still holds; one that cannot set headers may say ?last-event-id=. A client that reads too slowly is dropped and told so in a comment.",
		Errors: []int{503},
	}, identity.ScopeRead))
	g.describeStream(s.API(), g.secured(huma.Operation{
		OperationID: "stream-order-events", Method: http.MethodGet, Path: "/v1/orders/{id}/events", Summary: "Stream the events of an order",
		Description: "Server-sent events: first those that have happened, then the others as they land in the log. " +
			"When all is done, an event named end closes the stream. A stream that lacks what a service has to tell ends before that: who comes back with Last-Event-ID gets it.",
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string", Pattern: orderID.String()}}},
		Errors:     []int{404, 422, 503},
	}))
}

// describeStream adds a route that huma does not serve to the OpenAPI document.
func (g *Gateway) describeStream(api huma.API, op huma.Operation) {
	schemas := api.OpenAPI().Components.Schemas
	op.Parameters = append(op.Parameters, &huma.Param{Name: "Last-Event-ID", In: "header", Schema: &huma.Schema{Type: "string"}})
	none := 0
	data := &huma.Schema{AnyOf: []*huma.Schema{
		schemas.Schema(reflect.TypeFor[streamed](), true, "Event"), schemas.Schema(reflect.TypeFor[unreadable](), true, "Unreadable"),
		{Type: huma.TypeObject, MaxProperties: &none},
	}}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "a stream of events; the data of each is an event, of one named unreadable the place of a record that is none, of one named end nothing",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: oneEvent(data)}},
	}}
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = httpapi.ProblemResponse(schemas, status)
	}
	api.OpenAPI().AddOperation(&op)
}

// oneEvent describes a server-sent event with JSON in its data, as OpenAPI 3.2
// (section "Server-Sent Event Streams") does; 3.1 does not say how.
func oneEvent(data *huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Required: []string{"event", "data"}, Properties: map[string]*huma.Schema{
		"id":    {Type: huma.TypeString, Description: "a place to come back to, for Last-Event-ID"},
		"event": {Type: huma.TypeString, Description: "the event's kind, or unreadable, or end"},
		"data":  {Type: huma.TypeString, Extensions: map[string]any{"contentMediaType": "application/json", "contentSchema": data}},
	}}
}

// events streams the log.
func (g *Gateway) events(w http.ResponseWriter, r *http.Request) {
	if p, _ := identity.From(r.Context()); !p.SeesAll() {
		httpapi.WriteProblem(w, r, http.StatusForbidden, forReaders)
		return
	}
	ctx, cancel, ok := g.streaming(w, r)
	if !ok {
		return
	}
	defer cancel()
	from, note, err := g.resume(ctx, cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("last-event-id")))
	if err != nil {
		g.config.Logger.WarnContext(ctx, "the log does not answer", "error", err)
		httpapi.WriteProblem(w, r, http.StatusServiceUnavailable, "the log does not answer now; try again later")
		return
	}
	s, err := openStream(w)
	if err == nil && note != "" {
		err = s.comment(note)
	}
	if err != nil {
		return // the client is gone
	}
	g.follow(ctx, s, from)
}

// streaming begins a stream, which ends no later than the caller's token. Without
// ok it has answered.
func (g *Gateway) streaming(w http.ResponseWriter, r *http.Request) (ctx context.Context, cancel context.CancelFunc, ok bool) {
	leave, ok := g.config.Access.Stream(w, r)
	if !ok {
		return nil, nil, false
	}
	ctx, end := httpapi.Stream(w, r)
	expire := func() {}
	if p, _ := identity.From(ctx); !p.Expires.IsZero() {
		ctx, expire = context.WithDeadline(ctx, p.Expires)
	}
	return ctx, func() {
		expire()
		end()
		leave()
	}, true
}

// refuse answers with a problem of [upstream.ask].
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, detail := http.StatusInternalServerError, ""
	var p *huma.ErrorModel
	if errors.As(err, &p) {
		status, detail = p.Status, p.Detail
	}
	httpapi.WriteProblem(w, r, status, detail)
}

// resume finds where a client that was here before left off; nil is the end of
// the log. The note tells a client whose place is gone.
func (g *Gateway) resume(ctx context.Context, cursor string) (from []broker.Position, note string, err error) {
	if cursor == "" {
		return nil, "", nil
	}
	firsts, ends, err := g.tail.bounds(ctx)
	if err != nil {
		return nil, "", err
	}
	from, err = readCursor(cursor, firsts, ends)
	if err != nil {
		return nil, "events are missing here: Last-Event-ID is not a place in this log any more; going on at its end", nil
	}
	return from, "", nil
}

// follow writes what lies between from and the end of the log, then what comes.
func (g *Gateway) follow(ctx context.Context, s *stream, from []broker.Position) {
	emit := func(rec broker.Record) error {
		i := place(from, rec)
		if i < 0 || rec.Offset < from[i].Offset {
			return nil // it was sent before
		}
		from[i].Offset = rec.Offset + 1
		kind, data := show(rec)
		return s.event(writeCursor(from), kind, data)
	}
	catchUp := func(upto []broker.Position) error {
		reached, err := g.tail.replay(ctx, slices.Clone(from), upto, emit)
		from = reached
		return err
	}
	// Far back, it is read alone, so that the short buffer of a listener has to
	// hold only what comes during the last stretch.
	if from != nil && catchUp(nil) != nil {
		return
	}
	l, at, err := g.tail.listen(ctx)
	if err != nil {
		s.comment("the log does not answer now; come back") //nolint:errcheck // the stream ends either way
		return
	}
	defer g.tail.leave(l)
	if from == nil {
		from = at
	} else if catchUp(at) != nil {
		return
	}
	g.pump(ctx, s, l, func(rec broker.Record) (bool, error) { return false, emit(rec) })
}

// pump gives a listener's records to emit until that says that it is done, the
// client leaves, or the listener is dropped.
func (g *Gateway) pump(ctx context.Context, s *stream, l *listener, emit func(broker.Record) (done bool, err error)) {
	if s.comment("live") != nil {
		return
	}
	heartbeat := time.NewTicker(g.config.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C:
			if s.comment("still here") != nil {
				return
			}
		case rec, ok := <-l.records:
			if !ok {
				s.comment("dropped: " + l.why + "; come back with Last-Event-ID") //nolint:errcheck // the stream ends either way
				return
			}
			if done, err := emit(rec); done || err != nil {
				return
			}
		}
	}
}

// show is a record as the streams show it.
func show(rec broker.Record) (kind string, data []byte) {
	e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
	if err == nil {
		data, err = json.Marshal(fromEnvelope(e, rec))
	}
	if err != nil {
		data, _ = json.Marshal(unreadable{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Reason: err.Error()})
		return "unreadable", data
	}
	return e.Kind, data
}

func fromEnvelope(e event.Envelope, rec broker.Record) streamed {
	return streamed{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Kind, Subject: e.Key, Time: e.Time.UTC(), Sequence: e.Sequence,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID, TraceParent: e.TraceParent, Data: e.Data,
		Topic: rec.Topic, Partition: rec.Partition, Offset: &rec.Offset,
	}
}

func fromStory(orderID string, e storyEvent) streamed {
	return streamed{
		SpecVersion: "1.0", ID: e.ID, Source: "/" + e.Service, Type: e.Kind, Subject: orderID, Time: e.CreatedAt.UTC(), Sequence: e.Sequence,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID, Data: e.Data,
		Topic: e.Topic, Partition: e.Partition, Offset: e.Offset,
	}
}

// seen is how far a client has an order's events: the last sequence of each
// source. Sequences are dense, so this is exact.
type seen map[string]int64

func (s seen) cursor() string {
	v := url.Values{}
	for source, sequence := range s {
		v.Set(source, strconv.FormatInt(sequence, 10))
	}
	return v.Encode()
}

func readSeen(cursor string) seen {
	s := seen{}
	v, err := url.ParseQuery(cursor)
	if err != nil {
		return s // an unknown place: all from the beginning
	}
	for source := range v {
		if n, err := strconv.ParseInt(v.Get(source), 10, 64); err == nil {
			s[source] = n
		}
	}
	return s
}

// orderStream is one client's stream of one order.
type orderStream struct {
	order string
	out   *stream
	had   seen // what the client has
	kinds map[string]bool
}

// orderEvents streams one order: its story so far, then what comes.
func (g *Gateway) orderEvents(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !orderID.MatchString(id) {
		httpapi.WriteProblem(w, r, http.StatusUnprocessableEntity, "the path holds no order id")
		return
	}
	ctx, cancel, ok := g.streaming(w, r)
	if !ok {
		return
	}
	defer cancel()
	if err := g.mayRead(ctx, id); err != nil {
		refuse(w, r, err)
		return
	}
	// Listening begins before the story is asked for, so that nothing falls in
	// between; what is in both is sent once.
	l, _, err := g.tail.listen(ctx)
	if err != nil {
		g.config.Logger.WarnContext(ctx, "the log does not answer", "error", err)
		httpapi.WriteProblem(w, r, http.StatusServiceUnavailable, "the log does not answer now; try again later")
		return
	}
	defer g.tail.leave(l)
	story := g.tell(ctx, id)
	if len(story.Events) == 0 && len(story.Missing) == 0 {
		httpapi.WriteProblem(w, r, http.StatusNotFound, "no service knows an order "+id)
		return
	}
	s, err := openStream(w)
	if err != nil {
		return
	}
	o := &orderStream{order: id, out: s, had: readSeen(r.Header.Get("Last-Event-ID")), kinds: map[string]bool{}}
	if done, err := o.begin(story); done || err != nil {
		return
	}
	if len(story.Missing) > 0 { // the log does not bring it again: the client comes back for it
		ctx, cancel = context.WithTimeout(ctx, g.config.Heartbeat)
		defer cancel()
	}
	g.pump(ctx, s, l, o.record)
}

// begin sends the story.
func (o *orderStream) begin(story Story) (done bool, err error) {
	for _, m := range story.Missing {
		if err := o.out.comment("the events of " + m.Service + " so far are missing: " + m.Reason); err != nil {
			return false, err
		}
	}
	for _, e := range story.Events {
		if err := o.send(fromStory(o.order, e)); err != nil {
			return false, err
		}
	}
	return o.end()
}

// record sends a record of the log if it is one of the order. Before one after a
// gap it ends the stream: the place of a client that had it would be behind what it
// never got.
func (o *orderStream) record(rec broker.Record) (done bool, err error) {
	if string(rec.Key) != o.order {
		return false, nil
	}
	e, err := event.Decode(rec.Key, rec.Headers, rec.Value)
	if err != nil {
		return false, o.out.comment("a record of this order cannot be read: " + err.Error())
	}
	if had := o.had[e.Source]; e.Sequence > had+1 {
		return true, o.out.comment(fmt.Sprintf("the events of %s from %d on are missing; come back with Last-Event-ID", e.Source, had+1))
	}
	if err := o.send(fromEnvelope(e, rec)); err != nil {
		return false, err
	}
	return o.end()
}

// send sends an event that the client does not have.
func (o *orderStream) send(e streamed) error {
	o.kinds[e.Type] = true
	if e.Sequence <= o.had[e.Source] {
		return nil
	}
	o.had[e.Source] = e.Sequence
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return o.out.event(o.had.cursor(), e.Type, data)
}

// end closes the stream when nothing can come any more.
func (o *orderStream) end() (bool, error) {
	if !complete(o.kinds) {
		return false, nil
	}
	return true, o.out.event(o.had.cursor(), "end", []byte("{}"))
}
