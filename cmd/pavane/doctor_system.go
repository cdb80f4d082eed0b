package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/doctor"
	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/inbox"
	"pavane/shared/migrate"
	"pavane/shared/parked"
	"pavane/shared/postgres"
	"pavane/shared/relay"
	"pavane/shared/service"
)

const (
	// lateEvent is how long an event may wait for its relay before that is said.
	lateEvent = time.Minute

	// stuckAfter is how long nothing happens to an order before that is said. Its
	// deadline has come by then, unless it was made longer.
	stuckAfter = 5 * time.Minute

	// clockApart is how far a server's clock may be from this machine's before that is
	// said. Deadlines, retention and the times that people read go by the servers'.
	clockApart = 10 * time.Second

	// answerWithin is how long one part of the system may take to answer.
	answerWithin = 10 * time.Second
)

// named says whether flags name a system, or a part of one.
func (t *target) named() bool {
	return t.gateway != "" || len(t.kafka) > 0 || t.databasesKnown()
}

// examine looks at those parts of the target that are known.
func (t *target) examine(ctx context.Context) (found []doctor.Finding) {
	if t.gateway != "" {
		found = append(found, t.examineGateway(ctx)...)
	}
	if len(t.kafka) > 0 {
		found = append(found, t.examineKafka(ctx))
	}
	if t.databasesKnown() {
		found = append(found, examineDatabases(ctx, t.places())...)
		found = append(found, examineSagas(ctx, t.places()))
	}
	return found
}

// examineGateway asks the gateway which instances it knows.
func (t *target) examineGateway(ctx context.Context) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	a, err := t.client().Do(ctx, http.MethodGet, "/v1/members", nil)
	if err != nil {
		return []doctor.Finding{doctor.Bad("gateway", "%v; look at its log", err)}
	}
	var known struct {
		Members []struct{ Service, Addr string }
	}
	if a.Status != http.StatusOK {
		return []doctor.Finding{doctor.Bad("gateway", "GET /v1/members: %s", a.Text())}
	}
	if err := json.Unmarshal(a.Body, &known); err != nil {
		return []doctor.Finding{doctor.Bad("gateway", "%s answers what is not of Pavane: %v; see --gateway", t.gateway, err)}
	}
	found := []doctor.Finding{doctor.Fine("gateway", "answers at %s", t.gateway)}
	for _, db := range stack.Databases() {
		var at []string
		for _, m := range known.Members {
			if m.Service == db.Service {
				at = append(at, m.Addr)
			}
		}
		if len(at) == 0 {
			found = append(found, doctor.Bad(db.Service, "the gateway knows no instance that is ready: see its log, and its /readyz?verbose"))
			continue
		}
		found = append(found, doctor.Fine(db.Service, "is ready at %s", strings.Join(at, ", ")))
	}
	return found
}

