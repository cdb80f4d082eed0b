package access

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"pavane/shared/identity"
)

const (
	// maxCounted is how many subjects, and how many addresses, have a count of
	// their own. The others share one, so that nobody gets more by being many.
	maxCounted = 10_000
	// sweepEvery is the pause between two looks for counts that are full again.
	sweepEvery = time.Second
	// ofSubject begins the name of a principal with a token.
	ofSubject = "subject "
)

// rates limits how many requests each principal may make. Addresses are counted
// apart from subjects: anybody can have many, and they must not take the places
// of customers with good tokens.
type rates struct {
	rate      rate.Limit
	subjects  *counts
	addresses *counts
}

func newRates(perSecond float64, burst int) *rates {
	r := rate.Limit(perSecond)
	return &rates{rate: r, subjects: newCounts(r, burst), addresses: newCounts(r, burst)}
}

// take counts a request. When it is one too many, it returns how long to wait.
func (l *rates) take(who string, now time.Time) time.Duration {
	if l.rate == 0 {
		return 0
	}
	c := l.addresses
	if strings.HasPrefix(who, ofSubject) {
		c = l.subjects
	}
	r := c.of(who, now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now) // a refused request costs nothing
	}
	return wait
}

// counts are those of principals of one kind, in bounded memory.
type counts struct {
	rate  rate.Limit
	burst int
	most  int

	mu     sync.Mutex
	each   map[string]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

func newCounts(r rate.Limit, burst int) *counts {
	return &counts{rate: r, burst: burst, most: maxCounted, each: map[string]*rate.Limiter{}, others: rate.NewLimiter(r, burst)}
}

func (c *counts) of(who string, now time.Time) *rate.Limiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.each[who]; own != nil {
		return own
	}
	if len(c.each) >= c.most && now.Sub(c.swept) >= sweepEvery {
		c.swept = now
		for name, own := range c.each {
			if own.TokensAt(now) >= float64(c.burst) { // as good as a new one
				delete(c.each, name)
			}
		}
	}
	if len(c.each) >= c.most {
		return c.others
	}
	own := rate.NewLimiter(c.rate, c.burst)
	c.each[who] = own
	return own
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
		return ofSubject + p.Subject
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
