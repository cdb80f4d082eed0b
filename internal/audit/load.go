package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"pavane/shared/broker"
	"pavane/shared/contract"
	"pavane/shared/event"
	"pavane/shared/postgres"
)

// Source says where to look.
type Source struct {
	Postgres  string            // URL of the server; each service's database is put into its path
	Databases map[string]string // by service: URL of a database that is on a server of its own
	Kafka     []string          // host:port
	Security  broker.Security   // with which Kafka is spoken to
	Namespace string            // before the names of topics
	Provider  string            // URL of the card provider's simulator; empty: its ledger is not looked at

	// AtOnce is how many orders are looked at at a time, each in about 5 KB of memory;
	// 0 means 100,000. Everything is read once for each such part.
	AtOnce int

	Progress func(format string, args ...any) // told now and then; nil: nobody
}

const (
	readBuffer       = 256 << 10
	statementTimeout = 2 * time.Minute
	fetchBytes       = 8 << 20
	fetchWait        = 250 * time.Millisecond
	progressEvery    = 3 * time.Second
)

// part is what the loader knows of a service: which database, which topics it
// reads, and how its own tables are read.
type part struct {
	name, database string
	reads          []string // first words of the kinds
	own            func(ctx context.Context, tx *sqlx.Tx, d *Data) error
}

func parts() []part {
	return []part{
		{"order-svc", "orders", []string{"inventory", "payment"}, loadOrders},
		{"payment-svc", "payments", []string{"order", "inventory"}, loadPayments},
		{"inventory-svc", "inventory", []string{"order", "payment"}, loadInventory},
		{"notification-svc", "notifications", []string{"order", "payment"}, loadMails},
	}
}

// load reads a share of all databases, each as of one moment, and then the log.
// What it read of a running system is therefore up to a moment apart; [Data.Grace]
// tells the checks by how much.
func load(ctx context.Context, src Source, s share) (*Data, error) {
	if src.Progress == nil {
		src.Progress = func(string, ...any) {}
	}
	if s.of > 1 {
		src.Progress("part %d of %d of the orders", s.n+1, s.of)
	}
	topics := event.Topics{}
	for word, topic := range contract.Topics() {
		topics[word] = src.Namespace + topic
	}
	d := &Data{
		share: s, Bounds: map[Part]Bounds{}, Begins: map[Part]time.Time{}, Orders: map[string]Order{}, Payments: map[string]Payment{}, Charges: map[string]Charge{},
		Reservations: map[string]Reservation{}, Mails: map[string]map[string]Mail{},
	}
	begin := time.Now() // before the first read: End is rather too late than too early
	for _, p := range parts() {
		if err := loadDatabase(ctx, src, p, topics, d); err != nil {
			return nil, fmt.Errorf("audit: database %s: %w", p.database, err)
		}
	}
	if err := loadLedger(ctx, src, d); err != nil {
		return nil, fmt.Errorf("audit: provider at %s: %w", src.Provider, err)
	}
	if err := loadLog(ctx, src, topics, d); err != nil {
		return nil, fmt.Errorf("audit: log: %w", err)
	}
	d.End = d.Now.Add(time.Since(begin))
	return d, nil
}

// database is the URL of a service's database.
func (s Source) database(p part) (string, error) {
	if own := s.Databases[p.name]; own != "" {
		return own, nil
	}
	u, err := url.Parse(s.Postgres)
	if err != nil {
		return "", errors.New("URL of Postgres (not shown) cannot be read: percent-encode what is special in user and password") // err shows it
	}
	u.Path = "/" + p.database
	return u.String(), nil
}

// read has f read a service's database in one transaction.
func (s Source) read(ctx context.Context, p part, f func(ctx context.Context, tx *sqlx.Tx) error) error {
	address, err := s.database(p)
	if err != nil {
		return err
	}
	db, err := postgres.Open(postgres.Config{
		URL: address, MaxConns: 1, StatementTimeout: statementTimeout, ReadBuffer: readBuffer, Name: "pavane-audit",
	})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // it was only read
	return db.Read(ctx, f)
}

// countOrders says how many there are.
func countOrders(ctx context.Context, src Source) (n int, err error) {
	p := parts()[0]
	err = src.read(ctx, p, func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &n, `select count(*) from orders`)
	})
	if err != nil {
		return 0, fmt.Errorf("audit: database %s: count orders: %w", p.database, err)
	}
	return n, nil
}

