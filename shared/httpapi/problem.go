package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"pavane/shared/fault"
)

// retryAfter is what a client is told to wait after a 503 that does not say.
const retryAfter = time.Second

// TypeBusy is the type of the problem with which a service in order refuses new
// work because it has too much: 503, and asking another instance is no use.
const TypeBusy = "urn:pavane:problem:busy"

// maxDetails is how many wrong fields an answer names.
const maxDetails = 20

// Register binds an operation to s. When h returns an error, its class decides:
// Invalid 422, NotFound 404, Conflict 409, Unavailable and a deadline 503 with
// Retry-After, all others 500 without a word about the inside. The text of the
// first three goes to the caller, so it must be fit for one. An error that brings
// its own status (huma.StatusError) keeps it. An error with a method
// RetryAfter() time.Duration sets that header; one with a method Busy() string
// is told to the caller as a problem of [TypeBusy].
func Register[I, O any](s *Server, op huma.Operation, h func(context.Context, *I) (*O, error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = s.config.MaxBodyBytes
	}
	op.Middlewares = append(op.Middlewares, s.refuseEmpty)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		bodyRead(ctx)
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return out, nil
	})
}

// problemOf turns an error of a handler into what the caller may see of it.
func (s *Server) problemOf(ctx context.Context, err error) error {
	var own huma.StatusError
	if errors.As(err, &own) {
		return err
	}
	status := statusOf(err)
	switch {
	case status == http.StatusServiceUnavailable:
		s.config.Logger.WarnContext(ctx, "unavailable", "error", err, "request_id", RequestID(ctx))
		p := newProblem(status, "something this needs does not answer now; try again later")
		var b interface{ Busy() string }
		if errors.As(err, &b) {
			p.Type, p.Detail = TypeBusy, b.Busy()
		}
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {seconds(err)}})
	case status >= http.StatusInternalServerError:
		if ctx.Err() == nil { // else the caller went away, and that is the error
			s.config.Logger.ErrorContext(ctx, "request failed", "error", err, "request_id", RequestID(ctx))
		}
		return newProblem(status, "")
	default:
		return newProblem(status, err.Error())
	}
}

func statusOf(err error) int {
	switch fault.ClassOf(err) {
	case fault.ClassInvalid:
		return http.StatusUnprocessableEntity
	case fault.ClassNotFound:
		return http.StatusNotFound
	case fault.ClassConflict:
		return http.StatusConflict
	case fault.ClassUnavailable:
		return http.StatusServiceUnavailable
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// seconds is the value of Retry-After, rounded up, at least 1.
func seconds(err error) string {
	wait := retryAfter
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		wait = max(wait, r.RetryAfter())
	}
	return strconv.Itoa(int((wait + time.Second - 1) / time.Second))
}

func newProblem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

// WriteProblem answers a request outside the OpenAPI document with an RFC 9457
// problem. The detail must say what to mend; for statuses from 500 on it is not
// sent, because nobody outside can mend those, except for 502, 503 and 504.
func WriteProblem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	p := newProblem(status, detail)
	finish(p, RequestID(r.Context()))
	h := w.Header()
	h.Del("Content-Length") // of an answer that is not sent
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", seconds(nil))
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		json.NewEncoder(w).Encode(p) //nolint:errcheck,errchkjson // the client is gone
	}
}

// internal answers 500 and keeps the reason in the log.
func (s *Server) internal(w http.ResponseWriter, r *http.Request, err error) {
	s.config.Logger.ErrorContext(r.Context(), "request failed", "error", err, "request_id", RequestID(r.Context()))
	WriteProblem(w, r, http.StatusInternalServerError, "")
}

// finishProblem is huma's last look at every answer: it completes the problems.
func (s *Server) finishProblem(ctx huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*huma.ErrorModel); ok {
		if p.Status == http.StatusInternalServerError && len(p.Errors) > 0 {
			s.config.Logger.ErrorContext(ctx.Context(), "request failed", "error", p.Errors[0], "request_id", RequestID(ctx.Context()))
		}
		finish(p, RequestID(ctx.Context()))
	}
	return v, nil
}

// finish says what to mend, names the request, and keeps back what the caller
// must not see or need not get back.
func finish(p *huma.ErrorModel, requestID string) {
	if requestID != "" {
		p.Instance = "urn:pavane:request:" + requestID
	}
	switch p.Status {
	case http.StatusInternalServerError, http.StatusNotImplemented:
		p.Detail = "the request failed inside the service; its instance names it in the log"
		p.Errors = nil
	case http.StatusUnsupportedMediaType:
		p.Detail = "the body has a content type that is not read here; send application/json"
		p.Errors = nil
	case http.StatusRequestEntityTooLarge:
		p.Detail = strings.TrimSpace(p.Detail + "; send a smaller one")
	case http.StatusBadRequest:
		if p.Detail == "validation failed" {
			p.Detail = "the body is not well-formed JSON"
		}
	case http.StatusUnprocessableEntity:
		if p.Detail == "validation failed" {
			p.Detail = "the request is well formed but wrong; errors says where and what is expected"
		}
	}
	if len(p.Errors) > maxDetails {
		p.Errors = p.Errors[:maxDetails]
	}
	for _, e := range p.Errors {
		e.Value = nil // it may be a card's number, and the client has it
	}
}
