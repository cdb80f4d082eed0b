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

func newMeters(db *postgres.DB, reg prometheus.Registerer) *meters {
	m := &meters{attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pavane_mail_attempts_total", Help: "Attempts to send a mail, by how they ended: sent, refused (the server will not take it) or failed.",
	}, []string{"outcome"})}
	for _, outcome := range []string{"sent", "refused", "failed"} {
		m.attempts.WithLabelValues(outcome)
	}
	if reg != nil {
		reg.MustRegister(m.attempts, waiting{db})
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

const waitingSQL = `select count(*) as mails, count(*) filter (where refused) as refused,
  coalesce(extract(epoch from clock_timestamp() - min(created_at) filter (where not refused)), 0)::float8 as oldest
from mails where state = 'pending'`

// waiting measures the mails that wait when somebody asks.
type waiting struct{ db *postgres.DB }

func (waiting) descriptions() (mails, refused, oldest *prometheus.Desc) {
	return prometheus.NewDesc("pavane_mails_pending", "Mails that are to be sent. Every instance shows the same.", nil, nil),
		prometheus.NewDesc("pavane_mails_refused", "Those of them that the mail server has refused for good. Every instance shows the same.", nil, nil),
		prometheus.NewDesc("pavane_mails_oldest_seconds", "Age of the oldest mail that is to be sent and was not refused; 0 without one.", nil, nil)
}

// Describe implements [prometheus.Collector].
func (w waiting) Describe(ch chan<- *prometheus.Desc) {
	mails, refused, oldest := w.descriptions()
	ch <- mails
	ch <- refused
	ch <- oldest
}

// Collect implements [prometheus.Collector]. Without the database the figures
// are left out.
func (w waiting) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var row struct {
		Mails   int64   `db:"mails"`
		Refused int64   `db:"refused"`
		Oldest  float64 `db:"oldest"`
	}
	if err := w.db.Get(ctx, &row, waitingSQL); err != nil {
		return
	}
	mails, refused, oldest := w.descriptions()
	ch <- prometheus.MustNewConstMetric(mails, prometheus.GaugeValue, float64(row.Mails))
	ch <- prometheus.MustNewConstMetric(refused, prometheus.GaugeValue, float64(row.Refused))
	ch <- prometheus.MustNewConstMetric(oldest, prometheus.GaugeValue, row.Oldest)
}
