package outage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"pavane/internal/await"
	"pavane/internal/demo"
	"pavane/internal/devstack"
)

const (
	diskSize = 384 << 20        // of Postgres
	fullTime = 10 * time.Second // that it is full
	fullRate = 20               // orders per second meanwhile
)

// The disk of Postgres fills up while orders are placed, and gets room again later. Who is told that an order is taken
// sees it end; everybody else is told to come again.
func TestSaga_DiskOfPostgresIsFull_WhatWasAcceptedEndsAndTheRestIsToldToComeAgain(t *testing.T) {
	needKafka(t, 1)
	disk := smallDisk(t)
	k := startKafka(t, 1)[0]
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{
		Dir: filepath.Join(disk, "postgres"), Settings: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"},
	})
	must(t, err)
	t.Cleanup(func() { p.Stop(t.Context()) }) //nolint:errcheck,usetesting // the test has said what it wanted
	for _, name := range databases() {
		must(t, p.CreateDatabase(t.Context(), name))
	}
	s := startShop(t, p.URL("postgres"), k.Addr(), "PAVANE_ORDER_DEADLINE="+longSaga)
	s.order("before", 0) //nolint:errcheck // it only has every part come up
	f := &filler{path: filepath.Join(disk, "ballast")}
	var o once
	stop := o.placing(s.gateway)
	f.fill(t)
	await.True(t, patience, "an order is turned away", func() bool { f.fill(t); return o.refusals() > 0 })
	f.hold(t, fullTime)
	must(t, os.Remove(f.path))
	ended := p.Ended()
	if ended { // a server that cannot write its log ends, and an operator starts it again
		must(t, p.Restart(t.Context()))
	}
	accepted := o.taken()
	await.True(t, patience, "orders are taken again", func() bool { return o.taken() >= accepted+fullRate })
	stop()
	for _, wrong := range o.wrong {
		t.Errorf("turned away without being told to come again: %s", wrong)
	}
	log, err := os.ReadFile(filepath.Join(s.Dir, "logs", "order-svc.log"))
	must(t, err)
	if !bytes.Contains(log, []byte("No space left on device")) {
		t.Error("the log of order-svc does not say why")
	}
	s.requireEnds(t, o.ids, drainTime)
	say(t, 1, "%d orders taken, %d turned away; the server ended by itself: %t; %s", len(o.ids), o.refused, ended, s.Audit(10*time.Second))
}

// smallDisk mounts a small file system in memory. That takes root.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(dir, 0o755))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("mounting a small disk takes root")
	}
	must(t, err)
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // Postgres runs as somebody else
		must(t, os.Chmod(d, 0o755))
	}
	return dir
}

// filler takes all room of a disk.
type filler struct{ path string }

func (f *filler) fill(t *testing.T) {
	t.Helper()
	ballast, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer ballast.Close() //nolint:errcheck // what it holds does not matter
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = ballast.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
}

// hold keeps the disk full for a while.
func (f *filler) hold(t *testing.T, length time.Duration) {
	t.Helper()
	tick, end := time.NewTicker(100*time.Millisecond), time.After(length)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.fill(t)
		case <-end:
			return
		}
	}
}

// once places orders that nobody repeats, and keeps what became of them.
type once struct {
	mu      sync.Mutex
	ids     []string
	refused int
	wrong   []string
}

func (o *once) taken() int    { o.mu.Lock(); defer o.mu.Unlock(); return len(o.ids) }
func (o *once) refusals() int { o.mu.Lock(); defer o.mu.Unlock(); return o.refused }

func (o *once) placing(g *demo.Gateway) (stop func()) {
	end, tick := make(chan struct{}), time.NewTicker(time.Second/fullRate)
	var orders sync.WaitGroup
	orders.Go(func() {
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-end:
				return
			case <-tick.C:
				orders.Go(func() { o.place(g, n) })
			}
		}
	})
	return func() { close(end); orders.Wait() }
}

func (o *once) place(g *demo.Gateway, n int) {
	a, err := g.Do(http.MethodPost, "/v1/orders", demo.Body(fmt.Sprintf("cust-%02d", 1+n%19), "mug-red"), "Idempotency-Key", fmt.Sprint("full-", n))
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && a.Status < http.StatusBadRequest:
		o.ids = append(o.ids, path.Base(a.Header.Get("Location")))
	case err == nil && a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "":
		o.refused++
	default:
		o.wrong = append(o.wrong, fmt.Sprintf("%s %v", a, err))
	}
}
