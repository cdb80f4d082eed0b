package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pavane/internal/devstack"
	"pavane/shared/postgres"
)

// certificate writes name.pem and name.key for 127.0.0.1, signed by itself.
func certificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	return cert, key
}

// TestOpen_VerifyFull_TrustsTheAuthorityOfTheURLAlone speaks TLS with a server of its own.
func TestOpen_VerifyFull_TrustsTheAuthorityOfTheURLAlone(t *testing.T) {
	t.Parallel()
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{NoSync: true})
	must(t, err)
	t.Cleanup(func() { _ = server.Stop(t.Context()) })
	data, err := postgres.Open(postgres.Config{URL: server.URL("postgres")})
	must(t, err)
	defer data.Close()
	var dir string
	must(t, data.SQL().QueryRow(`show data_directory`).Scan(&dir))
	cert, key := certificate(t, dir, "server")
	must(t, chownLike(key, dir))
	must(t, chownLike(cert, dir))
	for _, s := range []string{
		`alter system set ssl_cert_file = 'server.pem'`, `alter system set ssl_key_file = 'server.key'`, `alter system set ssl = on`, `select pg_reload_conf()`,
	} {
		_, err := data.SQL().Exec(s)
		must(t, err)
	}
	other, _ := certificate(t, t.TempDir(), "other")
	with := func(changes ...string) error {
		u, err := url.Parse(server.URL("postgres"))
		must(t, err)
		q := url.Values{}
		for i := 0; i < len(changes); i += 2 {
			q.Set(changes[i], changes[i+1])
		}
		u.RawQuery = q.Encode()
		db, err := postgres.Open(postgres.Config{URL: u.String()})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.Ping(t.Context())
	}
	awaitTLS(t, func() error { return with("sslmode", "require") })
	if err := with("sslmode", "verify-full", "sslrootcert", cert); err != nil {
		t.Errorf("the server's own authority: %v", err)
	}
	if err := with("sslrootcert", cert); err != nil {
		t.Errorf("without sslmode: %v", err)
	}
	for name, err := range map[string]error{
		"another authority": with("sslmode", "verify-full", "sslrootcert", other), "the system's authorities": with("sslmode", "verify-full"),
	} {
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v, want the certificate refused", name, err)
		}
	}
	if err := with("sslmode", "verify-full", "sslrootcert", filepath.Join(t.TempDir(), "nowhere.pem")); err == nil || !strings.Contains(err.Error(), "nowhere.pem") {
		t.Errorf("a missing file: %v, want an error that names it", err)
	}
}

func awaitTLS(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no TLS: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// chownLike gives a file to the owner of another one: as root, the server runs as somebody else.
func chownLike(name, other string) error {
	info, err := os.Stat(other)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return os.Chown(name, int(owner.Uid), int(owner.Gid))
}
