package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/failpoint"
	"pavane/shared/fault"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

const (
	placeTime  = 5 * time.Second // for one try to place or cancel
	retryAfter = "1"             // seconds, for an order that is not decided yet

	// answerTime is what is kept of a client's wait for order-svc's answer to come.
	answerTime = 200 * time.Millisecond
)

type placeInput struct {
	IdempotencyKey string   `header:"Idempotency-Key" doc:"names the request: a token, or a string in double quotes; 1 to 255 visible ASCII characters"`
	Prefer         []string `header:"Prefer" doc:"wait=N: answer when the order is decided or after N seconds, 1 to 30"`
	RawBody        []byte
	Body           struct {
		CustomerID    string `json:"customer_id,omitempty" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_|@+:/=-][A-Za-z0-9._|@+:/=-]*$" example:"cust-01" doc:"who orders; whoever shows a token orders for itself and may leave it out"`
		Items         []line `json:"items" minItems:"1" maxItems:"100" nullable:"false" doc:"each SKU once"`
		PaymentMethod string `json:"payment_method,omitempty" enum:"wallet,card" doc:"how to pay; left out: wallet"`
		CardToken     string `json:"card_token,omitempty" maxLength:"64" doc:"what the payment provider calls the card, for card alone; never a card number"`
		Currency      string `json:"currency,omitempty" pattern:"^[A-Z]{3}$" doc:"ISO 4217 code; left out: that of the catalogue"`
	}
}

type line struct {
	SKU      string `json:"sku" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._-]*$" example:"tea-green" doc:"a product of the catalogue"`
	Quantity int64  `json:"quantity" minimum:"1" maximum:"1000" doc:"how many pieces"`
}

type placeOutput struct {
	Status            int
	Location          string `header:"Location"`
	RetryAfter        string `header:"Retry-After"`
	PreferenceApplied string `header:"Preference-Applied"`
	Replayed          string `header:"Idempotency-Replayed" doc:"true when the order is that of an earlier request"`
	ETag              string `header:"ETag"`
	Body              doc[Order]
}

// place places an order and, when asked to, waits for its decision. Everything
// that the answer depends on is with order-svc: a gateway that dies while a
// client waits is replaced by any other and the same Idempotency-Key.
func (g *Gateway) place(ctx context.Context, in *placeInput) (*placeOutput, error) {
	if p, _ := identity.From(ctx); in.Body.CustomerID == "" && p.Subject == "" {
		return nil, fault.Invalid("customer_id is missing: say who orders")
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if in.IdempotencyKey != "" {
		header.Set("Idempotency-Key", in.IdempotencyKey)
	}
	c := call{
		service: orderSvc, method: http.MethodPost, path: "/v1/orders", header: header, body: in.RawBody,
		repeatable: in.IdempotencyKey != "", try: placeTime,
	}
	res, err := g.change(ctx, c)
	if err != nil {
		return nil, err
	}
	order, err := parse[Order](orderSvc, res.body)
	if err != nil {
		return nil, err
	}
	out := &placeOutput{Location: orderPath(order.value.OrderID), Replayed: res.header.Get("Idempotency-Replayed")}
	if wait := waitOf(in.Prefer); wait > 0 {
		out.PreferenceApplied = "wait=" + strconv.Itoa(int(wait/time.Second))
		order = g.await(ctx, order, wait)
	}
	return answerOrder(ctx, out, order)
}

// answerOrder maps the state of the order to the answer.
func answerOrder(ctx context.Context, out *placeOutput, order doc[Order]) (*placeOutput, error) {
	out.Body, out.ETag = order, etag(order.value)
	switch order.value.State {
	case "confirmed":
		out.Status = http.StatusCreated
	case "cancelled":
		headers := http.Header{"Location": {out.Location}}
		setIf(headers, "Preference-Applied", out.PreferenceApplied)
		setIf(headers, "Idempotency-Replayed", out.Replayed)
		p := cancelledProblem(order.value)
		p.Instance = "urn:pavane:request:" + httpapi.RequestID(ctx) // httpapi completes only problems of huma's own type
		return nil, huma.ErrorWithHeaders(p, headers)
	default:
		out.Status, out.RetryAfter = http.StatusAccepted, retryAfter
	}
	return out, nil
}

func setIf(h http.Header, name, value string) {
	if value != "" {
		h.Set(name, value)
	}
}

// await asks for the order until it is decided, the time is nearly over, the
// client has gone or the process stops. The order is placed: whatever goes wrong here, it
// returns what is known.
func (g *Gateway) await(ctx context.Context, order doc[Order], wait time.Duration) doc[Order] {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	watched := make(chan struct{})
	defer close(watched)
	go func() {
		select {
		case <-g.config.Stopping:
			cancel()
		case <-watched:
		}
	}()
	for order.value.State == "placed" && ctx.Err() == nil {
		deadline, _ := ctx.Deadline()
		rest := (time.Until(deadline) - answerTime).Round(time.Millisecond)
		if rest <= 0 {
			break
		}
		c := call{
			service: orderSvc, path: orderPath(order.value.OrderID), query: url.Values{"wait": {rest.String()}},
			repeatable: true, try: rest + tryTime,
		}
		res, err := g.upstream.ask(ctx, c)
		if err == nil {
			if latest, err := parse[Order](orderSvc, res.body); err == nil {
				order = latest
				continue
			}
		}
		if pause(ctx, pauseTime) != nil {
			break
		}
	}
	return order
}

// cancelled is the problem of an order that was placed and then cancelled.
type cancelled struct {
	huma.ErrorModel
	OrderID string `json:"order_id"`
	State   string `json:"state"`
	Reason  string `json:"reason" doc:"out_of_stock, payment_declined, customer or deadline"`
}

func cancelledProblem(o Order) *cancelled {
	detail := "the order was placed and then cancelled: " + strings.ReplaceAll(o.Reason, "_", " ")
	if o.Detail != "" {
		detail += ": " + o.Detail
	}
	return &cancelled{
		ErrorModel: huma.ErrorModel{Status: http.StatusConflict, Title: "Order cancelled", Type: "urn:pavane:problem:order-cancelled", Detail: detail},
		OrderID:    o.OrderID, State: o.State, Reason: o.Reason,
	}
}

// placeResponses are the answers to a placed order that its kind of output does
// not tell.
func placeResponses(r huma.Registry) map[string]*huma.Response {
	problem := &huma.Schema{AnyOf: []*huma.Schema{
		r.Schema(reflect.TypeFor[cancelled](), true, "Cancelled"), r.Schema(reflect.TypeFor[huma.ErrorModel](), true, "Error"),
	}}
	return map[string]*huma.Response{
		"201": {
			Description: "the order is confirmed",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: doc[Order]{}.Schema(r)}},
		},
		"409": {
			Description: "the order is cancelled, or it is in conflict with an earlier one",
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		},
	}
}

