package registry

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParseKeys reads the keys of the gossip, separated by commas: each of 16, 24 or
// 32 bytes as hex or standard base64.
func ParseKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for part := range strings.SplitSeq(text, ",") {
		key, err := parseKey(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("registry: gossip key %d (not shown) %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(text string) ([]byte, error) {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && validKey(key) {
			return key, nil
		}
	}
	return nil, errors.New("is not 16, 24 or 32 bytes as hex or base64: make one with openssl rand -hex 32")
}

func validKey(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }

// ParseSigningKey reads an Ed25519 private key as "openssl genpkey -algorithm
// ed25519" writes it: PKCS #8 in PEM, or what stands between its first and last
// line.
func ParseSigningKey(text string) (ed25519.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(derOf(text))
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("registry: the signing key (not shown) is not an Ed25519 private key in PEM: make one with openssl genpkey -algorithm ed25519")
	}
	return key, nil
}

// ParseServiceKeys reads which public keys may prove a name, in the form
// "order-svc=KEY,KEY;payment-svc=KEY". A KEY is an Ed25519 public key as "openssl
// pkey -pubout" writes it, what stands between its first and last line.
func ParseServiceKeys(spec string) (map[string][]ed25519.PublicKey, error) {
	keys := map[string][]ed25519.PublicKey{}
	for entry := range strings.SplitSeq(spec, ";") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		service, list, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			return nil, fmt.Errorf("registry: %q is not service=KEY,KEY: mend the list of service keys", entry)
		}
		if err := checkService(service); err != nil {
			return nil, fmt.Errorf("registry: in the list of service keys: %w", err)
		}
		for text := range strings.SplitSeq(list, ",") {
			parsed, err := x509.ParsePKIXPublicKey(derOf(text))
			key, ok := parsed.(ed25519.PublicKey)
			if err != nil || !ok {
				// Not shown: a private one might stand there by mistake.
				return nil, fmt.Errorf("registry: service key %d (not shown) of %s is not an Ed25519 public key: take the middle line of openssl pkey -in KEY.pem -pubout", len(keys[service])+1, service)
			}
			keys[service] = append(keys[service], key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("registry: the list of service keys names no service: leave it empty for no proof")
	}
	return keys, nil
}

// derOf takes PEM or the base64 within; nil when it is neither.
func derOf(text string) []byte {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return block.Bytes
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil
	}
	return der
}

// claim is what a member's key signs: all that it says of itself, its name
// included. A recorded claim therefore serves nobody at another address or under
// another id. No field can hold the line breaks between them.
func (m metadata) claim(service, id string) []byte {
	return []byte(strings.Join([]string{
		"pavane registry 1", service, id, m.Addr, m.Version, strconv.FormatInt(m.Started, 10),
	}, "\n"))
}

// checkProof refuses a member whose claim no key of its service has signed.
func (g *Gossip) checkProof(service, id string, m metadata) error {
	if len(g.config.ServiceKeys) == 0 {
		return nil
	}
	keys, known := g.config.ServiceKeys[service]
	if !known {
		return fmt.Errorf("no service key lets anybody take the name %q", service)
	}
	if isUnspecified(m.Addr) {
		// What would stand in its place, where the member gossips, is not signed.
		return fmt.Errorf("address %q names no host, so it proves nothing: give the registry's advertised address, or a host to the HTTP address", m.Addr)
	}
	for _, key := range keys {
		if ed25519.Verify(key, m.claim(service, id), m.Proof) {
			return nil
		}
	}
	if len(m.Proof) == 0 {
		return fmt.Errorf("no signature proves that it may take the name %q: give that service its signing key", service)
	}
	return fmt.Errorf("its signature is by no key that may take the name %q", service)
}
