package broker

import (
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// The classes of errors, for errors.Is. The text of an error names the topic,
// the partition and what the broker said.
var (
	// ErrUnavailable means the outcome is unknown or nothing happened: no
	// route, no leader, a timeout, too few replicas. Send the same again, for
	// ever; everything not named by another class is of this one.
	ErrUnavailable = errors.New("kafka unavailable")
	// ErrSequenceGap means the broker does not know the batch before this one
	// (45 out of order sequence, 59 unknown producer; KIP-360): it lost records
	// or the producer's state, or the batch is an old one; or the log ends before
	// what the batch follows. Nothing was written.
	ErrSequenceGap = errors.New("kafka: sequence gap")
	// ErrFenced means a newer epoch of this producer id is at work (47, 90).
	// Nothing was written; stop sending as this producer.
	ErrFenced = errors.New("kafka: producer fenced by a newer epoch")
	// ErrRefused means the batch was refused for what it holds: too large, not
	// valid, against a policy (10, 18, 44, 87). Sending it again cannot help. A
	// batch that arrived damaged (2) or bears a time the broker's clock does not
	// accept (32) is not among them: that lies in the network or the clocks.
	ErrRefused = errors.New("kafka refused the records")
	// ErrForbidden means the client may not do this (29, 30, 31, 53, 58).
	ErrForbidden = errors.New("kafka: not authorised")
	// ErrOffsetRange means the log does not hold the offset asked for. Never
	// skip over it: records are missing, or the log is another one.
	ErrOffsetRange = errors.New("kafka: offset out of range")

	errClosed = errors.New("client is closed")
)

// Codes of the Kafka protocol (kafka.apache.org/protocol, error codes) that
// this package tells apart by number.
const (
	codeOffsetOutOfRange  = 1
	codeTopicExists       = 36
	codeDuplicateSequence = 46
)

// class sorts a protocol error code into one of the error classes.
func class(code int16) error {
	switch code {
	case codeOffsetOutOfRange:
		return ErrOffsetRange
	case 10, 18, 44, 87:
		return ErrRefused
	case 29, 30, 31, 53, 58:
		return ErrForbidden
	case 45, 59:
		return ErrSequenceGap
	case 47, 90:
		return ErrFenced
	}
	return ErrUnavailable
}

// answered turns an error code of the broker into an error of its class. The
// broker's own words are preferred where it sent some.
func answered(what string, code int16, message string) error {
	if code == 0 {
		return nil
	}
	title := "unknown error"
	if e := kafka.Error(code); e.Title() != "" {
		title = e.Title()
	}
	if message != "" {
		title += ": " + message
	}
	return fmt.Errorf("%s: %w: %s (code %d)", what, class(code), title, code)
}

// unavailable wraps an error that came without an answer of the broker, such
// as a lost connection. Refused credentials are the exception.
func unavailable(what string, err error) error {
	var code kafka.Error
	if errors.As(err, &code) && class(int16(code)) == ErrForbidden {
		return fmt.Errorf("%s: %w: %w", what, ErrForbidden, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}
