package e2e_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"pavane/internal/await"
)

// The page, the stories and the streams are composed by the gateway when somebody
// looks. With the gateway stopped in mid-saga, every saga goes on to its end.
func TestView_GatewayIsStoppedWhileSagasAreUnderWay_AllEndAsTheyShould(t *testing.T) {
	t.Parallel()
	u := start(t, how{})
	gw, orders := u.gateway(), u.database("orders")
	fates := map[string]fate{}
	release := u.hold("inventory")
	for i := range 20 {
		f := fateOf(i)
		if f.cancel { // nobody is there to cancel it
			f.ends = []string{"confirmed"}
		}
		id, err := gw.Place(orderLimit, fmt.Sprintf("view-%d", i), f.body)
		must(t, err)
		fates[id] = f
	}
	open := func() (n int) {
		must(t, orders.Get(t.Context(), &n, `select count(*) from orders where state = 'placed'`))
		return n
	}
	if n := open(); n != len(fates) {
		t.Fatalf("%d orders are under way, want all %d", n, len(fates))
	}
	pid := u.State().Services["gateway-svc"].Pid
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) }) //nolint:errcheck // it may have ended
	release()
	await.True(t, orderLimit, "every order is decided", func() bool { return open() == 0 })
	u.audit()
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	for id, f := range fates {
		o, err := gw.Ended(orderLimit, id)
		must(t, err)
		if !slices.Contains(f.ends, o.End()) {
			t.Errorf("order %s (%s) is %q, want one of %q", id, f.name, o.End(), f.ends)
		}
	}
}
