package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"pavane/internal/faultproxy"
	"pavane/internal/providersim"
)

// action does something to a service.
type action func(ctx context.Context, service string) error

// instant is over when it has begun.
type instant struct {
	service string
	do      action
	did     string
}

func newInstant(do func(Driver) action, did string) func(Spec, Driver) Fault {
	return func(s Spec, d Driver) Fault { return instant{s.Service, do(d), did} }
}

func kill(d Driver) action    { return d.Kill }
func restart(d Driver) action { return d.Restart }

// Begin does it.
func (f instant) Begin(ctx context.Context) (string, error) { return f.did, f.do(ctx, f.service) }

// Heal has nothing to do.
func (instant) Heal(context.Context) (string, error) { return "", nil }

// pair is one call that breaks and one that mends.
type pair struct {
	begin, heal func(ctx context.Context) error
}

func newPause(s Spec, d Driver) Fault {
	return pair{
		func(ctx context.Context) error { return d.Pause(ctx, s.Service) },
		func(ctx context.Context) error { return d.Resume(ctx, s.Service) },
	}
}

// newDown takes a server down, or the service of the spec when that is empty.
func newDown(server string, hard bool) func(Spec, Driver) Fault {
	return func(s Spec, d Driver) Fault {
		name := server + s.Service
		return pair{
			func(ctx context.Context) error { return d.Down(ctx, name, hard) },
			func(ctx context.Context) error { return d.Up(ctx, name) },
		}
	}
}

// Begin breaks.
func (f pair) Begin(ctx context.Context) (string, error) { return "", f.begin(ctx) }

// Heal mends.
func (f pair) Heal(ctx context.Context) (string, error) { return "", f.heal(ctx) }

// slowFlush is the most that Postgres can be made to wait before a flush.
const slowFlush = 100 * time.Millisecond

func newSlowDisk(_ Spec, d Driver) Fault {
	return pair{
		func(ctx context.Context) error { return d.SlowDisk(ctx, slowFlush) },
		func(ctx context.Context) error { return d.SlowDisk(ctx, 0) },
	}
}

// Clock is the kind that moves the clock, by jump forth or back.
const (
	Clock = "clock"
	jump  = 2 * time.Hour
)

func newClock(s Spec, d Driver) Fault { return clockJump{d, []time.Duration{jump, -jump}[s.Seed%2]} }

// clockJump puts the one clock that decides anything wrong. Its mending is a jump
// the other way.
type clockJump struct {
	driver Driver
	by     time.Duration
}

// Begin moves it.
func (f clockJump) Begin(ctx context.Context) (string, error) {
	return fmt.Sprintf("the time of Postgres is %+.0f h off", f.by.Hours()), f.driver.MoveClock(ctx, f.by)
}

// Heal puts it right.
func (f clockJump) Heal(ctx context.Context) (string, error) {
	return "the time is right again", f.driver.MoveClock(ctx, 0)
}

// newWrong has most of what the card provider does go wrong, each time another way.
func newWrong(s Spec, d Driver) Fault {
	wrong := providersim.Faults{
		Seed: int64(s.Seed >> 1), SlowMS: 20, RefusePercent: 5, StallPercent: 5, FailPercent: 15, FailAfterPercent: 15,
		LosePercent: 15, TwicePercent: 5, LatePercent: 10, GarbagePercent: 10,
	}
	return pair{
		func(ctx context.Context) error { return d.Provider(ctx, wrong) },
		func(ctx context.Context) error { return d.Provider(ctx, providersim.Faults{}) },
	}
}

// another is a second instance for a while.
type another struct {
	Spec
	driver Driver
	roll   bool // and the first one is replaced meanwhile
	stop   func(context.Context) error
}

func newSecond(roll bool) func(Spec, Driver) Fault {
	return func(s Spec, d Driver) Fault { return &another{Spec: s, driver: d, roll: roll} }
}

// Begin starts the second instance.
func (f *another) Begin(ctx context.Context) (_ string, err error) {
	if f.stop, err = f.driver.Second(ctx, f.Service); err != nil || !f.roll {
		return "two instances", err
	}
	return "two instances; the first was replaced", f.driver.Restart(ctx, f.Service)
}

// Heal stops it.
func (f *another) Heal(ctx context.Context) (string, error) {
	if f.stop == nil {
		return "", nil
	}
	return "one instance again", f.stop(ctx)
}

// latency is by how much answers come later.
const latency = 200 * time.Millisecond

// way is what is done to the way between a service and a server.
type way struct {
	Spec
	driver Driver
	on     func(p *faultproxy.Proxy, begin bool)
	proxy  *faultproxy.Proxy // nil: there is none
}

func newWay(on func(*faultproxy.Proxy, bool)) func(Spec, Driver) Fault {
	return func(s Spec, d Driver) Fault { return &way{Spec: s, driver: d, on: on} }
}

func part(p *faultproxy.Proxy, begin bool) {
	if begin {
		p.Part()
	} else {
		p.Join()
	}
}

func slow(p *faultproxy.Proxy, begin bool) {
	if begin {
		p.Slow(latency)
	} else {
		p.Slow(0)
	}
}

// Begin breaks the way.
func (f *way) Begin(context.Context) (_ string, err error) {
	if f.proxy, err = f.driver.Way(f.Service, f.Server); err == nil {
		f.on(f.proxy, true)
	}
	return "", err
}

// Heal mends it.
func (f *way) Heal(context.Context) (string, error) {
	if f.proxy != nil {
		f.on(f.proxy, false)
	}
	return "", nil
}

// loss has one request of each kind go wrong, or its answer.
type loss struct {
	Spec
	driver  Driver
	proxy   *faultproxy.Proxy
	strikes []*faultproxy.Strike
}

func newLoss(s Spec, d Driver) Fault { return &loss{Spec: s, driver: d} }

// hold is how long a late answer is late.
const hold = time.Second

// Begin arms the strikes.
func (f *loss) Begin(context.Context) (_ string, err error) {
	if f.proxy, err = f.driver.Way(f.Service, f.Server); err != nil {
		return "", err
	}
	requests := []string{"COMMIT", "SELECT", "INSERT", "UPDATE", "BEGIN"}
	if f.Server == "broker" {
		requests = []string{"Produce", "Fetch", "Heartbeat", "OffsetCommit", "Metadata"}
	}
	rng, ways := rand.New(rand.NewPCG(f.Seed, 1)), faultproxy.Faults()
	for _, r := range requests {
		f.strikes = append(f.strikes, f.proxy.Arm(r, 1+rng.IntN(3), ways[rng.IntN(len(ways))], hold))
	}
	return "", nil
}

// Heal takes back what has not struck. It is ErrMissed when nothing has.
func (f *loss) Heal(context.Context) (string, error) {
	var struck []string
	for _, s := range f.strikes {
		f.proxy.Disarm(s)
		select {
		case <-s.Struck():
			struck = append(struck, s.String())
		default:
		}
	}
	if len(struck) == 0 && f.proxy != nil {
		return "", ErrMissed
	}
	return fmt.Sprintf("struck: %s", strings.Join(struck, ", ")), nil
}
