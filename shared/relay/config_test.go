package relay_test

import (
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
	"pavane/shared/postgres"
	"pavane/shared/relay"
)

func TestNew_FieldBelow0_IsNamedWithTheRemedy(t *testing.T) {
	t.Parallel()
	sound := func() relay.Config {
		return relay.Config{DB: &postgres.DB{}, Publisher: &broker.Client{}, Partitions: 1}
	}
	if _, err := relay.New(sound()); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*relay.Config){
		"DB, Publisher and Partitions (1)":  func(c *relay.Config) { c.DB = nil },
		"Partitions (-1) are required":      func(c *relay.Config) { c.Partitions = -1 },
		"ChunkRows=-1 is below 0: choose":   func(c *relay.Config) { c.ChunkRows = -1 },
		"ChunkBytes=-1 is below 0: choose":  func(c *relay.Config) { c.ChunkBytes = -1 },
		"Pace=-1ms is below 0: choose":      func(c *relay.Config) { c.Pace = -time.Millisecond },
		"IdlePoll=-1s is below 0: choose":   func(c *relay.Config) { c.IdlePoll = -time.Second },
		"Overdue=-1s is below 0: choose":    func(c *relay.Config) { c.Overdue = -time.Second },
		"Retention=-1h0m0s is below 0: cho": func(c *relay.Config) { c.Retention = -time.Hour },
		"Maintain=-1s is below 0: choose":   func(c *relay.Config) { c.Maintain = -time.Second },
	} {
		cfg := sound()
		spoil(&cfg)
		if _, err := relay.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestNewAdmission_LimitBelow0_IsNamedWithTheRemedy(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]relay.AdmissionConfig{
		"DB is required": {},
		"Rows=-1 is below 0: choose one above it, or": {DB: &postgres.DB{}, Rows: -1},
		"Age=-1s is below 0: choose one above it, or": {DB: &postgres.DB{}, Age: -time.Second},
		"Every=-1s is below 0: choose one above it":   {DB: &postgres.DB{}, Every: -time.Second},
	} {
		if _, err := relay.NewAdmission(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
