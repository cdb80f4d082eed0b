package faultproxy_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"pavane/internal/await"
	"pavane/internal/faultproxy"
	"pavane/shared/broker"
	"pavane/shared/brokertest"
	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

const (
	wait    = 30 * time.Second
	timeout = 2 * time.Second // of the clients, for what is never answered
	delay   = time.Second
)

func start(t *testing.T, protocol faultproxy.Protocol, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(faultproxy.Config{Protocol: protocol, Target: target})
	must(t, err)
	t.Cleanup(p.Close)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func awaitStrike(t *testing.T, s *faultproxy.Strike) {
	t.Helper()
	select {
	case <-s.Struck():
	case <-time.After(wait):
		t.Fatalf("%s did not strike within %s", s, wait)
	}
}

// release hands over what is held back, and waits for all others to strike.
func release(t *testing.T, p *faultproxy.Proxy, s *faultproxy.Strike, fault faultproxy.Fault) {
	t.Helper()
	if fault == faultproxy.Late {
		p.Disarm(s)
	} else {
		awaitStrike(t, s)
	}
}

// database is a pool through a proxy, and one that goes past it.
type database struct {
	proxy        *faultproxy.Proxy
	pool, direct *postgres.DB
}

func newDatabase(t *testing.T) *database { t.Helper(); return newDatabaseFor(t, timeout) }

// newDatabaseFor has a client that is so patient, and a server that is more so.
func newDatabaseFor(t *testing.T, patience time.Duration) *database {
	t.Helper()
	direct := pgtest.URL(t)
	u, err := url.Parse(direct)
	must(t, err)
	d := &database{proxy: start(t, faultproxy.Postgres, u.Host), direct: pgtest.Open(t, direct)}
	u.Host = d.proxy.Addr()
	q := u.Query()
	q.Set("idle_in_transaction_session_timeout", wait.String())
	u.RawQuery = q.Encode()
	d.pool, err = postgres.Open(postgres.Config{URL: u.String(), MaxConns: 2, NetworkTimeout: patience})
	must(t, err)
	t.Cleanup(func() { _ = d.pool.Close() })
	must(t, insert(t.Context(), d.direct, `create table made (n int)`))
	return d
}

func insert(ctx context.Context, db *postgres.DB, statement string, args ...any) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

func (d *database) rows(t *testing.T) (n int) {
	t.Helper()
	must(t, d.direct.Get(t.Context(), &n, `select count(*) from made`))
	return n
}

func TestPostgres_FaultAtCommit_ServerHasCommittedOrNot(t *testing.T) {
	t.Parallel()
	for fault, c := range map[faultproxy.Fault]struct{ rows, later int }{
		faultproxy.Drop:      {1, 1},
		faultproxy.Cut:       {1, 1},
		faultproxy.CutBefore: {0, 0},
		faultproxy.Delay:     {1, 1},
		faultproxy.Late:      {0, 1},
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			cut, patience := fault == faultproxy.Cut || fault == faultproxy.CutBefore, timeout
			if cut {
				patience = wait // it is told at once
			}
			d := newDatabaseFor(t, patience)
			s := d.proxy.Arm("COMMIT", 1, fault, time.Hour)
			err := insert(t.Context(), d.pool, `insert into made values ($1)`, 1)
			if !errors.Is(err, postgres.ErrCommitUnknown) {
				t.Fatalf("got %v; want the commit's outcome to be unknown", err)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) == cut {
				t.Errorf("the client got %v; it was cut off: %t", err, cut)
			}
			if got := d.rows(t); got != c.rows {
				t.Errorf("%d rows when the client has given up, want %d", got, c.rows)
			}
			release(t, d.proxy, s, fault)
			await.True(t, wait, "what the server has made of it", func() bool { return d.rows(t) == c.later })
			must(t, insert(t.Context(), d.pool, `insert into made values ($1)`, 2))
		})
	}
}

