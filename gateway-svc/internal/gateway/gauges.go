package gateway

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// gaugeTime is how long an instance may take to tell its metrics.
const gaugeTime = 800 * time.Millisecond

// gauge is what an instance tells of itself, out of its /metrics.
type gauge struct {
	Service     string  `json:"service"`
	ID          string  `json:"id"`
	Backlog     float64 `json:"backlog" doc:"committed outbox rows that are not in the log yet; every instance of a service shows the same"`
	Oldest      float64 `json:"oldest_seconds" doc:"age of the oldest of them"`
	Published   float64 `json:"published_total"`
	Lag         float64 `json:"lag" doc:"records of its partitions that are not applied yet"`
	Applied     float64 `json:"applied_total"`
	Duplicates  float64 `json:"duplicates_total" doc:"records dropped because they had been applied before"`
	Gaps        float64 `json:"gaps_total" doc:"keys parked because a record before is missing; must stay 0"`
	Faults      float64 `json:"faults_total" doc:"attempts of handlers that failed"`
	Parked      float64 `json:"parked_keys" doc:"every instance of a service shows the same"`
	RelayParked float64 `json:"relay_parked_keys"`
	Halted      float64 `json:"halted_partitions"`
	Healed      float64 `json:"healed_total" doc:"partitions whose lost records were put back from the outbox"`
}

type gaugesOutput struct {
	Body struct {
		At      time.Time `json:"at"`
		Gauges  []gauge   `json:"gauges" nullable:"false" doc:"one per instance of the services with a saga"`
		Missing []Missing `json:"missing" nullable:"false" doc:"the services that did not answer, or are not there"`
	}
}

// gauges asks every instance for its metrics, because somebody wants to see them
// now. Nothing is gathered otherwise.
func (g *Gateway) gauges(ctx context.Context, _ *struct{}) (*gaugesOutput, error) {
	out := &gaugesOutput{}
	out.Body.At, out.Body.Gauges, out.Body.Missing = time.Now().UTC(), []gauge{}, []Missing{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, service := range storytellers() {
		instances := g.config.Registry.Lookup(service)
		if len(instances) == 0 {
			mu.Lock()
			out.Body.Missing = append(out.Body.Missing, Missing{Service: service, Reason: "no instance is registered"})
			mu.Unlock()
		}
		for _, i := range instances {
			wg.Go(func() {
				one, err := g.gaugeOf(ctx, service, i.Addr)
				one.Service, one.ID = service, i.ID
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					out.Body.Missing = append(out.Body.Missing, Missing{Service: service, Reason: err.Error()})
					return
				}
				out.Body.Gauges = append(out.Body.Gauges, one)
			})
		}
	}
	wg.Wait()
	slices.SortFunc(out.Body.Gauges, func(a, b gauge) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(out.Body.Missing, func(a, b Missing) int { return cmp.Compare(a.Service, b.Service) })
	return out, nil
}

func (g *Gateway) gaugeOf(ctx context.Context, service, addr string) (gauge, error) {
	res, err := g.upstream.once(ctx, call{service: service, path: "/metrics", try: gaugeTime}, addr)
	if err == nil && res.status != http.StatusOK {
		err = fmt.Errorf("%s answered %d to /metrics", addr, res.status)
	}
	if err != nil {
		return gauge{}, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(res.body))
	if err != nil {
		return gauge{}, fmt.Errorf("read the metrics of %s: %w", addr, err)
	}
	of := func(name string) float64 { return sum(families[name]) }
	return gauge{
		Backlog: of("pavane_outbox_backlog"), Oldest: of("pavane_outbox_oldest_seconds"), Published: of("pavane_relay_published_total"),
		Lag: of("pavane_inbox_lag_records"), Applied: of("pavane_inbox_applied_total"), Duplicates: of("pavane_inbox_duplicates_total"),
		Gaps: of("pavane_inbox_gaps_total"), Faults: of("pavane_inbox_faults_total"), Parked: of("pavane_parked_keys"),
		RelayParked: of("pavane_relay_parked_keys"), Halted: of("pavane_inbox_halted_partitions"), Healed: of("pavane_relay_healed_total"),
	}, nil
}

// sum adds the values of all labels of a metric; 0 when there is none.
func sum(f *dto.MetricFamily) float64 {
	var total float64
	for _, m := range f.GetMetric() {
		total += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
	}
	return total
}
