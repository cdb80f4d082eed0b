package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/httpapi"
	"pavane/shared/identity"
	"pavane/shared/registry"
	"pavane/shared/tracing"
)

const (
	dialTime  = 500 * time.Millisecond
	tryTime   = 2 * time.Second        // for one try, unless the call says otherwise
	maxTries  = 4                      // of one call
	pauseTime = 100 * time.Millisecond // before instances are tried a second time
	maxReply  = 8 << 20                // bytes
)

// call is a request to a service.
type call struct {
	service string
	method  string // GET when empty
	path    string // escaped
	query   url.Values
	header  http.Header
	body    []byte
	// repeatable: it may be sent again although it may have been received. What
	// surely was not received is always sent again, elsewhere.
	repeatable bool
	try        time.Duration // limit of one try; 0 means tryTime
	all        time.Duration // limit of all tries of a part of a joined answer; 0: none
}

// reply is what an instance answered.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// errNoAnswer says that no instance gave a final answer. The order of the tries
// is in the text.
type errNoAnswer struct {
	service  string
	received bool // an instance may have carried the request out
	last     error
}

func (e *errNoAnswer) Error() string {
	return fmt.Sprintf("%s does not answer: %v", e.service, e.last)
}

func (e *errNoAnswer) Unwrap() error { return e.last }

// upstream sends calls to instances of the services.
type upstream struct {
	picker   *registry.Picker
	breakers *breakers
	client   *http.Client
	keys     *identity.Keys // nil: calls are not signed
}

func newUpstream(c Config) *upstream {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTime, Control: within(c.Networks)}).DialContext,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second, // less than the services' 60 s, so that they never close first
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &upstream{picker: registry.NewPicker(c.Registry), breakers: newBreakers(), client: client, keys: c.Keys}
}

// do sends the call to one instance after the other until one answers. A 502 or
// 503 is an answer only when nobody gives a better one.
func (u *upstream) do(ctx context.Context, c call) (reply, error) {
	var tried []string
	var last reply
	failed := &errNoAnswer{service: c.service}
	for range maxTries {
		instance, done, err := u.pick(c.service, tried)
		if err != nil && len(tried) > 0 { // all were tried: perhaps one is back
			if pause(ctx, pauseTime) != nil {
				break
			}
			tried = nil
			instance, done, err = u.pick(c.service, tried)
		}
		if err != nil {
			failed.last = errors.Join(failed.last, err)
			break
		}
		tried = append(tried, instance.Addr)
		res, err := u.once(ctx, c, instance.Addr)
		done(err)
		if err == nil && busy(res) {
			u.breakers.note(ctx, instance.Addr, nil, http.StatusOK) // it is well, and the others have as much to do
			return res, nil
		}
		u.breakers.note(ctx, instance.Addr, err, res.status)
		if err == nil && !passing(res.status) {
			return res, nil
		}
		last = res
		if err != nil {
			failed.last = err
		}
		failed.received = failed.received || !unsent(err)
		if ctx.Err() != nil || (failed.received && !c.repeatable) {
			break
		}
	}
	if last.status != 0 {
		return last, nil
	}
	return reply{}, failed
}

// pick chooses an instance whose breaker is closed and that was not tried. When
// every breaker is open, one of the instances is taken all the same: a call that
// fails at once is no better.
func (u *upstream) pick(service string, tried []string) (registry.Instance, func(error), error) {
	except := slices.Concat(tried, u.breakers.open())
	instance, done, err := u.picker.Pick(service, except...)
	if err != nil && len(except) > len(tried) {
		return u.picker.Pick(service, tried...)
	}
	return instance, done, err
}

// passing tells whether the status is of a state that another instance need not
// share.
func passing(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable
}

// busy tells whether a service refuses new work because it has too much.
func busy(res reply) bool {
	var p struct {
		Type string `json:"type"`
	}
	return res.status == http.StatusServiceUnavailable && json.Unmarshal(res.body, &p) == nil && p.Type == httpapi.TypeBusy
}

// unsent tells whether err shows that the request was never sent.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once sends the call to the instance at addr.
func (u *upstream) once(ctx context.Context, c call, addr string) (reply, error) {
	limit := c.try
	if limit == 0 {
		limit = tryTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	target := "http://" + addr + c.path
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target, bytes.NewReader(c.body))
	if err != nil {
		return reply{}, err
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	if id := httpapi.RequestID(ctx); id != "" {
		req.Header.Set("X-Request-Id", id)
	}
	if err := u.sign(ctx, req, c.service); err != nil {
		return reply{}, err
	}
	span := tracing.From(ctx).Call(ctx, req)
	res, err := u.send(req)
	span.Called(res.status, err)
	return res, err
}

// send sends a request and reads the answer.
func (u *upstream) send(req *http.Request) (reply, error) {
	res, err := u.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		return reply{}, fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	if len(body) > maxReply {
		return reply{}, fmt.Errorf("the answer of %s is larger than %d bytes", req.URL.Host, maxReply)
	}
	return reply{status: res.StatusCode, header: res.Header, body: body}, nil
}

// ask is do for calls whose only good answers are the statuses below 300; the
// others come back as problems that may go to the client.
func (u *upstream) ask(ctx context.Context, c call) (reply, error) {
	res, err := u.do(ctx, c)
	if err != nil {
		return reply{}, noAnswer(err, c)
	}
	if res.status >= http.StatusMultipleChoices {
		return res, problemOf(c.service, res)
	}
	return res, nil
}

// noAnswer is the problem for a client whose request nobody answered.
func noAnswer(err error, c call) error {
	detail := c.service + " does not answer now; try again later"
	var e *errNoAnswer
	if errors.As(err, &e) && e.received && c.method == http.MethodPost && !c.repeatable {
		detail = c.service + " did not answer, and whether it carried the request out is not known; " +
			"send an Idempotency-Key with such a request and it can be repeated safely"
	}
	return unavailable(detail)
}

func unavailable(detail string) error {
	p := &huma.ErrorModel{Status: http.StatusServiceUnavailable, Title: http.StatusText(http.StatusServiceUnavailable), Detail: detail}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
}

// problemOf passes on what a service refused. What failed inside it is a 502:
// the client can do nothing about it.
func problemOf(service string, res reply) error {
	p := &huma.ErrorModel{}
	if json.Unmarshal(res.body, p) != nil || p.Detail == "" {
		p = &huma.ErrorModel{Detail: fmt.Sprintf("%s answered %d", service, res.status)}
	}
	p.Status, p.Title, p.Instance = res.status, http.StatusText(res.status), ""
	if res.status == http.StatusServiceUnavailable {
		p.Detail = service + ": " + p.Detail
		after := res.header.Get("Retry-After")
		if after == "" {
			after = "1"
		}
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {after}})
	}
	if res.status == http.StatusUnauthorized { // not the client's token
		return &huma.ErrorModel{
			Status: http.StatusBadGateway, Title: http.StatusText(http.StatusBadGateway),
			Detail: service + " does not take the gateway's calls; all services must have the same service key, and clocks that agree",
		}
	}
	if res.status < http.StatusBadRequest || res.status >= http.StatusInternalServerError {
		return &huma.ErrorModel{
			Status: http.StatusBadGateway, Title: http.StatusText(http.StatusBadGateway),
			Detail: fmt.Sprintf("%s failed with status %d; its log tells more", service, res.status),
		}
	}
	return p
}