func TestPostgres_Delay_AnswerComesLateAndWhole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.proxy.Arm("SELECT", 1, faultproxy.Delay, delay/4)
	began := time.Now()
	var list []int
	must(t, d.pool.Select(t.Context(), &list, `select n from generate_series(1, $1::int) n`, 1000))
	awaitStrike(t, s)
	if took := time.Since(began); len(list) != 1000 || took < delay/4 {
		t.Errorf("%d rows after %s; want 1000 after %s", len(list), took, delay/4)
	}
}

func TestPostgres_FaultAtConnect_StrikesAlthoughTheClientIsAskedForItsPassword(t *testing.T) {
	t.Parallel()
	for _, fault := range faultproxy.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			s := d.proxy.Arm("CONNECT", 1, fault, delay)
			_ = insert(t.Context(), d.pool, `insert into made values ($1)`, 1) // may fail or wait
			awaitStrike(t, s)
			must(t, insert(t.Context(), d.pool, `insert into made values ($1)`, 2))
		})
	}
}

func TestPostgres_PreparedStatements_AreKnownByTheirText(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.pool.SQL().SetMaxOpenConns(1)
	for n := range 3 {
		must(t, insert(t.Context(), d.pool, `-- a comment
 insert into made values ($1)`, n))
	}
	want := map[string]int{"CONNECT": 1, "BEGIN": 3, "PREPARE": 1, "INSERT": 3, "COMMIT": 3}
	seen := d.proxy.Seen()
	for kind, n := range want {
		if seen[kind] != n {
			t.Errorf("%d requests of kind %s, want %d; all: %v", seen[kind], kind, n, seen)
		}
	}
}

func TestPostgres_KthRequestOfItsKind_IsStruckAndNoOther(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.proxy.Arm("INSERT", 3, faultproxy.Cut, delay)
	for n := 1; n <= 5; n++ {
		if err := insert(t.Context(), d.pool, `insert into made values ($1)`, n); (err != nil) != (n == 3) {
			t.Fatalf("insert %d: %v", n, err)
		}
	}
	awaitStrike(t, s)
	if got := d.rows(t); got != 4 {
		t.Errorf("%d rows, want 4", got)
	}
}

func TestArm_AnswerNeverCame_StrikesTheNextRequest(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.proxy.Arm("SELECT", 1, faultproxy.Drop, delay)
	gone := make(chan error, 1)
	go func() { gone <- insert(t.Context(), d.pool, `select pg_sleep(20)`) }() // in a transaction: a pool sends nothing of one again
	await.True(t, wait, "the statement's session is ended", func() (ended bool) {
		must(t, d.direct.Get(t.Context(), &ended, `select count(pg_terminate_backend(pid)) = 1 from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active'`))
		return ended
	})
	if err := <-gone; err == nil {
		t.Fatal("a statement of an ended session succeeded")
	}
	if struck(s) {
		t.Fatal("it struck an answer that never came")
	}
	await.True(t, wait, "it strikes the next one", func() bool {
		_, _ = d.pool.SQL().ExecContext(t.Context(), `select 1`) // the proxy may notice the end later than the client
		return struck(s)
	})
}

func struck(s *faultproxy.Strike) bool {
	select {
	case <-s.Struck():
		return true
	default:
		return false
	}
}

func TestDisarm_NothingStrikes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.proxy.Arm("COMMIT", 1, faultproxy.Cut, delay)
	d.proxy.Disarm(s)
	must(t, insert(t.Context(), d.pool, `insert into made values (1)`))
}

func TestPostgres_ClientAsksForTLS_IsToldThatThereIsNone(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	u, err := url.Parse(pgtest.URL(t))
	must(t, err)
	u.Host = d.proxy.Addr()
	q := u.Query()
	q.Set("sslmode", "require")
	u.RawQuery = q.Encode()
	db, err := postgres.Open(postgres.Config{URL: u.String()})
	must(t, err)
	defer db.Close() //nolint:errcheck // it was never connected
	if err := db.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "SSL is not enabled") {
		t.Errorf("got %v; want the client's refusal to go on without TLS", err)
	}
}

