package notification_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pavane/internal/leaks"
	"pavane/internal/transcript"
	"pavane/notification-svc/internal/notification"
	"pavane/shared/failpoint"
	"pavane/shared/fault"
)

// vectorKey is the secret of the specification's own libraries' tests.
const vectorKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhooks is a test's service that mails and tells a receiver.
type webhooks struct {
	*bundle
	receiver *receiver
	sender   *notification.Sender
}

func setupWebhooks(t *testing.T) *webhooks {
	t.Helper()
	h := &webhooks{bundle: setup(t), receiver: startReceiver(t)}
	h.sender = h.senderTo(h.receiver.URL+"/hook", vectorKey, slog.New(slog.DiscardHandler), nil)
	h.service = notification.NewService(h.bundle.sender.Wake, h.sender.Wake)
	return h
}

func carrierTo(t *testing.T, url, key string) *notification.Webhook {
	t.Helper()
	carrier, err := notification.NewWebhook(notification.WebhookConfig{URL: url, Key: key}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return carrier
}

func (h *webhooks) senderTo(url, key string, logger *slog.Logger, metrics prometheus.Registerer) *notification.Sender {
	h.t.Helper()
	return notification.NewWebhookSender(h.db, carrierTo(h.t, url, key), logger, nil, metrics)
}

// rows are the webhooks of an order as "kind:state".
func (h *webhooks) rows(order string) (rows []string) {
	h.t.Helper()
	all, err := notification.WebhooksOf(h.t.Context(), h.db, order)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, w := range all {
		if (w.SentAt != nil) != (w.State == "sent") {
			h.t.Errorf("webhook %+v: want a time of its sending when it was sent", w)
		}
		rows = append(rows, string(w.Kind)+":"+w.State)
	}
	slices.Sort(rows)
	return rows
}

// failed is what the row of the one webhook that failed says.
type failed struct {
	Pause  float64 `db:"pause"` // seconds from now
	Reason string  `db:"last_error"`
}

func (h *webhooks) awaitFailed() (f failed) {
	h.t.Helper()
	eventually(h.t, "the failure is noted", func() bool {
		err := h.db.Get(h.t.Context(), &f, `select extract(epoch from next_at - clock_timestamp())::float8 as pause, last_error
from webhooks where order_id = 'o-2'`)
		if err != nil {
			h.t.Fatal(err)
		}
		return f.Reason != ""
	})
	return f
}

func (h *webhooks) awaitSent(order string, kinds ...string) {
	h.t.Helper()
	for i := range kinds {
		kinds[i] += ":sent"
	}
	eventually(h.t, "webhooks "+strings.Join(kinds, ", ")+" of "+order, func() bool { return slices.Equal(h.rows(order), kinds) })
}

// The vector is that of the specification's reference libraries. It shows that the
// test's receiver verifies as others do, and that receiver what ours sends.
func TestWebhook_Signature_IsThatOfTheSpecification(t *testing.T) {
	t.Parallel()
	vector := http.Header{}
	vector.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	vector.Set("webhook-timestamp", "1614265330")
	vector.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if !verify(vectorKey, vector, `{"test": 2432232314}`) {
		t.Fatal("the test's receiver refuses the vector of the specification's libraries")
	}
	h := setupWebhooks(t)
	second := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 64))
	h.fact(cancelled)
	h.run(t.Context(), h.senderTo(h.receiver.URL+"/hook", vectorKey+", "+second, slog.New(slog.DiscardHandler), nil))
	h.awaitSent("o-2", "cancelled")
	c := h.receiver.got()[0]
	if !verify(vectorKey, c.header, c.body) || !verify(second, c.header, c.body) {
		t.Errorf("signature %q does not hold for both keys", c.header.Get("webhook-signature"))
	}
	other := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 24))
	if verify(other, c.header, c.body) || verify(vectorKey, c.header, c.body+" ") {
		t.Error("signature holds for another key, or another body")
	}
	at, err := strconv.ParseInt(c.header.Get("webhook-timestamp"), 10, 64)
	if err != nil || c.at.Sub(time.Unix(at, 0)).Abs() > 5*time.Second {
		t.Errorf("webhook-timestamp %q, want the seconds of the attempt, %d", c.header.Get("webhook-timestamp"), c.at.Unix())
	}
	if c.method != http.MethodPost || c.path != "/hook" || c.header.Get("content-type") != "application/json" {
		t.Errorf("%s %s of %q, want POST /hook of JSON", c.method, c.path, c.header.Get("content-type"))
	}
}

