package parked

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/fault"
	"pavane/shared/httpapi"
	"pavane/shared/inbox"
	"pavane/shared/postgres"
)

// moveTime is how long one request goes on moving keys, countTime how long it then
// counts those that are left. Together they are less than what a caller waits.
const (
	moveTime  = 20 * time.Second
	countTime = 4 * time.Second
)

type listRequest struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"keys of each group; all are counted"`
}

type listResponse struct {
	Body struct {
		Groups []Group `json:"groups" nullable:"false"`
	}
}

type showRequest struct {
	Key   string `query:"key" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" maxLength:"10000" doc:"the key; what is no event may have an empty one"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"records of it"`
}

type showResponse struct {
	Body struct {
		Records []Record `json:"records" nullable:"false" doc:"in order"`
		Moves   []Move   `json:"moves" nullable:"false" doc:"what operators did with the key, the oldest first"`
	}
}

type redriveRequest struct {
	Body struct {
		Cause  string  `json:"cause,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" doc:"only keys that wait for this; empty: for anything"`
		Source string  `json:"source,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" doc:"only keys of this publisher; empty: of any"`
		Key    *string `json:"key,omitempty" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" maxLength:"10000" doc:"only this key; absent: all"`
		Who    string  `json:"who" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" minLength:"1" maxLength:"200" doc:"whose decision it is, for the audit trail"`
		Why    string  `json:"why" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" minLength:"1" maxLength:"1000" doc:"the reason, for the audit trail"`
	}
}

// Moved is what came of a request to move keys on.
type Moved struct {
	Keys    int `json:"keys" doc:"that were let go, each whole"`
	Records int `json:"records" doc:"of these"`
	Left    int `json:"left" doc:"keys that it cannot help: they wait for what is missing, or go on by themselves"`
	Rest    int `json:"rest" doc:"keys that there was no time for, as far as they could be counted; ask again"`
}

type redriveResponse struct{ Body Moved }

// Register serves what waits in db as GET /v1/parked and GET
// /v1/parked/records, and to operators, who know the token, POST
// /v1/parked/redrive.
func Register(s *httpapi.Server, db *postgres.DB, token string) {
	httpapi.Register(s, huma.Operation{
		OperationID: "list-parked", Method: http.MethodGet, Path: "/v1/parked", Tags: []string{"parked"},
		Summary: "List the keys that wait for somebody, by cause", Errors: []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *listRequest) (*listResponse, error) {
		groups, err := ByCause(ctx, db, in.Limit)
		out := &listResponse{}
		out.Body.Groups = groups
		return out, err
	})
	httpapi.Register(s, huma.Operation{
		OperationID: "show-parked", Method: http.MethodGet, Path: "/v1/parked/records", Tags: []string{"parked"},
		Summary: "Show the records of a key that wait, and what was done with it before", Errors: []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *showRequest) (*showResponse, error) {
		records, moves, err := Show(ctx, db, in.Key, in.Limit)
		out := &showResponse{}
		out.Body.Records, out.Body.Moves = append([]Record{}, records...), append([]Move{}, moves...)
		return out, err
	})
	httpapi.Register(s, huma.Operation{
		OperationID: "redrive-parked", Method: http.MethodPost, Path: "/v1/parked/redrive", Tags: []string{"parked"},
		Summary:     "Try parked keys again, in their order",
		Description: "For operators. Each key is one transaction, and twice is harmless.",
		Errors:      []int{http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
		Middlewares: s.ForOperators(token),
	}, func(ctx context.Context, in *redriveRequest) (*redriveResponse, error) {
		m, err := redrive(ctx, db, in)
		return &redriveResponse{Body: m}, err
	})
}

// redrive goes through the keys that are chosen until its time is over.
func redrive(ctx context.Context, db *postgres.DB, in *redriveRequest) (m Moved, err error) {
	b := in.Body
	if b.Cause != "" && !slices.Contains(Causes(), inbox.Cause(b.Cause)) {
		return m, fault.Invalid("cause %q: choose one of %v", b.Cause, Causes())
	}
	begin := time.Now()
	for k, err := range Each(ctx, db, Filter{Cause: inbox.Cause(b.Cause), Source: b.Source, Key: b.Key}) {
		if err != nil {
			return m, err
		}
		since := time.Since(begin)
		if since > moveTime+countTime {
			break
		}
		if since > moveTime || ctx.Err() != nil {
			m.Rest++
			continue
		}
		// A key that is begun is done, whether or not the caller still waits.
		n, err := k.Do(context.WithoutCancel(ctx), db, Redrive, b.Who, b.Why)
		switch {
		case fault.ClassOf(err) == fault.ClassInvalid:
			m.Left++
		case err != nil:
			return m, err
		default:
			m.Keys, m.Records = m.Keys+1, m.Records+n
		}
	}
	return m, nil
}
