package faultproxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// errNotKafka ends a connection on which something else is spoken.
var errNotKafka = errors.New("fault proxy: not a frame of Kafka's protocol")

// kafkaTalk follows a connection to a broker. An answer belongs to the request
// with its correlation id.
type kafkaTalk struct {
	front func(server string) (string, error) // where the proxy listens for a broker

	mu    sync.Mutex
	asked map[int32]kafkaRequest // that await their answer
}

type kafkaRequest struct{ key, version int16 }

func newKafkaTalk(front func(string) (string, error)) *kafkaTalk {
	return &kafkaTalk{front: front, asked: map[int32]kafkaRequest{}}
}

// readKafka reads a frame with its size before it.
func readKafka(r io.Reader, least int) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(head)))
	if n < least {
		return nil, errNotKafka
	}
	return readBody(r, head, n)
}

func (k *kafkaTalk) request(r *bufio.Reader) (frame, error) {
	b, err := readKafka(r, 8) // key, version, correlation id
	if err != nil {
		return frame{}, err
	}
	q := kafkaRequest{int16(binary.BigEndian.Uint16(b[4:])), int16(binary.BigEndian.Uint16(b[6:]))}
	f := frame{data: b, id: int32(binary.BigEndian.Uint32(b[8:])), kind: kmsg.NameForKey(q.key)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[f.id] = q
	return f, nil
}

func (k *kafkaTalk) answer(r *bufio.Reader) (frame, error) {
	b, err := readKafka(r, 4) // correlation id
	if err != nil {
		return frame{}, err
	}
	f := frame{data: b, id: int32(binary.BigEndian.Uint32(b[4:])), last: true}
	k.mu.Lock()
	q, ok := k.asked[f.id]
	delete(k.asked, f.id)
	k.mu.Unlock()
	if ok {
		f.data, err = k.readdress(q, b)
	}
	return f, err
}

// readdress puts the proxy's addresses in the place of the brokers', so that
// clients do not go past it.
func (k *kafkaTalk) readdress(q kafkaRequest, b []byte) ([]byte, error) {
	switch kmsg.Key(q.key) {
	case kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster:
	default:
		return b, nil
	}
	resp := kmsg.ResponseForKey(q.key)
	if q.version < 0 || q.version > resp.MaxVersion() {
		return nil, fmt.Errorf("fault proxy: %s of version %d is not known", kmsg.NameForKey(q.key), q.version)
	}
	resp.SetVersion(q.version)
	body := 8
	if resp.IsFlexible() {
		body++ // the header's tags: none is defined
	}
	if len(b) < body || resp.IsFlexible() && b[body-1] != 0 {
		return nil, errNotKafka
	}
	if err := resp.ReadFrom(b[body:]); err != nil {
		return nil, fmt.Errorf("fault proxy: answer to %s: %w", kmsg.NameForKey(q.key), err)
	}
	if err := k.replace(resp); err != nil {
		return nil, err
	}
	out := resp.AppendTo(b[:body:body])
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

func (k *kafkaTalk) replace(resp kmsg.Response) error {
	var errs []error
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			errs = append(errs, k.move(&r.Brokers[i].Host, &r.Brokers[i].Port))
		}
	case *kmsg.DescribeClusterResponse:
		for i := range r.Brokers {
			errs = append(errs, k.move(&r.Brokers[i].Host, &r.Brokers[i].Port))
		}
	case *kmsg.FindCoordinatorResponse:
		errs = append(errs, k.move(&r.Host, &r.Port))
		for i := range r.Coordinators {
			errs = append(errs, k.move(&r.Coordinators[i].Host, &r.Coordinators[i].Port))
		}
	}
	return errors.Join(errs...)
}

// move turns the address of a broker into the proxy's for it. An answer that
// names none has an empty host.
func (k *kafkaTalk) move(host *string, port *int32) error {
	if *host == "" || *port < 1 || *port > 65535 {
		return nil
	}
	addr, err := k.front(net.JoinHostPort(*host, strconv.Itoa(int(*port))))
	if err != nil {
		return err
	}
	h, p, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(p, 10, 32)
	*host, *port = h, int32(n)
	return err
}
