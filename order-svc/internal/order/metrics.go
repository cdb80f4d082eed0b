package order

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/postgres"
)

// overdueSQL counts deadlines that should have been fired some rounds ago.
const overdueSQL = `select count(*) from deadlines where due_at < clock_timestamp() - interval '5 seconds'`

// overdue measures the deadlines when somebody asks.
type overdue struct{ db *postgres.DB }

// Overdue is a collector of how many orders are past their deadline, by 5 s or
// more, and not decided. Every instance shows the same.
func (s *Service) Overdue() prometheus.Collector { return overdue{s.db} }

func (overdue) description() *prometheus.Desc {
	return prometheus.NewDesc("pavane_order_deadlines_overdue", "Undecided orders that are past their deadline by 5 s or more. Every instance shows the same.", nil, nil)
}

// Describe implements [prometheus.Collector].
func (o overdue) Describe(ch chan<- *prometheus.Desc) { ch <- o.description() }

// Collect implements [prometheus.Collector]. Without the database the figure is
// left out.
func (o overdue) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var n int64
	if err := o.db.Get(ctx, &n, overdueSQL); err == nil {
		ch <- prometheus.MustNewConstMetric(o.description(), prometheus.GaugeValue, float64(n))
	}
}
