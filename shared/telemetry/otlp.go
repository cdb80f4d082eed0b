package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	firstPause = 500 * time.Millisecond // between two tries of one export; it doubles
	longPause  = 5 * time.Second
	maxAnswer  = 64 << 10 // bytes of the collector's answer that are read
)

// otlp sends spans by OTLP/HTTP with binary protobuf, as the OpenTelemetry Protocol
// specification 1.x has it in its section of that name. OpenTelemetry's own client
// for it links gRPC, which would be a fifth of every binary.
type otlp struct {
	url     string
	headers http.Header
	gzip    bool
	client  *http.Client
}

// newOTLP reads the standard variables; setting gives the value of one, by what
// follows OTEL_EXPORTER_OTLP_ or, first, OTEL_EXPORTER_OTLP_TRACES_.
func newOTLP(setting func(string) string) (*otlp, error) {
	o := &otlp{url: os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), headers: http.Header{}}
	if o.url == "" {
		o.url = strings.TrimSuffix(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "/") + "/v1/traces"
	}
	for pair := range strings.SplitSeq(setting("HEADERS"), ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if decoded, err := url.PathUnescape(value); ok && err == nil {
			o.headers.Set(name, decoded)
		} else if pair != "" {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS (not shown): want name=value,name=value, the values percent-encoded")
		}
	}
	switch c := setting("COMPRESSION"); c {
	case "", "none":
	case "gzip":
		o.gzip = true
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION=%q: want gzip or none", c)
	}
	secure, err := collectorTLS(setting)
	if err != nil {
		return nil, err
	}
	o.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
	}}
	return o, nil
}

// collectorTLS is nil unless certificates are named.
func collectorTLS(setting func(string) string) (*tls.Config, error) {
	authorities, certificate, key := setting("CERTIFICATE"), setting("CLIENT_CERTIFICATE"), setting("CLIENT_KEY")
	if authorities == "" && certificate == "" && key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if authorities != "" {
		pem, err := os.ReadFile(authorities) // #nosec G304 -- who sets the environment names the file
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %s holds no certificate in PEM", authorities)
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Start is for clients that connect; this one does so with its first request.
func (o *otlp) Start(context.Context) error { return nil }

// Stop ends idle connections.
func (o *otlp) Stop(context.Context) error {
	o.client.CloseIdleConnections()
	return nil
}

// UploadTraces sends spans until the collector has them, refuses them for good, or
// ctx ends.
func (o *otlp) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire the same as ExportTraceServiceRequest, whose package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("write spans: %w", err)
	}
	if o.gzip {
		body = compressed(body)
	}
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		after, err := o.post(ctx, body)
		if err == nil || after < 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(max(pause, after)):
		}
	}
}

// post sends one request. With an error it returns the least pause before the next
// try, or a negative one when there is no use in trying.
func (o *otlp) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	req.Header = o.headers.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	if o.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := o.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		if n, why := rejected(answer); n > 0 {
			return -1, fmt.Errorf("the collector took all but %d spans: %.200q", n, why)
		}
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return time.Duration(max(seconds, 0)) * time.Second, fmt.Errorf("the collector answers %s", res.Status)
	default:
		return -1, fmt.Errorf("the collector answers %s", res.Status)
	}
}

// rejected reads out of an ExportTraceServiceResponse how many spans were not
// taken, and why: message partial_success = 1 { int64 rejected_spans = 1; string
// error_message = 2 }.
func rejected(answer []byte) (n uint64, why string) {
	part, ok := field(answer, 1)
	if !ok {
		return 0, ""
	}
	inner, _ := protowire.ConsumeBytes(part)
	if count, ok := field(inner, 1); ok {
		n, _ = protowire.ConsumeVarint(count)
	}
	if text, ok := field(inner, 2); ok {
		b, _ := protowire.ConsumeBytes(text)
		why = string(b)
	}
	return n, why
}

// field finds a field of a message; what it returns begins with its value.
func field(message []byte, wanted protowire.Number) ([]byte, bool) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, false
		}
		message = message[n:]
		if number == wanted {
			return message, true
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil, false
		}
		message = message[n:]
	}
	return nil, false
}

func compressed(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b) //nolint:errcheck // a buffer takes everything
	w.Close()  //nolint:errcheck // as above
	return out.Bytes()
}
