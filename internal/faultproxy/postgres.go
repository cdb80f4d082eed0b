package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode"
)

// errNotPostgres ends a connection on which something else is spoken.
var errNotPostgres = errors.New("fault proxy: not a message of Postgres' protocol")

// Codes in the place of the version of the first message of a connection.
const (
	codeCancel = 80877102
	codeTLS    = 80877103
	codeGSS    = 80877104
)

// Kinds of requests that no statement names.
const (
	kindConnect = "CONNECT"
	kindPrepare = "PREPARE"
	kindClose   = "CLOSE"
	kindSync    = "SYNC"
)

// postgresTalk follows a session. A request is a simple query, or the messages
// of the extended protocol up to Sync; the server answers requests in turn and
// ends each answer with ReadyForQuery, so the n-th of these ends the n-th answer.
type postgresTalk struct {
	// Of the goroutine that reads requests.
	started    bool
	count      int32
	statements map[string]string // text by name of what is prepared
	portals    map[string]string // text by name of what is bound
	held       []byte            // messages of a request whose Sync has not come yet
	kind       string            // of that request as far as it is known

	answered int32 // of the goroutine that reads answers
}

func newPostgresTalk() *postgresTalk {
	return &postgresTalk{statements: map[string]string{}, portals: map[string]string{}}
}

// readPostgres reads a message with the byte of its type before it.
func readPostgres(r io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(head[1:])))
	if n < 4 {
		return nil, errNotPostgres
	}
	return readBody(r, head, n-4)
}

func (t *postgresTalk) answer(r *bufio.Reader) (frame, error) {
	b, err := readPostgres(r)
	if err != nil {
		return frame{}, err
	}
	f := frame{data: b, id: t.answered, last: b[0] == 'Z', asks: b[0] == 'R' || b[0] == 'G'} // for a password, for rows
	if f.last {
		t.answered++
	}
	return f, nil
}

func (t *postgresTalk) request(r *bufio.Reader) (frame, error) {
	if !t.started {
		return t.start(r)
	}
	b, err := readPostgres(r)
	if err != nil {
		return frame{}, err
	}
	body := b[5:]
	switch b[0] {
	case 'Q':
		return t.whole(b, firstWord(text(&body))), nil
	case 'P':
		name := text(&body)
		t.statements[name] = text(&body)
		t.know(kindPrepare)
	case 'B':
		portal, name := text(&body), text(&body)
		t.portals[portal] = t.statements[name]
	case 'E':
		t.run(firstWord(t.portals[text(&body)]))
	case 'C':
		t.forget(body)
		t.know(kindClose)
	case 'D':
	case 'S':
		t.know(kindSync)
		return t.whole(b, t.kind), nil
	default: // Flush, COPY, passwords, the end: nothing that is held may wait behind them
		f := frame{data: append(t.held, b...)}
		t.held = nil
		return f, nil
	}
	t.held = append(t.held, b...)
	return frame{}, nil
}

// start reads the first message, which has no type. What asks for encryption is
// refused, and the client begins again without.
func (t *postgresTalk) start(r *bufio.Reader) (frame, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	n := int(int32(binary.BigEndian.Uint32(head)))
	if n < 8 {
		return frame{}, errNotPostgres
	}
	b, err := readBody(r, head, n-8)
	if err != nil {
		return frame{}, err
	}
	switch binary.BigEndian.Uint32(b[4:]) {
	case codeTLS, codeGSS:
		return frame{reply: []byte{'N'}}, nil
	case codeCancel:
		return frame{data: b}, nil
	}
	t.started = true
	return t.whole(b, kindConnect), nil
}

// whole is a request that is complete with message b.
func (t *postgresTalk) whole(b []byte, kind string) frame {
	f := frame{data: append(t.held, b...), kind: kind, id: t.count}
	t.count++
	t.held, t.kind = nil, ""
	return f
}

// know gives the request a kind when nothing better is known.
func (t *postgresTalk) know(kind string) {
	if t.kind == "" {
		t.kind = kind
	}
}

// run gives the request the kind of the first statement it runs.
func (t *postgresTalk) run(kind string) {
	switch t.kind {
	case "", kindPrepare, kindClose:
		t.kind = kind
	}
}

// forget drops the statement or portal that a Close names.
func (t *postgresTalk) forget(body []byte) {
	if len(body) == 0 {
		return
	}
	of := t.portals
	if body[0] == 'S' {
		of = t.statements
	}
	body = body[1:]
	delete(of, text(&body))
}

// text takes a string that ends with a zero byte off the front of b.
func text(b *[]byte) string {
	s, rest, _ := bytes.Cut(*b, []byte{0})
	*b = rest
	return string(s)
}

// firstWord is the kind of a statement: its first word in upper case, with one
// word for those that mean the same.
func firstWord(statement string) string {
	statement = skipComments(statement)
	end := strings.IndexFunc(statement, func(r rune) bool { return !unicode.IsLetter(r) })
	if end < 0 {
		end = len(statement)
	}
	switch word := strings.ToUpper(statement[:end]); word {
	case "":
		return "EMPTY"
	case "START":
		return "BEGIN"
	case "END":
		return "COMMIT"
	case "ABORT":
		return "ROLLBACK"
	default:
		return word
	}
}

func skipComments(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n;(")
		switch {
		case strings.HasPrefix(s, "--"):
			_, s, _ = strings.Cut(s, "\n")
		case strings.HasPrefix(s, "/*"):
			_, s, _ = strings.Cut(s, "*/")
		default:
			return s
		}
	}
}
