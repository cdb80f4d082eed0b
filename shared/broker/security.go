package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Security says how a client and the brokers prove to each other who they are.
// Its fields are settings for shared/config; the zero value is a plain
// connection without a user.
type Security struct {
	TLS      bool   `default:"false" desc:"speak TLS with Kafka"`
	CAFile   string `desc:"PEM file of the authorities that sign the brokers' certificates, read again for each connection; empty: the system's"`
	CertFile string `desc:"PEM file of the client's certificate, with its chain, read again for each connection; empty: none is shown"`
	KeyFile  string `desc:"PEM file of that certificate's private key"`

	Mechanism string `desc:"SASL mechanism of Kafka: SCRAM-SHA-512, SCRAM-SHA-256, or PLAIN over TLS; empty: no SASL"`
	User      string `desc:"user for SASL"`
	Password  string `secret:"true" desc:"password for SASL, read once at the start"`
}

// Validate refuses settings that contradict each other, and files that are not
// there or hold no certificate.
func (s Security) Validate() error {
	var errs []error
	if !s.TLS && (s.CAFile != "" || s.CertFile != "" || s.KeyFile != "") {
		errs = append(errs, errors.New("a certificate's file is set but TLS is off: set …_TLS to true, or unset …_CA_FILE, …_CERT_FILE and …_KEY_FILE"))
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		errs = append(errs, fmt.Errorf("…_CERT_FILE=%q, …_KEY_FILE=%q: set both, or none for no client certificate", s.CertFile, s.KeyFile))
	} else if s.TLS {
		if _, err := s.tlsConfig(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.validateSASL())...)
}

func (s Security) validateSASL() error {
	switch {
	case s.Mechanism == "" && (s.User != "" || s.Password != ""):
		return errors.New("a user or password is set but no …_MECHANISM: set it to SCRAM-SHA-512")
	case s.Mechanism == "":
		return nil
	case s.User == "" || s.Password == "":
		return fmt.Errorf("…_MECHANISM=%s needs …_USER and …_PASSWORD (or …_PASSWORD_FILE); one of them is empty", s.Mechanism)
	case s.Mechanism == "PLAIN" && !s.TLS:
		return errors.New("…_MECHANISM=PLAIN without TLS sends the password in the clear: set …_TLS to true, or take SCRAM-SHA-512")
	}
	_, err := saslMechanism(Config{Mechanism: s.Mechanism, User: s.User, Password: s.Password})
	return err
}

// Secure returns config with these settings in it.
func (s Security) Secure(config Config) Config {
	if s.TLS {
		config.TLS = s.tlsConfig
	}
	config.Mechanism, config.User, config.Password = s.Mechanism, s.User, s.Password
	return config
}

// tlsConfig reads the files. Each connection asks anew, so that certificates can
// be exchanged under a running process.
func (s Security) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("…_CA_FILE: %w: name a readable file", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("…_CA_FILE=%q holds no certificate: want PEM, beginning with -----BEGIN CERTIFICATE-----", s.CAFile)
		}
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("…_CERT_FILE=%q, …_KEY_FILE=%q: %w: want PEM files of a certificate and its own key", s.CertFile, s.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
