package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pavane/shared/broker"
)

// authority signs certificates into files of a directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.renew(t)
	return a
}

// renew makes the authority another one, in the same files.
func (a *authority) renew(t *testing.T) {
	t.Helper()
	a.cert, a.key = nil, nil
	a.cert, a.key = a.sign(t, "ca")
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes name.pem and name.key. The first certificate signs itself and all others.
func (a *authority) sign(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return cert, key
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecurity_BadSettings_AreRefusedWithTheRemedy(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.sign(t, "client")
	a.sign(t, "other")
	bad := a.file("bad.pem")
	must(t, os.WriteFile(bad, []byte("not PEM"), 0o600))
	for name, c := range map[string]struct {
		s    broker.Security
		want string
	}{
		"missing CA":           {broker.Security{TLS: true, CAFile: a.file("nowhere.pem")}, "nowhere.pem"},
		"CA that is no PEM":    {broker.Security{TLS: true, CAFile: bad}, "holds no certificate"},
		"CA without TLS":       {broker.Security{CAFile: a.file("ca.pem")}, "TLS is off"},
		"half a pair":          {broker.Security{TLS: true, CertFile: a.file("client.pem")}, "set both"},
		"the other half":       {broker.Security{TLS: true, KeyFile: a.file("client.key")}, "set both"},
		"another one's key":    {broker.Security{TLS: true, CertFile: a.file("client.pem"), KeyFile: a.file("other.key")}, "its own key"},
		"missing certificate":  {broker.Security{TLS: true, CertFile: a.file("x.pem"), KeyFile: a.file("x.key")}, "x.pem"},
		"mechanism alone":      {broker.Security{Mechanism: "SCRAM-SHA-512"}, "_USER"},
		"no password":          {broker.Security{Mechanism: "SCRAM-SHA-512", User: "u"}, "_PASSWORD"},
		"user alone":           {broker.Security{User: "u"}, "_MECHANISM"},
		"password in clear":    {broker.Security{Mechanism: "PLAIN", User: "u", Password: "hidden"}, "in the clear"},
		"no mechanism of ours": {broker.Security{TLS: true, Mechanism: "GSSAPI", User: "u", Password: "hidden"}, "GSSAPI"},
	} {
		err := c.s.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	for name, s := range map[string]broker.Security{
		"nothing": {}, "TLS alone": {TLS: true}, "SCRAM without TLS": {Mechanism: "SCRAM-SHA-256", User: "u", Password: "p"},
		"all": {TLS: true, CAFile: a.file("ca.pem"), CertFile: a.file("client.pem"), KeyFile: a.file("client.key"), Mechanism: "PLAIN", User: "u", Password: "p"},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// proof tells what a TLS server saw of its client: the client's certificate, or the error of the handshake.
func proof(t *testing.T, a *authority) (addr string, seen <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	found := make(chan string, 64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			pair, _ := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
			server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12})
			if err := server.Handshake(); err != nil {
				found <- err.Error()
			} else {
				found <- server.ConnectionState().PeerCertificates[0].SerialNumber.String()
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), found
}

// TestSecurity_ExchangedCertificates_AreShownByNewConnections exchanges client certificate and authority under a client.
func TestSecurity_ExchangedCertificates_AreShownByNewConnections(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.sign(t, "server")
	first, _ := a.sign(t, "client")
	addr, seen := proof(t, a)
	s := broker.Security{TLS: true, CAFile: a.file("ca.pem"), CertFile: a.file("client.pem"), KeyFile: a.file("client.key")}
	must(t, s.Validate())
	c, err := broker.Dial(s.Secure(broker.Config{Brokers: []string{addr}}))
	must(t, err)
	defer c.Close()
	ask := func() string {
		_, _ = c.ClusterID(t.Context()) // fails: nobody speaks Kafka there
		return <-seen
	}
	if got := ask(); got != first.SerialNumber.String() {
		t.Fatalf("the server saw %s, want certificate %s", got, first.SerialNumber)
	}
	a.renew(t)
	second, _ := a.sign(t, "client")
	// The server still has the old authority's certificate, which the client refuses now.
	for got := ""; !strings.Contains(got, "bad certificate"); got = ask() {
		if got == second.SerialNumber.String() {
			t.Fatal("a server with a certificate of the old authority is trusted")
		}
	}
	a.sign(t, "server")
	for got := ""; got != second.SerialNumber.String(); got = ask() {
		if got == first.SerialNumber.String() {
			t.Fatal("a new connection shows the old certificate")
		}
	}
}
