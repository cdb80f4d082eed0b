package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pavane/cmd/pavane/internal/client"
)

// scrapeEvery is the pause between two looks at the services' metrics. What a
// process counted after the last look before it was killed is missed.
const scrapeEvery = 2 * time.Second

// counters follows what the services count, over the deaths of their processes:
// an instance that comes back has another id and begins at 0.
type counters struct {
	gateway *client.Client
	last    map[string]map[string]float64 // instance → metric → value
}

func newCounters(gateway *client.Client) *counters {
	return &counters{gateway, map[string]map[string]float64{}}
}

func (c *counters) follow(ctx context.Context) {
	for pause(ctx, scrapeEvery) {
		c.scrape(ctx)
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), scrapeEvery)
	defer cancel()
	c.scrape(final)
}

func (c *counters) scrape(ctx context.Context) {
	a, err := c.gateway.Do(ctx, http.MethodGet, "/v1/members", nil)
	if err != nil {
		return // the gateway may be what is broken
	}
	var list struct {
		Members []struct{ Service, ID, Addr string }
	}
	if json.Unmarshal(a.Body, &list) != nil {
		return
	}
	for _, m := range list.Members {
		one, cancel := context.WithTimeout(ctx, time.Second)
		a, err := client.New("http://"+m.Addr).Do(one, http.MethodGet, "/metrics", nil)
		cancel()
		if err == nil && a.Status == http.StatusOK {
			c.last[m.Service+"/"+m.ID] = parse(a.Body)
		}
	}
}

// parse reads the counters without labels of Prometheus' text format.
func parse(text []byte) map[string]float64 {
	values := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), " ")
		if !ok || !strings.HasPrefix(name, "pavane_") || !strings.HasSuffix(name, "_total") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values
}

// sums adds all instances up.
func (c *counters) sums() map[string]int64 {
	sums := map[string]int64{}
	for _, values := range c.last {
		for name, v := range values {
			sums[name] += int64(v)
		}
	}
	return sums
}
