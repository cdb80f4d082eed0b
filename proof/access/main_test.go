// Package access_test proves who may do what: it starts a real Kafka with TLS, SASL/SCRAM and access control, grants what
// deploy/kafka/acls.sh grants, and tries every principal on every topic and group with every operation.
//
// With PAVANE_PROOF=ci, that is: it needs Java, Maven, and the binaries of `make build` in PAVANE_BIN, for it also runs
// the whole saga.
package access_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"pavane/internal/devstack"
)

const (
	namespace  = "secured."
	patience   = 8 * time.Minute
	iterations = 4096
)

// cluster is a secured Kafka with a user per principal, whose passwords are in files of their names.
type cluster struct {
	kafka     *devstack.Kafka
	ca        string // file
	pool      *x509.CertPool
	users     string // directory
	passwords map[string]string
	admin     *kgo.Client
	topics    []string
}

func principals() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc", "migrate", "audit"}
}

func start(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	c := &cluster{ca: filepath.Join(dir, "ca.pem"), users: filepath.Join(dir, "users"), passwords: map[string]string{}, pool: x509.NewCertPool()}
	store := filepath.Join(dir, "kafka.pem")
	c.certificates(t, store)
	var err error
	c.kafka, err = devstack.StartKafka(ctx, devstack.KafkaConfig{Secure: &devstack.KafkaSecurity{KeyStore: store}})
	must(t, err)
	t.Cleanup(func() { must(t, c.kafka.Stop(context.WithoutCancel(t.Context()))) })
	c.admin, err = kgo.NewClient(kgo.SeedBrokers(c.kafka.Addr()))
	must(t, err)
	t.Cleanup(c.admin.Close)
	must(t, os.Mkdir(c.users, 0o700))
	for _, p := range principals() {
		c.passwords[p] = rand.Text()
		must(t, os.WriteFile(filepath.Join(c.users, p), []byte(c.passwords[p]+"\n"), 0o600))
	}
	c.makeUsers(ctx, t)
	c.grant(ctx, t)
	return c
}

// certificates writes an authority's certificate, and the server's key with the certificate that it signed.
func (c *cluster) certificates(t *testing.T, store string) {
	t.Helper()
	caKey, serverKey := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(t, err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, &serverKey.PublicKey, caKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	must(t, err)
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverDER})...)
	must(t, os.WriteFile(c.ca, caPEM, 0o600))
	must(t, os.WriteFile(store, both, 0o600))
	c.pool.AppendCertsFromPEM(caPEM)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// makeUsers gives each principal its SCRAM credentials.
func (c *cluster) makeUsers(ctx context.Context, t *testing.T) {
	t.Helper()
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	for _, p := range principals() {
		salt := []byte(rand.Text())
		salted, err := pbkdf2.Key(sha512.New, c.passwords[p], salt, iterations, sha512.Size)
		must(t, err)
		up := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		up.Name, up.Mechanism, up.Iterations, up.Salt, up.SaltedPassword = p, 2, iterations, salt, salted
		req.Upsertions = append(req.Upsertions, up)
	}
	res, err := req.RequestWith(ctx, c.admin)
	must(t, err)
	for _, r := range res.Results {
		must(t, kerr.ErrorForCode(r.ErrorCode))
	}
}

// grant runs deploy/kafka/acls.sh with Kafka's own tool.
func (c *cluster) grant(ctx context.Context, t *testing.T) {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "kafka-acls.sh")
	must(t, os.WriteFile(tool, fmt.Appendf(nil, "#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -Xmx128m -cp '%s/*' org.apache.kafka.tools.AclCommand \"$@\"\n", c.kafka.Jars()), 0o700))
	cmd := exec.CommandContext(ctx, "../../deploy/kafka/acls.sh", "--bootstrap-server", c.kafka.Addr())
	cmd.Env = append(os.Environ(), "KAFKA_ACLS="+tool, "NAMESPACE="+namespace)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("acls.sh: %v\n%s", err, out)
	}
}

// as is a client of one principal, over TLS. It speaks an older protocol, in which topics go by name.
func (c *cluster) as(t *testing.T, principal string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(c.kafka.SecureAddr()), kgo.DialTLSConfig(&tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}),
		kgo.SASL(scram.Auth{User: principal, Pass: c.passwords[principal]}.AsSha512Mechanism()), kgo.MaxVersions(kversion.V2_8_0()),
		kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
