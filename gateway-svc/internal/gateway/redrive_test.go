package gateway

import (
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pavane/shared/registry"
)

// hanging carries requests to services that never answer.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestRedrive_ServiceHangs_IsAnsweredBeforeTheServerEndsTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		instances, err := registry.ParseStatic("payment-svc=10.0.0.1:1,10.0.0.2:1")
		if err != nil {
			t.Fatal(err)
		}
		g := New(Config{Registry: instances, Logger: slog.New(slog.DiscardHandler)})
		defer g.Close()
		g.upstream.client = &http.Client{Transport: hanging{}}
		in := &redriveInput{}
		in.Body.Service = "payment-svc"
		begin := time.Now()
		out, err := g.redrive(t.Context(), in)
		if err != nil || len(out.Body.Missing) != 1 {
			t.Errorf("%+v, %v; want an answer that names the service", out, err)
		}
		if took := time.Since(begin); took <= redriveTime || took > 50*time.Second { // httpapi closes the connection after 60 s
			t.Errorf("the answer took %s: want a second try, and less than 50 s", took)
		}
	})
}