// A receiver relies on these bytes: fields are only added.
func TestWebhook_EachKind_TellsWhatTheMailTells(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	for _, fact := range []any{confirmed, captured, cancelled} {
		h.fact(fact)
	}
	h.run(t.Context(), h.sender)
	h.awaitSent("o-1", "confirmed", "receipt")
	h.awaitSent("o-2", "cancelled")
	got := map[string]string{}
	for _, c := range h.receiver.got() {
		got[c.id()] = c.body
	}
	for id, want := range map[string]string{
		"msg_confirmed_o-1": `{"type":"order.confirmed","timestamp":"2026-01-02T03:04:05Z",` +
			`"data":{"order_id":"o-1","kind":"confirmed","state":"confirmed","amount":{"amount":1205,"currency":"EUR"}}}`,
		"msg_receipt_o-1": `{"type":"payment.captured","timestamp":"2026-01-02T03:04:05Z",` +
			`"data":{"order_id":"o-1","kind":"receipt","state":"confirmed","amount":{"amount":1205,"currency":"EUR"}}}`,
		"msg_cancelled_o-2": `{"type":"order.cancelled","timestamp":"2026-01-02T03:04:05Z",` +
			`"data":{"order_id":"o-2","kind":"cancelled","state":"cancelled","reason":"out_of_stock","detail":"kettle: 0 left"}}`,
	} {
		if got[id] != want {
			t.Errorf("%s says\n%s, want\n%s", id, got[id], want)
		}
	}
}

// The parts of what is signed are parted by full stops.
func TestWebhookID_AnyOrder_IsItsOwnAndHasNoFullStop(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, order := range []string{"o.1", "o%2E1", "o_1", "o 1\r\n", "ö"} {
		id := notification.Message{OrderID: order, Kind: notification.KindReceipt}.WebhookID()
		if strings.ContainsAny(id, ". \r\n") || seen[id] {
			t.Errorf("order %q has webhook-id %q", order, id)
		}
		seen[id] = true
	}
}

func TestService_FactsAgainAndInAnyOrder_OneWebhookPerKind(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	h.run(t.Context(), h.sender)
	for _, fact := range []any{captured, captured, confirmed, captured, confirmed} {
		h.fact(fact)
	}
	h.awaitSent("o-1", "confirmed", "receipt")
	h.fact(confirmed)
	h.fact(cancelled) // goes after whatever that left
	h.awaitSent("o-2", "cancelled")
	if got := h.receiver.got(); len(got) != 3 {
		t.Errorf("%d webhooks came, want 3: %+v", len(got), got)
	}
}

func TestService_WebhookSwitchedOnLater_TellsNoOldNews(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	on := h.service
	h.service = notification.NewService(h.bundle.sender.Wake, nil)
	h.fact(cancelled)
	h.fact(confirmed)
	h.service = on
	h.fact(captured)
	h.run(t.Context(), h.sender)
	h.awaitSent("o-1", "receipt")
	if rows, got := h.rows("o-2"), h.receiver.got(); len(rows) != 0 || len(got) != 1 {
		t.Errorf("webhooks %v of the order before, %d came: want none, and one", rows, len(got))
	}
}

func TestWebhook_ReceiverDown_KeepsThemAndDeliversWhenItIsUp(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	addr := h.receiver.Listener.Addr().String()
	h.receiver.Close()
	h.fact(cancelled)
	h.run(t.Context(), h.sender)
	if f := h.awaitFailed(); !strings.Contains(f.Reason, addr) {
		t.Errorf("the failure says %q, want the receiver's address", f.Reason)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	again := &http.Server{Handler: h.receiver, ReadHeaderTimeout: time.Second}
	t.Cleanup(func() { again.Close() })
	go again.Serve(l) //nolint:errcheck // it ends with the test
	h.awaitSent("o-2", "cancelled")
}

func TestWebhook_BusyOrBroken_IsAskedAgainUntilItTakesIt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 429, 500, 503} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			h := setupWebhooks(t)
			h.receiver.on(answer(2, status))
			h.fact(cancelled)
			h.run(t.Context(), h.sender)
			h.awaitSent("o-2", "cancelled")
			got := h.receiver.got()
			if len(got) != 3 || got[0].id() != got[2].id() || got[0].body != got[2].body {
				t.Errorf("want the same webhook three times, got %+v", got)
			}
		})
	}
}

