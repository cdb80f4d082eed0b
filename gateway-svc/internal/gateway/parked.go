package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

const (
	// redriveTime is how long a service may take: it stops by itself before.
	redriveTime = 30 * time.Second
	// redriveAll is how long all tries may take together: the server ends a request
	// after 60 s, answered or not.
	redriveAll = 45 * time.Second
)

// parkedKey is a key that waits in a service, told by the record that holds it
// up.
type parkedKey struct {
	Service  string    `json:"service" doc:"where it waits"`
	Source   string    `json:"source" doc:"who published its records; empty: the service itself, and Kafka refuses them"`
	Key      string    `json:"key"`
	Cause    string    `json:"cause"`
	Sequence int64     `json:"sequence" doc:"0: it is no event that belongs there"`
	Kind     string    `json:"kind"`
	Topic    string    `json:"topic"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	Records  int       `json:"records" doc:"how many wait; 0: not counted"`
	Last     int64     `json:"last_applied" doc:"the last number of the key that has had its effect there"`
}

// parkedGroup is what waits for one cause, in a service's answer and over all.
type parkedGroup struct {
	Cause  string      `json:"cause"`
	Count  int         `json:"count" doc:"of all its keys"`
	Oldest time.Time   `json:"oldest"`
	Keys   []parkedKey `json:"keys" nullable:"false" doc:"the first of them from each service"`
}

type parkedOutput struct {
	Body struct {
		Groups  []parkedGroup `json:"groups" nullable:"false" doc:"by cause"`
		Missing []Missing     `json:"missing" nullable:"false" doc:"the services that did not answer"`
	}
}

type parkedRecordsInput struct {
	Service string `path:"service" enum:"order-svc,payment-svc,inventory-svc,notification-svc"`
	Key     string `query:"key" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" maxLength:"10000" doc:"the key; what is no event may have an empty one"`
}

type parkedRecordsOutput struct {
	Body struct {
		Records []json.RawMessage `json:"records" nullable:"false" doc:"with headers and payload, in order"`
		Moves   []json.RawMessage `json:"moves" nullable:"false" doc:"what operators did with the key, the oldest first"`
	}
}

type redriveInput struct {
	Body redriveBody
}

type redriveBody struct {
	Service string  `json:"service,omitempty" enum:"order-svc,payment-svc,inventory-svc,notification-svc" doc:"only there; absent: everywhere"`
	Cause   string  `json:"cause,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" doc:"only keys that wait for this; absent: for anything"`
	Source  string  `json:"source,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" doc:"only keys of this publisher; absent: of any"`
	Key     *string `json:"key,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" maxLength:"10000" doc:"only this key; absent: all"`
	Why     string  `json:"why" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" minLength:"1" maxLength:"1000" doc:"the reason, for the audit trail"`
}

// Moved is what a service says of keys that it was asked to move.
type Moved struct {
	Keys    int `json:"keys" doc:"that were let go, each whole"`
	Records int `json:"records" doc:"of these"`
	Left    int `json:"left" doc:"keys that it cannot help: they wait for what is missing, or go on by themselves"`
	Rest    int `json:"rest" doc:"keys that there was no time for, as far as they could be counted; ask again"`
}

type redriveOutput struct {
	Body struct {
		Moved
		Missing []Missing `json:"missing" nullable:"false" doc:"the services that did not answer; asking again is harmless"`
	}
}

func (g *Gateway) registerParked(s *httpapi.Server) {
	httpapi.Register(s, g.readers(huma.Operation{
		OperationID: "list-parked", Method: http.MethodGet, Path: "/v1/parked", Summary: "List the keys that wait for somebody, by cause",
		Description: "A record that cannot be handled waits with what follows it on its key. Joins what every service holds.",
	}), g.parked)
	httpapi.Register(s, g.readers(huma.Operation{
		OperationID: "show-parked", Method: http.MethodGet, Path: "/v1/parked/{service}/records", Summary: "Show the records of a parked key",
		Errors: []int{422, 502, 503},
		Responses: map[string]*huma.Response{"431": {
			Description: "the key makes the request longer than any is read",
			Content:     map[string]*huma.MediaType{"text/plain": {}},
		}},
	}), g.parkedRecords)
	httpapi.Register(s, g.operators(huma.Operation{
		OperationID: "redrive-parked", Method: http.MethodPost, Path: "/v1/parked/redrive", MaxBodyBytes: maxBody,
		Summary:     "Try parked keys again, in their order",
		Description: "For operators: who has the scope " + identity.ScopeOperate + ", or shows the operator's token in " + httpapi.OperatorHeader + ". Each key is one transaction, and twice is harmless.",
		Errors:      []int{403, 422, 502, 503},
	}), g.redrive)
}

