package faultproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
)

// frame is what passes at once in one direction.
type frame struct {
	data  []byte // to be passed on; may be empty
	reply []byte // for the client from the proxy itself
	kind  string // of a request that will be answered; "" for all else
	id    int32  // of the request, or of the one that is being answered
	last  bool   // the answer ends here
	asks  bool   // the answer goes on when the client has replied to this
}

// conversation cuts the two streams of a connection into frames. request and
// answer are called from one goroutine each.
type conversation interface {
	request(r *bufio.Reader) (frame, error)
	answer(r *bufio.Reader) (frame, error)
}

// link is a client's connection and the one to the server that belongs to it.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	talk           conversation

	mu      sync.Mutex
	waiting map[int32]*Strike // what will strike the answers that are awaited
	silent  bool              // nothing passes any more

	held []byte // of an answer that waits to be lost; of the goroutine that reads answers
}

func newLink(p *Proxy, client, server net.Conn) *link {
	l := &link{proxy: p, client: client, server: server, waiting: map[int32]*Strike{}}
	if p.cfg.Protocol == Kafka {
		l.talk = newKafkaTalk(p.front)
	} else {
		l.talk = newPostgresTalk()
	}
	return l
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// requests passes on what the client says, until it ends. The server then sees
// the end of the stream behind all that was said, as it would without a proxy.
func (l *link) requests() {
	r := bufio.NewReader(l.client)
	for {
		f, err := l.talk.request(r)
		if err != nil {
			break
		}
		if len(f.reply) > 0 && l.proxy.pass() {
			_, _ = l.client.Write(f.reply) // a client that is gone shows when it is read
		}
		if f.kind != "" && !l.strikeRequest(f) {
			return
		}
		if l.isSilent() {
			continue
		}
		if !l.proxy.pass() {
			break
		}
		if _, err := l.server.Write(f.data); err != nil {
			break
		}
	}
	if half, ok := l.server.(interface{ CloseWrite() error }); ok && !l.isSilent() && l.proxy.pass() {
		_ = half.CloseWrite()
		return
	}
	l.close()
}

// strikeRequest lets the due fault strike a request, or its answer later; false:
// the connection is over.
func (l *link) strikeRequest(f frame) bool {
	if l.isSilent() {
		return true
	}
	s := l.proxy.take(f.kind)
	if s == nil {
		return true
	}
	if s.fault.answered() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting[f.id] = s
		return true
	}
	if s.fault == CutBefore {
		return !l.proxy.strike(s, l.close)
	}
	if !l.proxy.wait(s.hold, s.back) {
		return false
	}
	l.proxy.strike(s, func() {}) // Late: it is handed over now
	return true
}

// answers passes on what the server says. A client that has gone does not end
// it: the server carries out what it was asked and finds out by itself.
func (l *link) answers() {
	r := bufio.NewReader(l.server)
	for {
		f, err := l.talk.answer(r)
		if err != nil {
			break
		}
		passes, goesOn := l.strikeAnswer(f)
		if !goesOn {
			return
		}
		if f.last && !l.proxy.delay() || !l.proxy.pass() {
			break
		}
		if !l.isSilent() {
			_, _ = l.client.Write(passes) // see above
		}
	}
	l.proxy.pass() // an end, too, does not come through before
	if !l.isSilent() {
		l.close()
	}
}

// strikeAnswer lets the fault that waits for this answer strike, and returns what
// passes; false: the connection is over.
func (l *link) strikeAnswer(f frame) (passes []byte, goesOn bool) {
	passes, s := l.gather(f)
	if s == nil {
		return passes, true
	}
	struck := l.proxy.strike(s, func() {
		switch s.fault {
		case Drop:
			l.silence()
		case Cut:
			l.close()
		}
	})
	switch {
	case struck && s.fault == Cut:
		return nil, false
	case struck && s.fault == Delay:
		return passes, l.proxy.wait(s.hold, s.back)
	}
	return passes, true
}

// gather returns what of an answer may pass, and the strike that is due at it; nil:
// none. What waits to be lost is held until it is there as a whole: the strike may
// be taken back.
func (l *link) gather(f frame) (passes []byte, due *Strike) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.waiting[f.id]
	if s == nil {
		return f.data, nil
	}
	l.held = append(l.held, f.data...)
	if s.fault != Delay && !f.last {
		if f.asks { // else the whole of it would never come
			passes, l.held = l.held, nil
		}
		return passes, nil
	}
	delete(l.waiting, f.id)
	passes, l.held = l.held, nil
	return passes, s
}

func (l *link) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = true
}

func (l *link) isSilent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// rearm gives back the strikes whose answers never came, when the link is over.
func (l *link) rearm() {
	l.proxy.again(slices.Collect(maps.Values(l.waiting)))
}

// maxFrame bounds what one side may say at once; more is no sane message.
const maxFrame = 256 << 20

// readBody appends the n bytes of a frame that follow to head. Memory grows with
// what comes, not with what was announced.
func readBody(r io.Reader, head []byte, n int) ([]byte, error) {
	if n < 0 || n > maxFrame {
		return nil, fmt.Errorf("fault proxy: frame of %d bytes", n)
	}
	b := bytes.NewBuffer(head)
	if _, err := io.CopyN(b, r, int64(n)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
