package devstack

import (
	"net"
	"strconv"
)

// KafkaSecurity has a node listen a second time, with TLS and SASL/SCRAM, and check what each principal may do. On the
// first listener everybody is a superuser.
type KafkaSecurity struct {
	// KeyStore is a PEM file of the node's private key (PKCS #8) and certificate; it must be good for 127.0.0.1.
	KeyStore string
}

// SecureAddr is the host:port of the second listener.
func (k *Kafka) SecureAddr() string { return net.JoinHostPort(loopback, strconv.Itoa(k.secure)) }

// Jars is the directory with the server's jars, for its own tools.
func (k *Kafka) Jars() string { return k.jars }

// secureSettings adds the second listener to the settings.
func (k *Kafka) secureSettings(s map[string]string) {
	if k.cfg.Secure == nil {
		return
	}
	s["listeners"] += ",SECURE://" + k.SecureAddr()
	s["advertised.listeners"] += ",SECURE://" + k.SecureAddr()
	s["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
	s["inter.broker.listener.name"] = "PLAINTEXT"
	s["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
	s["super.users"] = "User:ANONYMOUS"
	s["sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
	s["listener.name.secure.scram-sha-512.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	s["listener.name.secure.ssl.keystore.type"] = "PEM"
	s["listener.name.secure.ssl.keystore.location"] = k.cfg.Secure.KeyStore
}