// loadDatabase reads one service's database in one read-only snapshot.
func loadDatabase(ctx context.Context, src Source, p part, topics event.Topics, d *Data) error {
	return src.read(ctx, p, func(ctx context.Context, tx *sqlx.Tx) error {
		if d.Now.IsZero() {
			if err := tx.GetContext(ctx, &d.Now, `select clock_timestamp()`); err != nil {
				return fmt.Errorf("clock: %w", err)
			}
		}
		s := Service{Name: p.name, Source: "/" + p.name, Inbox: map[Stream]int64{}, Offsets: map[Part]int64{}}
		for _, word := range p.reads {
			s.Reads = append(s.Reads, topics[word])
		}
		if err := loadService(ctx, tx, d, &s); err != nil {
			return err
		}
		src.Progress("%s: %d events in the outbox, %d keys in the inbox", p.database, len(s.Rows), len(s.Inbox))
		d.Services = append(d.Services, s)
		return p.own(ctx, tx, d)
	})
}

// loadLog reads every topic from its first record to its end.
func loadLog(ctx context.Context, src Source, topics event.Topics, d *Data) error {
	c, err := broker.Dial(src.Security.Secure(broker.Config{Brokers: src.Kafka, ClientID: "pavane-audit"}))
	if err != nil {
		return err
	}
	defer c.Close()
	begin := time.Now()
	for _, word := range []string{"order", "payment", "inventory"} {
		ranges, err := c.Offsets(ctx, topics[word])
		if err != nil {
			return err
		}
		d.Partitions = len(ranges[topics[word]])
		for i, r := range ranges[topics[word]] {
			p := Part{topics[word], int32(i)}
			d.Bounds[p] = Bounds{r.First, r.End}
			if err := loadPartition(ctx, c, p, d); err != nil {
				return err
			}
			if time.Since(begin) > progressEvery {
				begin = time.Now()
				src.Progress("log: %d records so far", len(d.Log))
			}
		}
	}
	d.dropInjected()
	src.Progress("log: %d records", len(d.Log))
	return nil
}

func loadPartition(ctx context.Context, c *broker.Client, p Part, d *Data) error {
	at := broker.Position{Topic: p.Topic, Partition: p.Partition, Offset: d.Bounds[p].First}
	for at.Offset < d.Bounds[p].End {
		f, err := c.Fetch(ctx, []broker.Position{at}, fetchWait, fetchBytes)
		if err != nil {
			return err
		}
		for _, r := range f.Records {
			switch {
			case r.Offset >= d.Bounds[p].End:
			case Injected(r.Headers):
				d.setAside(r)
			default:
				d.take(p, r)
			}
		}
		if len(f.Next) != 1 || (f.Next[0].Offset == at.Offset && ctx.Err() != nil) {
			return fmt.Errorf("%s: reading on: %w", at, ctx.Err())
		}
		at = f.Next[0]
	}
	return nil
}

// take takes in a record of its share, and of any when it is the first event of the
// partition.
func (d *Data) take(p Part, r broker.Record) {
	_, begun := d.Begins[p]
	ours := d.share.has(string(r.Key))
	if begun && !ours {
		return
	}
	record := recordOf(r)
	if !begun && record.Fault == "" {
		d.Begins[p] = record.Time
	}
	if ours {
		d.Log = append(d.Log, record)
	}
}

func recordOf(r broker.Record) Record {
	out := Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time}
	e, err := event.Decode(r.Key, r.Headers, r.Value)
	if err != nil {
		out.Fault = fmt.Sprintf("the record with key %q is no event: %v", r.Key, err)
		return out
	}
	out.Stream, out.Sequence, out.EventID, out.Kind = Stream{strings.Clone(e.Source), strings.Clone(e.Key)}, e.Sequence, e.ID, e.Kind
	out.Sum = sum(event.AppendHeaders(nil, r.Headers), r.Value)
	out.Time = e.Time
	return out
}

func sum(headers, payload []byte) Sum {
	h := sha256.New()
	h.Write(headers)
	h.Write(payload)
	return Sum(h.Sum(nil)[:len(Sum{})])
}