func (g *Gateway) parked(ctx context.Context, _ *struct{}) (*parkedOutput, error) {
	out := &parkedOutput{}
	out.Body.Groups = []parkedGroup{}
	ga := &gather{}
	for _, service := range storytellers() {
		ga.part(ctx, g.upstream, service, "/v1/parked", func(body []byte) error {
			list, err := parse[struct {
				Groups []parkedGroup `json:"groups"`
			}](service, body)
			for _, group := range list.value.Groups {
				for i := range group.Keys {
					group.Keys[i].Service = service
				}
				out.Body.Groups = joined(out.Body.Groups, group)
			}
			return err
		})
	}
	out.Body.Missing = ga.done()
	for _, group := range out.Body.Groups {
		slices.SortStableFunc(group.Keys, func(a, b parkedKey) int {
			return cmp.Or(cmp.Compare(a.Service, b.Service), a.Since.Compare(b.Since))
		})
	}
	slices.SortFunc(out.Body.Groups, func(a, b parkedGroup) int { return cmp.Compare(a.Cause, b.Cause) })
	return out, nil
}

// joined adds what waits in one service to what waits for the same in others.
func joined(groups []parkedGroup, more parkedGroup) []parkedGroup {
	i := slices.IndexFunc(groups, func(g parkedGroup) bool { return g.Cause == more.Cause })
	if i < 0 {
		return append(groups, more)
	}
	g := &groups[i]
	g.Count, g.Keys = g.Count+more.Count, append(g.Keys, more.Keys...)
	if more.Oldest.Before(g.Oldest) {
		g.Oldest = more.Oldest
	}
	return groups
}

func (g *Gateway) parkedRecords(ctx context.Context, in *parkedRecordsInput) (*parkedRecordsOutput, error) {
	res, err := g.upstream.ask(ctx, call{service: in.Service, path: "/v1/parked/records", query: url.Values{"key": {in.Key}}, repeatable: true})
	if err != nil {
		return nil, err
	}
	out := &parkedRecordsOutput{}
	if err := json.Unmarshal(res.body, &out.Body); err != nil {
		return nil, fmt.Errorf("read the parked records of %s: %w", in.Service, err)
	}
	return out, nil
}

// operatorOf is who is named in the audit trail. Of who showed the operator's
// token, that is all that is known.
func operatorOf(ctx context.Context) string {
	if p, _ := identity.From(ctx); p.Subject != "" {
		return "operator " + p.Subject + " (gateway)"
	}
	return "operator (gateway)"
}

// redrive asks the services to let go what is chosen. What one of them cannot do
// now does not keep the others from it.
func (g *Gateway) redrive(ctx context.Context, in *redriveInput) (*redriveOutput, error) {
	body, err := json.Marshal(struct {
		redriveBody
		Service string `json:"service,omitempty"` // the service does not know itself by it
		Who     string `json:"who"`
	}{redriveBody: in.Body, Who: operatorOf(ctx)})
	if err != nil {
		return nil, err
	}
	services := storytellers()
	if in.Body.Service != "" {
		services = []string{in.Body.Service}
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if g.config.Keys == nil { // a signed call says by its scope that an operator makes it
		header.Set(httpapi.OperatorHeader, g.config.OperatorToken)
	}
	out := &redriveOutput{}
	ga := &gather{}
	for _, service := range services {
		ga.whole(ctx, g.upstream, call{
			service: service, method: http.MethodPost, path: "/v1/parked/redrive", body: body, repeatable: true, try: redriveTime, all: redriveAll, header: header,
		}, func(body []byte) error {
			m, err := parse[Moved](service, body)
			o := &out.Body.Moved
			o.Keys, o.Records, o.Left, o.Rest = o.Keys+m.value.Keys, o.Records+m.value.Records, o.Left+m.value.Left, o.Rest+m.value.Rest
			return err
		})
	}
	out.Body.Missing = ga.done()
	return out, nil
}