// log is a topic and a client that reaches it through a proxy only.
type log struct {
	proxy          *faultproxy.Proxy
	client, direct *broker.Client
	topic          string
}

func newLog(t *testing.T) *log {
	t.Helper()
	addr := brokertest.Start(t)
	first, _, _ := strings.Cut(addr, ",")
	l := &log{proxy: start(t, faultproxy.Kafka, first), topic: brokertest.Topic(t, addr, 1)}
	l.client, l.direct = dial(t, l.proxy.Addr()), dial(t, addr)
	return l
}

func dial(t *testing.T, addr string) *broker.Client {
	t.Helper()
	c, err := broker.Dial(broker.Config{Brokers: strings.Split(addr, ","), Timeout: timeout})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func (l *log) batch(p broker.Producer, first int32) []*broker.Batch {
	b := new(broker.Batch)
	b.Reset(l.topic, 0)
	b.Add(1, []byte("key"), []byte("value"), nil)
	b.Seal(p, first)
	return []*broker.Batch{b}
}

func (l *log) records(t *testing.T) int {
	t.Helper()
	all, err := l.direct.Offsets(t.Context(), l.topic)
	if err != nil {
		return -1
	}
	return int(all[l.topic][0].End)
}

func TestKafka_FaultAtProduce_RecordIsInTheLogOrNot(t *testing.T) {
	t.Parallel()
	for fault, c := range map[faultproxy.Fault]struct{ records, later int }{
		faultproxy.Drop:      {2, 2},
		faultproxy.Cut:       {2, 2},
		faultproxy.CutBefore: {1, 1},
		faultproxy.Delay:     {2, 2},
		faultproxy.Late:      {1, 2},
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			l := newLog(t)
			var p broker.Producer
			await.True(t, wait, "a producer id", func() (ok bool) {
				var err error
				p, err = l.client.InitProducer(t.Context())
				return err == nil
			})
			await.True(t, wait, "a first record", func() bool { return l.client.Produce(t.Context(), l.batch(p, 0))[0].Err == nil })
			s := l.proxy.Arm("Produce", 1, fault, time.Hour)
			if r := l.client.Produce(t.Context(), l.batch(p, 1))[0]; !errors.Is(r.Err, broker.ErrUnavailable) {
				t.Fatalf("got %+v; want the outcome to be open", r)
			}
			if got := l.records(t); got != c.records {
				t.Errorf("%d records when the client has given up, want %d", got, c.records)
			}
			release(t, l.proxy, s, fault)
			await.True(t, wait, "what the server has made of it", func() bool { return l.records(t) == c.later })
			await.True(t, wait, "the batch sent again", func() bool { return l.client.Produce(t.Context(), l.batch(p, 1))[0].Err == nil })
			if got := l.records(t); got != 2 {
				t.Errorf("%d records at the end, want 2", got)
			}
		})
	}
}

func TestKafka_GroupRequests_ComeThisWay(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	must(t, l.client.Group(ctx, broker.GroupConfig{ID: "g-" + l.topic, Topics: []string{l.topic}}, func(_ context.Context, a *broker.Assignment) error {
		defer cancel()
		return a.Commit(map[string]map[int]int64{l.topic: {0: 0}})
	}))
	seen := l.proxy.Seen()
	for _, kind := range []string{"Metadata", "FindCoordinator", "JoinGroup", "SyncGroup", "OffsetFetch", "OffsetCommit"} {
		if seen[kind] == 0 {
			t.Errorf("no %s came this way; seen: %v", kind, seen)
		}
	}
}

