package notification

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pavane/shared/fault"
)

const (
	maxAnswer   = 4 << 10  // bytes that are read of an answer; what it says is for people
	maxHeaders  = 64 << 10 // bytes of an answer's headers
	minKey      = 24       // bytes, as the specification has it
	maxKey      = 64
	keyPrefix   = "whsec_"
	newKeyWords = "make one with: echo whsec_$(openssl rand -base64 32)"
)

// WebhookConfig says who is told by webhook, beside the mails.
type WebhookConfig struct {
	URL string `desc:"http(s) URL that gets a signed POST for each mail that is written, too (Standard Webhooks); empty: off, and what happens meanwhile is not told later"`
	Key string `secret:"true" desc:"whsec_… and the base64 of 24 to 64 random bytes, which sign the webhooks; of several, parted by commas, each signs"`
}

// Validate refuses what could only fail at the first webhook.
func (c WebhookConfig) Validate() error {
	_, keysErr := c.keys()
	if c.URL == "" {
		return keysErr
	}
	if keysErr == nil && c.Key == "" {
		keysErr = errors.New("PAVANE_WEBHOOK_KEY is empty: what goes to PAVANE_WEBHOOK_URL must be signed; " + newKeyWords)
	}
	return errors.Join(c.validateURL(), keysErr)
}

// validateURL shows nothing of a URL that holds a password.
func (c WebhookConfig) validateURL() error {
	u, err := url.Parse(c.URL)
	switch {
	case err == nil && u.User != nil, err != nil && strings.Contains(c.URL, "@"):
		return errors.New("PAVANE_WEBHOOK_URL holds a user or password: take them out, the signature says who sends")
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("PAVANE_WEBHOOK_URL=%q: want http://host:port/path or https://host/path", c.URL)
	}
	return nil
}

// keys are those that sign. Its error shows nothing of them.
func (c WebhookConfig) keys() (keys [][]byte, err error) {
	if c.Key == "" {
		return nil, nil
	}
	for i, text := range strings.Split(c.Key, ",") {
		encoded, ok := strings.CutPrefix(strings.TrimSpace(text), keyPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
			return nil, fmt.Errorf("PAVANE_WEBHOOK_KEY (a secret, not shown): key %d is not %s with the base64 of %d to %d bytes; %s",
				i+1, keyPrefix, minKey, maxKey, newKeyWords)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// WebhookID is the webhook-id of the message. It depends on order and kind alone,
// so one that comes twice can be recognised. It holds no full stop, which parts
// what is signed.
func (m Message) WebhookID() string {
	return "msg_" + string(m.Kind) + "_" + strings.ReplaceAll(url.QueryEscape(m.OrderID), ".", "%2E")
}

// Webhook is a [Carrier] that makes one signed POST of each message, as the
// Standard Webhooks specification 1.0.0 has it.
type Webhook struct {
	url, host string
	keys      [][]byte
	now       func() time.Time
	http      *http.Client
}

// NewWebhook returns a carrier to the URL of a valid c that has one. It does not
// connect. now is what a receiver compares with its own clock.
func NewWebhook(c WebhookConfig, now func() time.Time) (*Webhook, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err // Validate has found it well formed
	}
	keys, err := c.keys()
	return &Webhook{
		url: c.URL, host: u.Host, keys: keys, now: now,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: sendTime}).DialContext,
				TLSHandshakeTimeout: sendTime, IdleConnTimeout: maxPause,
				DisableCompression: true, MaxResponseHeaderBytes: maxHeaders,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, err
}

// Open returns the carrier itself: each message is a request of its own, over a
// connection that is kept between them.
func (w *Webhook) Open(context.Context) (Connection, error) { return w, nil }

// Close gives the idle connection back.
func (w *Webhook) Close() { w.http.CloseIdleConnections() }

// Send implements [Connection].
func (w *Webhook) Send(ctx context.Context, m Message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, strings.NewReader(m.Body))
	if err != nil {
		return fault.Permanent("%w", err)
	}
	id, at := m.WebhookID(), strconv.FormatInt(w.now().Unix(), 10)
	for name, value := range map[string]string{
		"content-type": "application/json", "user-agent": "pavane",
		"webhook-id": id, "webhook-timestamp": at, "webhook-signature": w.sign(id, at, m.Body),
	} {
		req.Header.Set(name, value)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL, whose path may be somebody's secret
		}
		return fmt.Errorf("webhook at %s: %w", w.host, err)
	}
	defer resp.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) //nolint:errcheck // the status has said it already
	return w.judge(resp, strings.TrimSpace(string(words)))
}

// sign makes one signature with each key (Standard Webhooks, "Signature scheme").
func (w *Webhook) sign(id, at, body string) string {
	var all []string
	for _, key := range w.keys {
		mac := hmac.New(sha256.New, key)
		io.WriteString(mac, id+"."+at+"."+body) //nolint:errcheck // a hash takes everything
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// judge says what an answer means. Who sends the webhook elsewhere (3xx) or will
// not have it (4xx, 410 among them) has refused it. Who is too busy or broken, or
// did not get the request in time, is asked again, and not before it wishes.
func (w *Webhook) judge(resp *http.Response, words string) error {
	code := resp.StatusCode
	if code >= 200 && code <= 299 {
		return nil
	}
	err := fmt.Errorf("webhook at %s answers %d %s", w.host, code, http.StatusText(code))
	if words != "" {
		err = fmt.Errorf("%w: %.300q", err, words)
	}
	if code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests {
		return fault.Permanent("%w", err)
	}
	if after := w.retryAfter(resp.Header.Get("Retry-After")); after > 0 {
		return &postponed{after: after, err: err}
	}
	return err
}

// retryAfter reads the header of that name: seconds, or a date (RFC 9110, 10.2.3).
// It is 0 for what is neither.
func (w *Webhook) retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(w.now())
	}
	return 0
}
