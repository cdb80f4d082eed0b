package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"pavane/internal/await"
	"pavane/shared/brokertest"
	"pavane/shared/contract"
)

const (
	resetOrders    = 40
	demoPartitions = 6
	offsetsToZero  = `update inbox_offset set next_offset = 0`
)

// consumers are the services that read the log.
func consumers() []string { return services()[:4] }

// testGroupsRewound sets Kafka's offsets of all groups to 0 while orders run, and
// kills the services before they can commit their own again.
func testGroupsRewound(t *testing.T, u *up) {
	gw := u.gateway()
	var work errgroup.Group
	work.SetLimit(4)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		for i := range resetOrders {
			work.Go(func() error { return fateOf(i).live(gw, fmt.Sprintf("reset-%d", i), func() {}) })
		}
	}()
	u.rewind(func() { u.killAll(consumers()) })
	<-begun
	must(t, work.Wait())
	u.awaitReady()
	u.audit()
}

// testOffsetsForgotten sets back the offsets that count, those in the services'
// own databases: every record comes again, and changes nothing.
func testOffsetsForgotten(t *testing.T, u *up) {
	u.gateway().fulfil(t, orderLimit, "before-the-offsets-are-forgotten")
	u.quiet()
	before := u.content()
	for _, name := range databases() {
		db := u.database(name)
		must(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, offsetsToZero)
			return err
		}))
	}
	u.rewind(func() {}) // a change of the group makes each member look where to begin
	await.True(t, stopLimit, "everything was read again", func() bool { return before.changed(u.content()) == "" })
	u.gateway().fulfil(t, orderLimit, "after-the-offsets-are-forgotten")
}

// rewind sets Kafka's offsets of all groups to 0, and calls then while they are.
func (u *up) rewind(then func()) {
	u.t.Helper()
	s := u.State()
	var groups, topics []string
	for _, name := range consumers() {
		groups = append(groups, s.Namespace+name)
	}
	for _, name := range contract.Topics() {
		topics = append(topics, s.Namespace+name)
	}
	brokertest.Rewind(u.t, strings.Join(s.Kafka, ","), groups, topics, demoPartitions, then)
}

// killAll kills services at the same moment and waits until they run again.
func (u *up) killAll(names []string) {
	u.t.Helper()
	old := u.State().Services
	for _, name := range names {
		must(u.t, syscall.Kill(old[name].Pid, syscall.SIGKILL))
	}
	for _, name := range names {
		await.True(u.t, stopLimit, name+" is started again", func() bool { return u.State().Services[name].Pid != old[name].Pid })
	}
}
