package faultproxy_test

import (
	"net"
	"testing"
	"time"

	"pavane/internal/await"
)

// brief is long enough for a request on the loopback, had it passed.
const brief = 500 * time.Millisecond

func TestPart_NothingPassesOrIsEnded_UntilJoinedAgain(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	must(t, insert(t.Context(), d.pool, `insert into made values (1)`))
	d.proxy.Part()
	d.proxy.Part()
	if err := insert(t.Context(), d.pool, `insert into made values (2)`); err == nil {
		t.Error("an insert passed while parted")
	}
	fresh, err := net.Dial("tcp", d.proxy.Addr())
	must(t, err)
	defer fresh.Close()
	_, err = fresh.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // asks for TLS
	must(t, err)
	must(t, fresh.SetReadDeadline(time.Now().Add(brief)))
	if n, err := fresh.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Errorf("a new connection was answered or ended: %d bytes, %v", n, err)
	}
	if got := d.rows(t); got != 1 {
		t.Errorf("%d rows while parted, want 1", got)
	}
	d.proxy.Join()
	must(t, fresh.SetReadDeadline(time.Now().Add(wait)))
	if _, err := fresh.Read(make([]byte, 1)); err != nil {
		t.Errorf("the new connection after Join: %v", err)
	}
	must(t, insert(t.Context(), d.pool, `insert into made values (3)`))
	if got := d.rows(t); got != 2 {
		t.Errorf("%d rows after Join, want 2", got)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error) //nolint:errorlint // Read hands it out as it is
	return ok && timeout.Timeout()
}

func TestSlow_EachAnswerIsLate_UntilSetBack(t *testing.T) {
	t.Parallel()
	const late = 200 * time.Millisecond
	d := newDatabase(t)
	must(t, insert(t.Context(), d.pool, `insert into made values (1)`))
	d.proxy.Slow(late)
	begin := time.Now()
	must(t, insert(t.Context(), d.pool, `insert into made values (2)`)) // BEGIN, INSERT, COMMIT
	if took := time.Since(begin); took < 3*late {
		t.Errorf("three answers came after %s, want at least %s", took, 3*late)
	}
	d.proxy.Slow(0)
	await.True(t, 10*time.Second, "three answers come in less than that again", func() bool {
		begin = time.Now()
		must(t, insert(t.Context(), d.pool, `insert into made values (3)`))
		return time.Since(begin) < 3*late
	})
}
