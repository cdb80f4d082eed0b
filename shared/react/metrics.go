package react

import "github.com/prometheus/client_golang/prometheus"

// meters are the consumer's metrics. Those whose names others rely on are
// listed in docs/operations.md.
type meters struct {
	applied, duplicates, gaps, faults, refused prometheus.Counter
	parked, halted                             prometheus.Gauge
	lag                                        *prometheus.GaugeVec
}

func newMeters(reg prometheus.Registerer) *meters {
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
		faults:     counter("pavane_inbox_faults_total", "Attempts of handlers that failed."),
		refused:    counter("pavane_inbox_refused_total", "Records parked because they are no event, or do not belong on their topic."),
		parked:     gauge("pavane_parked_keys", "Keys of this service that wait for an operator or a missing record. Every instance shows the same."),
		halted:     gauge("pavane_inbox_halted_partitions", "Partitions that cannot be read on because the log does not hold the offset."),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pavane_inbox_lag_records", Help: "Records of a partition of this instance that are not applied yet.",
		}, []string{"topic", "partition"}),
	}
	if reg != nil {
		reg.MustRegister(m.applied, m.duplicates, m.gaps, m.faults, m.refused, m.parked, m.halted, m.lag)
	}
	return m
}
