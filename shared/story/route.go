package story

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/postgres"
)

type request struct {
	Key string `path:"key" minLength:"1" maxLength:"1000" doc:"Key of the events, the order id in the demo"`
}

type response struct {
	Body Story
}

// Register serves the story of a key as GET /v1/story/{key}. Partitions is the
// number of partitions of each topic. A key nobody knows has an empty story.
func Register(api huma.API, db *postgres.DB, partitions int) {
	huma.Register(api, huma.Operation{
		OperationID: "get-story", Method: http.MethodGet, Path: "/v1/story/{key}", Tags: []string{"story"},
		Summary:     "What this service knows of a key",
		Description: "Events it wrote with their way to Kafka, what it has applied of other services' events, and records that wait.",
		Errors:      []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *request) (*response, error) {
		s, err := Load(ctx, db, in.Key, partitions)
		if err != nil {
			return nil, huma.Error503ServiceUnavailable("the story cannot be read now; try again", err)
		}
		return &response{Body: s}, nil
	})
}
