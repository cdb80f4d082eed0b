package event

import "context"

type causeKey struct{}

// WithCause returns a context under which e is handled. The kit gives each handler
// of single events such a one; tests of a service may make their own.
func WithCause(ctx context.Context, e *Envelope) context.Context {
	return context.WithValue(ctx, causeKey{}, e)
}

// CauseOf returns the event that is handled under ctx, or nil. What a handler
// returns bears its cause by itself; this is for what it notes to be told later,
// when something outside has answered: the cause of that is stored beside it.
func CauseOf(ctx context.Context) *Envelope {
	e, _ := ctx.Value(causeKey{}).(*Envelope)
	return e
}
