package notification

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/fault"
	"pavane/shared/postgres"
)

// meters are the sender's metrics.
type meters struct{ attempts *prometheus.CounterVec }

func newMeters(db *postgres.DB, q queue, reg prometheus.Registerer) *meters {
	m := &meters{attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pavane_" + q.name + "_attempts_total",
		Help: "Attempts to send a " + q.name + ", by how they ended: sent, refused (the receiver will not take it) or failed.",
	}, []string{"outcome"})}
	for _, outcome := range []string{"sent", "refused", "failed"} {
		m.attempts.WithLabelValues(outcome)
	}
	if reg != nil {
		reg.MustRegister(m.attempts, waiting{db, q})
	}
	return m
}

func (m *meters) tried(err error) {
	outcome := "sent"
	switch {
	case fault.ClassOf(err) == fault.ClassPermanent:
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	}
	m.attempts.WithLabelValues(outcome).Inc()
}

const waitingSQL = `select count(*) as pending, count(*) filter (where refused) as refused,
  coalesce(extract(epoch from clock_timestamp() - min(created_at) filter (where not refused)), 0)::float8 as oldest
from {table} where state = 'pending'`

// waiting measures the messages that wait when somebody asks.
type waiting struct {
	db    *postgres.DB
	queue queue
}

func (w waiting) descriptions() (pending, refused, oldest *prometheus.Desc) {
	name, prefix := w.queue.name, "pavane_"+w.queue.table
	return prometheus.NewDesc(prefix+"_pending", "Each "+name+" that is to be sent. Every instance shows the same.", nil, nil),
		prometheus.NewDesc(prefix+"_refused", "Each "+name+" of them that the receiver has refused for good. Every instance shows the same.", nil, nil),
		prometheus.NewDesc(prefix+"_oldest_seconds", "Age of the oldest "+name+" that is to be sent and was not refused; 0 without one.", nil, nil)
}

// Describe implements [prometheus.Collector].
func (w waiting) Describe(ch chan<- *prometheus.Desc) {
	pending, refused, oldest := w.descriptions()
	ch <- pending
	ch <- refused
	ch <- oldest
}

// Collect implements [prometheus.Collector]. Without the database the figures
// are left out.
func (w waiting) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var row struct {
		Pending int64   `db:"pending"`
		Refused int64   `db:"refused"`
		Oldest  float64 `db:"oldest"`
	}
	if err := w.db.Get(ctx, &row, w.queue.sql(waitingSQL)); err != nil {
		return
	}
	pending, refused, oldest := w.descriptions()
	ch <- prometheus.MustNewConstMetric(pending, prometheus.GaugeValue, float64(row.Pending))
	ch <- prometheus.MustNewConstMetric(refused, prometheus.GaugeValue, float64(row.Refused))
	ch <- prometheus.MustNewConstMetric(oldest, prometheus.GaugeValue, row.Oldest)
}
