package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

const (
	anyBroker   = -1
	maxResponse = 1 << 30 // bytes; a larger size means that the stream is out of step

	usualResponse = 4 << 20 // bytes; memory for so much is taken at once
)

// request is one Kafka request that this package writes and reads itself. It
// rides on the Transport as a RawExchanger: kafka-go's own types copy the
// records once when they write and take them apart into pages when they read.
type request struct {
	ctx         context.Context
	key         protocol.ApiKey
	version     int16 // the one version used; all brokers from 2.4 on know it
	broker      int32 // or anyBroker
	clientID    string
	correlation int32
	chunks      [][]byte // the body, in order; not copied

	// check may ask the broker something on the connection that the request is
	// about to take, and keep it from being sent by errWithheld. May be nil.
	check func(rw io.ReadWriter) error

	mu      sync.Mutex
	revoked bool
	written chan struct{} // closed when the chunks are no longer used; nil before the write begins
}

// response is the body after the response header.
type response struct {
	key  protocol.ApiKey
	body []byte
}

// ApiKey implements protocol.Message.
//
//lint:ignore ST1003 the interface names it so
func (r *response) ApiKey() protocol.ApiKey { return r.key }

// ApiKey implements protocol.Message.
//
//lint:ignore ST1003 the interface names it so
func (r *request) ApiKey() protocol.ApiKey { return r.key }

// Required implements protocol.RawExchanger.
func (r *request) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker implements protocol.BrokerMessage.
func (r *request) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	if r.broker == anyBroker {
		return protocol.Broker{ID: anyBroker}, nil
	}
	b, ok := cluster.Brokers[r.broker]
	if !ok {
		return b, fmt.Errorf("broker %d is not in the cluster", r.broker)
	}
	return b, nil
}

// send performs the request. When it returns, the chunks are free to be used
// again: the Transport leaves a cancelled request to its connection, which may
// still be writing.
func (c *Client) send(ctx context.Context, r *request) ([]byte, error) {
	r.ctx, r.clientID, r.correlation = ctx, c.config.ClientID, c.correlation.Add(1)
	defer r.revoke()
	if c.ctx.Err() != nil {
		return nil, errClosed
	}
	res, err := c.transport.RoundTrip(ctx, c.addr, r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded // the socket has the context's deadline and may notice it first
	}
	if err != nil {
		return nil, err
	}
	return res.(*response).body, nil
}

func (r *request) revoke() {
	r.mu.Lock()
	written := r.written
	r.revoked = true
	r.mu.Unlock()
	if written != nil {
		<-written
	}
}

func (r *request) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked {
		return false
	}
	r.written = make(chan struct{})
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *request) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if !r.begin() {
		return nil, context.Canceled
	}
	stop := func() bool { return true }
	if conn, ok := rw.(net.Conn); ok {
		// The Transport knows deadlines only. A cancelled request ends here, at
		// the price of its connection.
		stop = context.AfterFunc(r.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	}
	var err error
	if r.check != nil {
		err = r.check(rw)
	}
	if err == nil {
		err = r.write(rw)
	}
	close(r.written)
	var body []byte
	if err == nil {
		body, err = r.read(rw)
	}
	if !stop() {
		return nil, r.ctx.Err()
	}
	if err != nil && !errors.Is(err, errWithheld) { // that is no fault of the connection
		return nil, err
	}
	return &response{key: r.key, body: body}, nil
}

func (r *request) write(w io.Writer) error {
	size := 8 + 2 + len(r.clientID)
	for _, chunk := range r.chunks {
		size += len(chunk)
	}
	head := make([]byte, 0, 64)
	head = binary.BigEndian.AppendUint32(head, uint32(size))
	head = binary.BigEndian.AppendUint16(head, uint16(r.key))
	head = binary.BigEndian.AppendUint16(head, uint16(r.version))
	head = binary.BigEndian.AppendUint32(head, uint32(r.correlation))
	head = appendString(head, r.clientID)
	// Small chunks are gathered; a chunk larger than the buffer goes straight
	// to the socket.
	out := bufio.NewWriterSize(w, 16<<10)
	_, err := out.Write(head)
	for i := 0; i < len(r.chunks) && err == nil; i++ {
		_, err = out.Write(r.chunks[i])
	}
	if err == nil {
		err = out.Flush()
	}
	return err
}

func (r *request) read(rd io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(rd, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > maxResponse {
		return nil, fmt.Errorf("answer of %d bytes: not Kafka, or TLS is expected", size)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != r.correlation {
		return nil, fmt.Errorf("answer to request %d instead of %d", got, r.correlation)
	}
	return readBody(rd, int(size-4))
}

// readBody reads n bytes. Memory for more than a usual answer is taken as it
// comes: a size is only what the other side claims.
func readBody(rd io.Reader, n int) ([]byte, error) {
	body := make([]byte, min(n, usualResponse))
	have, err := io.ReadFull(rd, body)
	for err == nil && have < n {
		body = append(body, make([]byte, min(n-have, have))...)
		var more int
		more, err = io.ReadFull(rd, body[have:])
		have += more
	}
	return body, err
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendInt32(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(int32(n)))
}

func appendInt64(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}

var errShort = errors.New("answer or batch is cut short or malformed")

// decoder reads the fields of a response. After an error all fields are zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.err, d.b = errShort, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) int8() int8 {
	if v := d.take(1); v != nil {
		return int8(v[0])
	}
	return 0
}

func (d *decoder) int16() int16 {
	if v := d.take(2); v != nil {
		return int16(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (d *decoder) int32() int32 {
	if v := d.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if v := d.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

// string reads a nullable string; null is empty.
func (d *decoder) string() string {
	n := d.int16()
	if n < 0 {
		return ""
	}
	return string(d.take(int(n)))
}

// bytes reads nullable bytes.
func (d *decoder) bytes() []byte {
	n := d.int32()
	if n < 0 {
		return nil
	}
	return d.take(int(n))
}

// count reads the length of an array; null is empty. Every element has at
// least one byte, which bounds what a broken answer can make us do.
func (d *decoder) count() int {
	n := int(d.int32())
	if n > len(d.b) {
		d.err, d.b = errShort, nil
	}
	if n < 0 || d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.err, d.b = errShort, nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

// counted reads bytes after a varint length; -1 is null.
func (d *decoder) counted() []byte {
	n := d.varint()
	if n < 0 || d.err != nil {
		return nil
	}
	if n > int64(len(d.b)) {
		d.err, d.b = errShort, nil
		return nil
	}
	return d.take(int(n))
}
