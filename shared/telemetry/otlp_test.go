package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// exportOne sends one span to a collector that answers as it is told, and returns
// what was counted and logged.
func exportOne(t *testing.T, answer http.HandlerFunc) (counted map[string]int, log string) {
	t.Helper()
	s := httptest.NewServer(answer)
	defer s.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", s.URL)
	var b bytes.Buffer
	traces, reg := open(t, &b)
	_, span := traces.Provider().Tracer("test").Start(t.Context(), "work")
	span.End()
	if err := traces.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	return outcomes(t, reg), b.String()
}

func TestTraces_CollectorIsBusy_TheSpansAreSentAgain(t *testing.T) {
	var requests atomic.Int32
	counted, log := exportOne(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if requests.Load() != 2 || counted["exported"] != 1 || log != "" {
		t.Errorf("%d requests, %v, %s", requests.Load(), counted, log)
	}
}

func TestTraces_CollectorRefuses_TheSpansAreLostAndItIsSaid(t *testing.T) {
	part, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "too old"}})
	if err != nil {
		t.Fatal(err)
	}
	for want, answer := range map[string]http.HandlerFunc{
		"400 Bad Request": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"too old":         func(w http.ResponseWriter, _ *http.Request) { w.Write(part) }, //nolint:errcheck // a test
	} {
		t.Run(want, func(t *testing.T) {
			var requests atomic.Int32
			counted, log := exportOne(t, func(w http.ResponseWriter, r *http.Request) { requests.Add(1); answer(w, r) })
			if requests.Load() != 1 || counted["failed"] != 1 || !strings.Contains(log, want) {
				t.Errorf("%d requests, %v, %s", requests.Load(), counted, log)
			}
		})
	}
}

func TestTraces_HeadersAndCompression_AreThoseOfTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x-tenant=shop")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
	counted, _ := exportOne(t, func(w http.ResponseWriter, r *http.Request) {
		var in collector.ExportTraceServiceRequest
		body, err := gzip.NewReader(r.Body)
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(body); err == nil {
				err = proto.Unmarshal(b, &in)
			}
		}
		if err != nil || len(in.GetResourceSpans()) != 1 || r.URL.Path != "/v1/traces" ||
			r.Header.Get("Authorization") != "Bearer abc" || r.Header.Get("X-Tenant") != "shop" {
			http.Error(w, "not as told", http.StatusBadRequest)
		}
	})
	if counted["exported"] != 1 {
		t.Errorf("%v", counted)
	}
}
