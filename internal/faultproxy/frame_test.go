package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func message(kind byte, body string) []byte {
	b := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))...)
	return append(b, body...)
}

func startup() []byte {
	return append(binary.BigEndian.AppendUint32(nil, 13), 0, 3, 0, 0, 'u', 's', 'e', 'r', 0)
}

// kinds reads all requests of a client and checks that nothing of them is lost.
func kinds(t *testing.T, stream []byte) (all []string) {
	t.Helper()
	talk, r := newPostgresTalk(), bufio.NewReader(bytes.NewReader(stream))
	var passed []byte
	for {
		f, err := talk.request(r)
		if err != nil {
			break
		}
		passed = append(passed, f.data...)
		if f.kind != "" {
			all = append(all, f.kind)
		}
	}
	if !bytes.Equal(passed, stream) {
		t.Errorf("passed on %q, want %q", passed, stream)
	}
	return all
}

func TestPostgresRequest_KindIsThatOfTheStatementThatRuns(t *testing.T) {
	t.Parallel()
	sync, execute := message('S', ""), message('E', "\x00\x00\x00\x00\x00")
	stream := slices.Concat(
		startup(), message('p', "secret\x00"),
		message('Q', "begin\x00"),
		message('P', "s1\x00insert into t values ($1)\x00\x00\x00"), message('D', "Ss1\x00"), sync,
		message('P', "s2\x00 /* x */ update t\x00\x00\x00"), sync,
		message('B', "\x00s1\x00rest"), execute, sync,
		message('B', "\x00s2\x00rest"), execute, sync,
		message('P', "\x00(select 1)\x00\x00\x00"), message('B', "\x00\x00"), execute, sync,
		message('C', "Ss1\x00"), sync,
		message('B', "\x00s1\x00rest"), message('H', ""), execute, sync,
		message('Q', "START TRANSACTION\x00"), message('Q', ";end;\x00"), message('Q', "abort\x00"), message('Q', "-- no\x00"),
		message('Q', "copy t from stdin\x00"), message('d', "1"), message('c', ""),
		sync, message('X', ""),
	)
	want := []string{
		"CONNECT", "BEGIN", "PREPARE", "PREPARE", "INSERT", "UPDATE", "SELECT", "CLOSE", "EMPTY",
		"BEGIN", "COMMIT", "ROLLBACK", "EMPTY", "COPY", "SYNC",
	}
	if got := kinds(t, stream); !slices.Equal(got, want) {
		t.Errorf("kinds are\n%v, want\n%v", got, want)
	}
}

func TestPostgresRequest_TLSAndGSS_AreRefusedAndNotPassedOn(t *testing.T) {
	t.Parallel()
	talk := newPostgresTalk()
	var stream []byte
	for _, code := range []uint32{codeTLS, codeGSS} {
		stream = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(stream, 8), code)
	}
	r := bufio.NewReader(bytes.NewReader(append(stream, startup()...)))
	for range 2 {
		if f, err := talk.request(r); err != nil || string(f.reply) != "N" || len(f.data) > 0 || f.kind != "" {
			t.Fatalf("got %+v, %v", f, err)
		}
	}
	if f, err := talk.request(r); err != nil || f.kind != kindConnect {
		t.Fatalf("got %+v, %v", f, err)
	}
}

func TestKafkaAnswer_EveryVersion_LeadsToTheProxy(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster} {
		for version := range kmsg.RequestForKey(int16(key)).MaxVersion() + 1 {
			resp := kmsg.ResponseForKey(int16(key))
			resp.SetVersion(version)
			name(resp, "broker.example", 9092)
			got := kmsg.ResponseForKey(int16(key))
			got.SetVersion(version)
			head := 8
			if resp.IsFlexible() {
				head = 9
			}
			if err := got.ReadFrom(exchange(t, int16(key), version, resp)[head:]); err != nil {
				t.Fatalf("%s %d: %v", key.Name(), version, err)
			}
			host, port := named(got)
			if host != "127.0.0.1" || port != 19092 {
				t.Errorf("%s %d leads to %s:%d", key.Name(), version, host, port)
			}
		}
	}
}

// exchange sends a request and its answer through a conversation and returns the
// answer that reaches the client.
func exchange(t *testing.T, key, version int16, resp kmsg.Response) []byte {
	t.Helper()
	talk := newKafkaTalk(func(server string) (string, error) {
		if server != "broker.example:9092" {
			return "", errors.New("unexpected broker " + server)
		}
		return "127.0.0.1:19092", nil
	})
	head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(key)), uint16(version))
	f, err := talk.request(bufio.NewReader(bytes.NewReader(sized(append(head, 0, 0, 0, 7)))))
	if err != nil || f.kind != kmsg.NameForKey(key) || f.id != 7 {
		t.Fatalf("request: %+v, %v", f, err)
	}
	body := []byte{0, 0, 0, 7}
	if resp.IsFlexible() {
		body = append(body, 0)
	}
	f, err = talk.answer(bufio.NewReader(bytes.NewReader(sized(resp.AppendTo(body)))))
	if err != nil || f.id != 7 || !f.last || binary.BigEndian.Uint32(f.data) != uint32(len(f.data)-4) {
		t.Fatalf("answer: %+v, %v", f, err)
	}
	return f.data
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

func name(resp kmsg.Response, host string, port int32) {
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		r.Brokers = []kmsg.MetadataResponseBroker{{Host: host, Port: port}}
	case *kmsg.DescribeClusterResponse:
		r.Brokers = []kmsg.DescribeClusterResponseBroker{{Host: host, Port: port}}
	case *kmsg.FindCoordinatorResponse:
		r.Host, r.Port = host, port
		r.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Host: host, Port: port}}
	}
}

func named(resp kmsg.Response) (string, int32) {
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		return r.Brokers[0].Host, r.Brokers[0].Port
	case *kmsg.DescribeClusterResponse:
		return r.Brokers[0].Host, r.Brokers[0].Port
	case *kmsg.FindCoordinatorResponse:
		if len(r.Coordinators) > 0 {
			return r.Coordinators[0].Host, r.Coordinators[0].Port
		}
		return r.Host, r.Port
	}
	return "", 0
}

// drain reads a stream to its end or first fault.
func drain(t *testing.T, read func(*bufio.Reader) (frame, error), stream []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(stream))
	for range len(stream) + 1 {
		if _, err := read(r); err != nil {
			return
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error("more frames than bytes")
	}
}

func FuzzPostgres_Garbage_EndsTheConnectionOnly(f *testing.F) {
	f.Add(slices.Concat(startup(), message('Q', "begin\x00"), message('P', "s\x00select\x00")), message('Z', "I"))
	f.Add([]byte{0, 0, 0, 8, 4, 210, 22, 47}, []byte{'Z', 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, requests, answers []byte) {
		talk := newPostgresTalk()
		drain(t, talk.request, requests)
		drain(t, talk.answer, answers)
	})
}

func FuzzKafka_Garbage_EndsTheConnectionOnly(f *testing.F) {
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster, kmsg.Produce} {
		resp := kmsg.ResponseForKey(int16(key))
		name(resp, "h", 1)
		f.Add(sized([]byte{0, byte(key), 0, 0, 0, 0, 0, 7}), sized(resp.AppendTo([]byte{0, 0, 0, 7})))
	}
	f.Add([]byte{127, 255, 255, 255, 0}, []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, requests, answers []byte) {
		talk := newKafkaTalk(func(string) (string, error) { return "127.0.0.1:1", nil })
		drain(t, talk.request, requests)
		drain(t, talk.answer, answers)
	})
}