// What a receiver will not have must not look like one that is away, and holds up
// nothing.
func TestWebhook_Refused_CountsApartAndTheOthersGo(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 400, 404, 410} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			h := setupWebhooks(t)
			h.receiver.on(answer(1, status, "Location", h.receiver.URL+"/elsewhere"))
			h.fact(cancelled)
			h.fact(confirmed)
			metrics := prometheus.NewRegistry()
			h.run(t.Context(), h.senderTo(h.receiver.URL, vectorKey, slog.New(slog.DiscardHandler), metrics))
			h.awaitSent("o-1", "confirmed")
			f, measure := h.awaitFailed(), gauges(t, metrics)
			if f.Pause < 4*60 || !strings.Contains(f.Reason, strconv.Itoa(status)) || !strings.Contains(f.Reason, "words of the receiver") {
				t.Errorf("tried again in %.0f s, because %q; want 5 minutes, status and words", f.Pause, f.Reason)
			}
			if n, refused, age := measure("pavane_webhooks_pending"), measure("pavane_webhooks_refused"), measure("pavane_webhooks_oldest_seconds"); n != 1 || refused != 1 || age != 0 {
				t.Errorf("%v wait, %v of them refused, the oldest since %v s; want 1, 1, 0", n, refused, age)
			}
			h.exec(`update webhooks set next_at = clock_timestamp()`)
			h.awaitSent("o-2", "cancelled")
			if got := h.receiver.got(); len(got) != 3 {
				t.Errorf("%d requests came, want 3 and none after the redirect", len(got))
			}
		})
	}
}

func TestWebhook_RetryAfter_IsHonouredWithinBounds(t *testing.T) {
	t.Parallel()
	for after, want := range map[string][2]float64{
		// What is left of the pause when it is looked at, also by a slow machine.
		"120":   {30, 120},
		"86400": {150, 300},
		time.Now().Add(4 * time.Minute).UTC().Format(http.TimeFormat): {30, 240},
		"-5":   {-90, 1},
		"soon": {-90, 1},
	} {
		for _, status := range []int{429, 503} {
			t.Run(strconv.Itoa(status)+" "+after, func(t *testing.T) {
				t.Parallel()
				h := setupWebhooks(t)
				h.receiver.on(answer(1000, status, "Retry-After", after))
				h.fact(cancelled)
				h.run(t.Context(), h.sender)
				if f := h.awaitFailed(); f.Pause < want[0] || f.Pause > want[1] {
					t.Errorf("Retry-After %s: tried again in %.1f s, want %v", after, f.Pause, want)
				}
			})
		}
	}
}

// The wish is the receiver's, not the one webhook's: others wait with it.
func TestWebhook_TooMany_SendsNothingBeforeRetryAfter(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	h.receiver.on(answer(1, http.StatusTooManyRequests, "Retry-After", "2"))
	h.fact(cancelled)
	h.fact(confirmed)
	h.run(t.Context(), h.sender)
	h.awaitFailed()
	h.fact(captured) // wakes the sender
	h.awaitSent("o-2", "cancelled")
	h.awaitSent("o-1", "confirmed", "receipt")
	got := h.receiver.got()
	if pause := got[1].at.Sub(got[0].at); pause < 1900*time.Millisecond {
		t.Errorf("the next request came after %s, want 2 s", pause)
	}
}

// A crash between the receiver's 2xx and the commit is the one case in which a
// webhook that was taken comes twice.
func TestWebhook_CrashBetweenTakenAndNoted_SendsAgainWithTheSameID(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	h.fact(cancelled)
	set, err := failpoint.Parse("message.after_send=10m")
	if err != nil {
		t.Fatal(err)
	}
	h.run(failpoint.With(t.Context(), set), h.sender)
	eventually(t, "the receiver has it", func() bool { return len(h.receiver.got()) == 1 })
	if got := h.rows("o-2"); !slices.Equal(got, []string{"cancelled:pending"}) {
		t.Fatalf("webhooks %v: noted before the failpoint", got)
	}
	h.exec(`update webhooks set next_at = clock_timestamp()`) // the claim's time is over
	h.run(t.Context(), h.senderTo(h.receiver.URL, vectorKey, slog.New(slog.DiscardHandler), nil))
	h.awaitSent("o-2", "cancelled")
	got := h.receiver.got()
	if len(got) != 2 || got[0].id() != got[1].id() || got[0].id() == "" || got[0].body != got[1].body {
		t.Errorf("want one webhook twice with one id, got %+v", got)
	}
}

func TestSenders_OneReceiverIsDown_TheOtherGetsItsMessages(t *testing.T) {
	t.Parallel()
	t.Run("mail server", func(t *testing.T) {
		t.Parallel()
		h := setupWebhooks(t)
		h.server.on(func(string, int) string { return "421 closing" })
		h.run(t.Context(), h.bundle.sender)
		h.run(t.Context(), h.sender)
		h.fact(cancelled)
		h.awaitSent("o-2", "cancelled")
		if got := h.states("o-2"); !slices.Equal(got, []string{"cancelled:pending"}) {
			t.Errorf("mails %v, want one pending", got)
		}
	})
	t.Run("webhook", func(t *testing.T) {
		t.Parallel()
		h := setupWebhooks(t)
		h.receiver.on(answer(1000, http.StatusServiceUnavailable))
		h.run(t.Context(), h.bundle.sender)
		h.run(t.Context(), h.sender)
		h.fact(cancelled)
		eventually(t, "the mail sent", func() bool { return slices.Equal(h.states("o-2"), []string{"cancelled:sent"}) })
		h.awaitFailed()
	})
}