// examineKafka looks at the topics, which must all have the partitions of one.
func (t *target) examineKafka(ctx context.Context) doctor.Finding {
	client, err := broker.Dial(t.security.Secure(broker.Config{Brokers: t.kafka, ClientID: "pavane-tool"}))
	if err != nil {
		return doctor.Bad("Kafka", "%v", err)
	}
	defer client.Close()
	first := t.namespace + contract.Topics()["order"]
	ranges, err := client.Offsets(ctx, first)
	if err != nil && !errors.Is(err, broker.ErrUnavailable) { // else CheckTopics says it of each topic
		return doctor.Bad("Kafka", "%v", err)
	}
	n := len(ranges[first])
	var topics []broker.Topic
	for _, name := range slices.Sorted(maps.Values(contract.Topics())) {
		topics = append(topics, broker.Topic{Name: t.namespace + name, Partitions: max(n, 1)})
	}
	if err := client.CheckTopics(ctx, topics); err != nil {
		return doctor.Bad("Kafka", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return doctor.Fine("Kafka", "%d topics with %d partitions each at %s", len(topics), n, strings.Join(t.kafka, ","))
}

// examineDatabases has each database say what holds its service up.
func examineDatabases(ctx context.Context, all []place) (found []doctor.Finding) {
	looked := perDatabase(ctx, all, func(ctx context.Context, service string, db *postgres.DB) error {
		f, err := examineDatabase(ctx, service, db)
		found = append(found, f...)
		return err
	})
	failed, err := unread(looked)
	for _, f := range failed {
		found = append(found, doctor.Bad(subjectOf(f.service), "%v", f.err))
	}
	if err != nil {
		found = append(found, doctor.Bad("databases", "%v", err))
	}
	return found
}

// examineSagas counts the orders that stand still. A database that cannot be read
// has been named before.
func examineSagas(ctx context.Context, all []place) doctor.Finding {
	open, _ := loadOpen(ctx, all, "")
	still := slices.DeleteFunc(slices.Clone(open), func(o openSaga) bool { return o.Still < stuckAfter.Seconds() })
	if len(still) > 0 {
		return doctor.Bad("sagas", "%d of %d that are open stand still: pavane saga list --older %s says for whom each waits", len(still), len(open), stuckAfter)
	}
	return doctor.Fine("sagas", "%d are open, none stands still", len(open))
}

func subjectOf(service string) string { return strings.TrimSuffix(service, "-svc") + "'s data" }

func migrationsOf(name string) []migrate.Set {
	for _, d := range stack.Databases() {
		if d.Service == name {
			return service.MigrationSets(d.Service, d.Migrations)
		}
	}
	return nil
}

// examineDatabase names one thing at a time: without its tables nothing can be
// said about what waits in them.
func examineDatabase(ctx context.Context, service string, db *postgres.DB) ([]doctor.Finding, error) {
	err := migrate.Applied(ctx, db.SQL(), migrationsOf(service)...)
	if errors.Is(err, migrate.ErrMissing) {
		return []doctor.Finding{doctor.Bad(subjectOf(service), "%v", err)}, nil
	}
	if err != nil {
		return nil, err
	}
	backlog, err := relay.LoadBacklog(ctx, db)
	if err != nil {
		return nil, err
	}
	groups, err := parked.ByCause(ctx, db, 1)
	if err != nil {
		return nil, err
	}
	version, ahead, err := askServer(ctx, db)
	if err != nil {
		return nil, err
	}
	found := clockOf(service, ahead)
	if backlog.Oldest > lateEvent {
		found = append(found, doctor.Bad(subjectOf(service), "%d events wait to be published, the oldest for %s: see that the service runs and reaches Kafka; docs/operations.md, PavaneBacklogOld",
			backlog.Rows, backlog.Oldest.Round(time.Second)))
	}
	for _, g := range groups {
		say, todo := doctor.Bad, "pavane parked list says why, docs/operations.md, PavaneKeysParked, what to do"
		if g.Cause == inbox.Retry || g.Cause == inbox.Follows {
			say, todo = doctor.Note, "they are tried again by themselves"
		}
		found = append(found, say(subjectOf(service), "%d keys are parked (%s): %s", g.Count, g.Cause, todo))
	}
	if len(found) == 0 {
		found = append(found, doctor.Fine(subjectOf(service), "%d events wait, nothing is parked; Postgres %s", backlog.Rows, version))
	}
	return found, nil
}

// clockOf finds fault with a server's clock that is far ahead of this machine's, or
// behind it.
func clockOf(service string, ahead time.Duration) []doctor.Finding {
	if ahead.Abs() <= clockApart {
		return nil
	}
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	return []doctor.Finding{doctor.Bad(subjectOf(service), "its server's clock is %s %s this machine's: deadlines and times go by it; set both by NTP",
		ahead.Abs().Round(time.Second), side)}
}

// askServer returns the version of the database's server and how far its clock is
// ahead of this machine's.
func askServer(ctx context.Context, db *postgres.DB) (version string, ahead time.Duration, err error) {
	var s struct {
		Version string    `db:"version"`
		Now     time.Time `db:"now"`
	}
	asked := time.Now()
	err = db.Get(ctx, &s, `select current_setting('server_version') as version, clock_timestamp() as now`)
	middle := asked.Add(time.Since(asked) / 2)
	return s.Version, s.Now.Sub(middle), err
}
