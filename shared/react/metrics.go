package react

import (
	"github.com/prometheus/client_golang/prometheus"

	"pavane/shared/inbox"
)

// meters are the consumer's metrics. Those whose names others rely on are
// listed in docs/observability.md.
type meters struct {
	applied, duplicates, gaps, lateStarts, faults, refused prometheus.Counter
	halted                                                 prometheus.Gauge
	lag, parked                                            *prometheus.GaugeVec
}

func newMeters(reg prometheus.Registerer, ready, lagSeconds func() float64) *meters {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &meters{
		applied:    counter("pavane_inbox_applied_total", "Records whose effect was committed, with and without a reaction."),
		duplicates: counter("pavane_inbox_duplicates_total", "Records dropped because they had been applied before."),
		gaps:       counter("pavane_inbox_gaps_total", "Keys parked because a record before the one at hand is missing. Must stay 0."),
		lateStarts: counter("pavane_inbox_late_starts_total", "Keys that begin with a number above 1, because the log had lost its first records when this service began to read."),
		faults:     counter("pavane_inbox_faults_total", "Attempts of handlers that failed."),
		refused:    counter("pavane_inbox_refused_total", "Records parked because they are no event, or do not belong on their topic."),
		halted:     gauge("pavane_inbox_halted_partitions", "Partitions that cannot be read on because the log does not hold the offset."),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pavane_inbox_lag_records", Help: "Records of a partition of this instance that are not applied yet.",
		}, []string{"topic", "partition"}),
		parked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pavane_parked_keys", Help: "Keys of this service that wait for an operator or a missing record, by cause. Every instance that has partitions shows the same.",
		}, []string{"cause"}),
	}
	m.parkedBy(nil)
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pavane_inbox_ready", Help: "1 while this instance consumes; 0 while it waits for its database, its group or a log that lacks what is due.",
		}, ready))
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pavane_inbox_lag_seconds", Help: "Time since the oldest record that this instance is applying was sent; 0 while it has none at hand.",
		}, lagSeconds))
		reg.MustRegister(m.applied, m.duplicates, m.gaps, m.lateStarts, m.faults, m.refused, m.parked, m.halted, m.lag)
	}
	return m
}

// parkedBy shows how many keys wait, by cause; a cause without any is 0.
func (m *meters) parkedBy(keys map[inbox.Cause]int) {
	for _, cause := range []inbox.Cause{inbox.Fault, inbox.Missing, inbox.Undecodable, inbox.Foreign, inbox.UnknownVersion} {
		m.parked.WithLabelValues(string(cause)).Set(float64(keys[cause]))
	}
}
