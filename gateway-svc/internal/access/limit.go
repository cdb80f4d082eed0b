package access

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"pavane/shared/identity"
)

const (
	// maxCounted is how many principals have a count of their own. The others
	// share one, so that nobody gets more by being many.
	maxCounted = 10_000
	// sweepEvery is the pause between two looks for counts that are full again.
	sweepEvery = time.Second
)

// rates limits how many requests each principal may make.
type rates struct {
	rate  rate.Limit
	burst int
	most  int

	mu     sync.Mutex
	counts map[string]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

func newRates(perSecond float64, burst int) *rates {
	r := rate.Limit(perSecond)
	return &rates{rate: r, burst: burst, most: maxCounted, counts: map[string]*rate.Limiter{}, others: rate.NewLimiter(r, burst)}
}

// take counts a request. When it is one too many, it returns how long to wait.
func (l *rates) take(who string, now time.Time) time.Duration {
	if l.rate == 0 {
		return 0
	}
	r := l.of(who, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now) // a refused request costs nothing
	}
	return wait
}

func (l *rates) of(who string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.counts[who]; c != nil {
		return c
	}
	if len(l.counts) >= l.most && now.Sub(l.swept) >= sweepEvery {
		l.swept = now
		for name, c := range l.counts {
			if c.TokensAt(now) >= float64(l.burst) { // as good as a new one
				delete(l.counts, name)
			}
		}
	}
	if len(l.counts) >= l.most {
		return l.others
	}
	c := rate.NewLimiter(l.rate, l.burst)
	l.counts[who] = c
	return c
}

// streams counts the streams that each principal holds open.
type streams struct {
	most int // 0: any number
	mu   sync.Mutex
	open map[string]int
}

// enter counts a stream until leave is called; ok is false when it is one too
// many.
func (s *streams) enter(who string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && s.open[who] >= s.most {
		return nil, false
	}
	s.open[who]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[who]--; s.open[who] == 0 {
			delete(s.open, who)
		}
	}, true
}

// who names the principal of a request for counting: its subject, or where it
// comes from. What proxies say of that is not believed.
func who(r *http.Request) string {
	if p, _ := identity.From(r.Context()); p.Subject != "" {
		return "subject " + p.Subject
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().Is6() {
		if net, err := ip.WithZone("").Prefix(64); err == nil { // who has one address of these has them all
			host = net.String()
		}
	}
	return "address " + host
}