func TestWebhook_AnswerWithoutEnd_IsReadOnlySoFar(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	var written atomic.Int64
	h.receiver.on(func(w http.ResponseWriter, _ int) bool {
		chunk := bytes.Repeat([]byte("x"), 1<<16)
		for written.Load() < 256<<20 {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				break
			}
		}
		return true
	})
	h.fact(cancelled)
	h.run(t.Context(), h.sender)
	h.awaitSent("o-2", "cancelled")
	if got := h.receiver.got(); len(got) != 1 {
		t.Errorf("%d requests, want one", len(got))
	}
	h.receiver.Close() // the handler has ended
	if n := written.Load(); n > 64<<20 {
		t.Errorf("the receiver could write %d bytes, want what fits into the buffers between", n)
	}
}

func TestWebhook_NoAnswer_EndsWithItsTimeAndIsNoRefusal(t *testing.T) {
	t.Parallel()
	silent := startReceiver(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	silent.on(func(http.ResponseWriter, int) bool { <-release; return false })
	conn, err := carrierTo(t, silent.URL, vectorKey).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = conn.Send(ctx, notification.Message{OrderID: "o-1", Kind: notification.KindReceipt, Body: "{}"})
	if !errors.Is(err, context.DeadlineExceeded) || fault.ClassOf(err) == fault.ClassPermanent {
		t.Errorf("Send = %v, want the deadline and no refusal", err)
	}
}

func TestWebhook_Failures_ShowNeitherKeyNorPath(t *testing.T) {
	t.Parallel()
	h := setupWebhooks(t)
	h.receiver.Close()
	log := &transcript.Buffer{}
	h.fact(cancelled)
	h.run(t.Context(), h.senderTo(h.receiver.URL+"/t0ken", vectorKey, slog.New(slog.NewTextHandler(log, nil)), nil))
	f := h.awaitFailed()
	eventually(t, "the log tells", func() bool { return strings.Contains(log.String(), "carrier=webhook") })
	for _, secret := range []string{strings.TrimPrefix(vectorKey, "whsec_"), "t0ken"} {
		if strings.Contains(log.String(), secret) || strings.Contains(f.Reason, secret) {
			t.Errorf("%q is shown in the log or in the row: %s %s", secret, log.String(), f.Reason)
		}
	}
}

func TestWebhook_Stop_LeavesNothingRunning(t *testing.T) {
	h := setupWebhooks(t)
	h.fact(cancelled)
	ignore := goleak.IgnoreCurrent()
	stop := h.run(t.Context(), h.sender)
	h.awaitSent("o-2", "cancelled")
	stop()
	leaks.None(t, ignore)
}

func TestWebhookConfig_Wrong_NamesTheVariableAndShowsNoKey(t *testing.T) {
	t.Parallel()
	good := notification.WebhookConfig{URL: "https://shop.example/hook?shop=1", Key: vectorKey}
	for _, c := range []notification.WebhookConfig{good, {}, {Key: vectorKey}, {URL: "http://127.0.0.1:9000", Key: vectorKey + "," + vectorKey}} {
		if err := c.Validate(); err != nil {
			t.Errorf("Validate(%s) = %v", c.URL, err)
		}
	}
	raw := strings.TrimPrefix(vectorKey, "whsec_")
	for want, bad := range map[string][]notification.WebhookConfig{
		"PAVANE_WEBHOOK_URL": {
			{URL: "shop.example/hook", Key: vectorKey},
			{URL: "ftp://shop.example", Key: vectorKey},
			{URL: "https://", Key: vectorKey},
			{URL: "https://ann:" + raw + "@shop.example", Key: vectorKey},
			{URL: "https://:443", Key: vectorKey},
			{URL: "https://ann:" + raw + "%@shop.example", Key: vectorKey},
		},
		"PAVANE_WEBHOOK_KEY": {
			{URL: good.URL},
			{URL: good.URL, Key: raw},
			{URL: good.URL, Key: vectorKey + "!"},
			{Key: "whsec_"},
			{URL: good.URL, Key: "whsec_" + raw[:28]},
			{URL: good.URL, Key: vectorKey + ","},
			{URL: good.URL, Key: "whsec_" + strings.Repeat("A", 88)},
		},
	} {
		for _, c := range bad {
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), raw[:20]) {
				t.Errorf("Validate(%s, %d bytes of key) = %v, want an error naming %s without the key", c.URL, len(c.Key), err, want)
			}
		}
	}
}