type orderInput struct {
	ID string `path:"id" maxLength:"100" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]*$" patternDescription:"an order id" doc:"the order's id"`
}

type orderOutput struct {
	ETag string `header:"ETag"`
	Body orderBody
}

func (g *Gateway) cancel(ctx context.Context, in *orderInput) (*orderOutput, error) {
	// An order that is cancelled already is answered alike, so this may be repeated.
	c := call{service: orderSvc, method: http.MethodPost, path: orderPath(in.ID) + "/cancel", repeatable: true, try: placeTime}
	res, err := g.change(ctx, c)
	if err != nil {
		return nil, err
	}
	return oneOrder(res)
}

// change sends a call that changes an order.
func (g *Gateway) change(ctx context.Context, c call) (reply, error) {
	if err := failpoint.Hit(ctx, "gateway.before_call"); err != nil {
		return reply{}, err
	}
	res, err := g.upstream.ask(ctx, c)
	if err != nil {
		return reply{}, err
	}
	return res, failpoint.Hit(ctx, "gateway.after_call")
}

func oneOrder(res reply) (*orderOutput, error) {
	order, err := parse[Order](orderSvc, res.body)
	if err != nil {
		return nil, err
	}
	return &orderOutput{ETag: etag(order.value), Body: orderBody{order}}, nil
}

type showInput struct {
	ID          string   `path:"id" maxLength:"100" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]*$" patternDescription:"an order id" doc:"the order's id"`
	View        string   `query:"view" enum:"full" doc:"full: with what the other services hold of the order"`
	IfNoneMatch []string `header:"If-None-Match"`
}

func (g *Gateway) show(ctx context.Context, in *showInput) (*orderOutput, error) {
	if in.View == "full" {
		full, err := g.full(ctx, in.ID)
		return &orderOutput{Body: orderBody{full}}, err
	}
	res, err := g.upstream.ask(ctx, call{service: orderSvc, path: orderPath(in.ID), repeatable: true})
	if err != nil {
		return nil, err
	}
	out, err := oneOrder(res)
	if err != nil {
		return nil, err
	}
	if matches(in.IfNoneMatch, out.ETag) {
		return nil, huma.ErrorWithHeaders(huma.Status304NotModified(), http.Header{"ETag": {out.ETag}})
	}
	return out, nil
}

// etag is strong: an order's version grows with each of its changes of state.
// The effects that other services report change without it, so they are in, too.
func etag(o Order) string {
	bits := 0
	for i, done := range []bool{o.Effects.Captured, o.Effects.Voided, o.Effects.Shipped, o.Effects.Released} {
		if done {
			bits |= 1 << i
		}
	}
	if bits == 0 {
		return fmt.Sprintf(`"%d"`, o.Version)
	}
	return fmt.Sprintf(`"%d.%x"`, o.Version, bits)
}

// matches tells whether If-None-Match names the tag, by weak comparison
// (RFC 9110, 13.1.2).
func matches(headers []string, tag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == "*" || candidate == tag {
				return true
			}
		}
	}
	return false
}

type listInput struct {
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"how many at most"`
	After string `query:"after" pattern:"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" patternDescription:"an order id" doc:"the next of the page before"`
	State string `query:"state" enum:"placed,confirmed,cancelled" doc:"only orders of this state"`
}

type orderList struct {
	Orders []Order `json:"orders" nullable:"false"`
	Next   string  `json:"next,omitempty" doc:"the after of the next page; absent on the last one"`
}

type listOutput struct{ Body doc[orderList] }

func (g *Gateway) list(ctx context.Context, in *listInput) (*listOutput, error) {
	query := url.Values{"limit": {strconv.Itoa(in.Limit)}}
	if in.After != "" {
		query.Set("after", in.After)
	}
	if in.State != "" {
		query.Set("state", in.State)
	}
	res, err := g.upstream.ask(ctx, call{service: orderSvc, path: "/v1/orders", query: query, repeatable: true})
	if err != nil {
		return nil, err
	}
	orders, err := parse[orderList](orderSvc, res.body)
	return &listOutput{Body: orders}, err
}

// orderPath is the path of an order; an id from outside cannot leave it.
func orderPath(id string) string { return "/v1/orders/" + url.PathEscape(id) }