func TestKafka_SeveralBrokers_NobodyGoesPastTheProxy(t *testing.T) {
	t.Parallel()
	const brokers = 3
	cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.SeedTopics(brokers, "t"))
	must(t, err)
	t.Cleanup(cluster.Close)
	for p := range int32(brokers) {
		must(t, cluster.MoveTopicPartition("t", p, p))
	}
	proxy := start(t, faultproxy.Kafka, cluster.ListenAddrs()[1])
	c := dial(t, proxy.Addr())
	var p broker.Producer
	await.True(t, wait, "a producer id", func() bool {
		p, err = c.InitProducer(t.Context())
		return err == nil
	})
	var batches []*broker.Batch
	for n := range int32(brokers) {
		b := new(broker.Batch)
		b.Reset("t", n)
		b.Add(1, []byte("key"), []byte("value"), nil)
		b.Seal(p, 0)
		batches = append(batches, b)
	}
	written := func() bool {
		return !slices.ContainsFunc(c.Produce(t.Context(), batches), func(r broker.Result) bool { return r.Err != nil })
	}
	await.True(t, wait, "a record at each broker", written)
	if got := proxy.Seen()["Produce"]; got < brokers {
		t.Errorf("%d requests came this way, want one for each of %d brokers", got, brokers)
	}
	proxy.Close()
	for _, r := range c.Produce(t.Context(), batches) {
		if r.Err == nil {
			t.Error("a broker was reached when the proxy was closed")
		}
	}
}

func TestKafka_ReachedByAName_AllAddressesBearIt(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	must(t, err)
	t.Cleanup(cluster.Close)
	for p := range int32(2) {
		must(t, cluster.MoveTopicPartition("t", p, p))
	}
	proxy, err := faultproxy.Start(faultproxy.Config{Protocol: faultproxy.Kafka, Target: cluster.ListenAddrs()[0], Listen: "0.0.0.0:0", Host: "localhost"})
	must(t, err)
	t.Cleanup(proxy.Close)
	if !strings.HasPrefix(proxy.Addr(), "localhost:") {
		t.Errorf("it is reached at %s", proxy.Addr())
	}
	conn, err := kgo.NewClient(kgo.SeedBrokers(proxy.Addr()))
	must(t, err)
	defer conn.Close()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), conn)
	must(t, err)
	if len(meta.Brokers) != 2 || slices.ContainsFunc(meta.Brokers, func(b kmsg.MetadataResponseBroker) bool { return b.Host != "localhost" }) {
		t.Errorf("brokers are told at %+v, want both at localhost", meta.Brokers)
	}
}

func TestClose_ConnectionsHeldAndSilent_EndsThemAll(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.proxy.Arm("COMMIT", 1, faultproxy.Late, time.Hour)
	if err := insert(t.Context(), d.pool, `insert into made values (1)`); err == nil {
		t.Fatal("a commit that is held back succeeded")
	}
	d.proxy.Close()
	if struck(s) {
		t.Error("what was held back was handed over by Close")
	}
	if err := d.pool.Ping(t.Context()); err == nil {
		t.Error("a closed proxy serves")
	}
}

func TestStart_WrongConfig_IsNamed(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]faultproxy.Config{
		"protocol": {Protocol: "http", Target: "127.0.0.1:1"},
		"target":   {Protocol: faultproxy.Kafka, Target: "somewhere"},
		"listen":   {Protocol: faultproxy.Kafka, Target: "127.0.0.1:1", Listen: "here"},
	} {
		if _, err := faultproxy.Start(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v; want an error about the %s", cfg, err, want)
		}
	}
}

func TestStart_ServerAway_ClientIsRefused(t *testing.T) {
	t.Parallel()
	p := start(t, faultproxy.Postgres, "127.0.0.1:1")
	db, err := postgres.Open(postgres.Config{URL: "postgres://u@" + p.Addr() + "/d?sslmode=disable"})
	must(t, err)
	defer db.Close() //nolint:errcheck // it was never connected
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a server that is away answered")
	}
}
