// Package authority owns the tokens of a demo whose gateway asks for them: a key
// that is made anew for each run, and what it signs. A real system has an issuer
// of its own.
package authority

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"pavane/shared/identity"
)

// Issuer and Audience are those of a demo's tokens.
const (
	Issuer   = "https://authority.pavane.example"
	Audience = "pavane"
)

// Operators are the scopes of who sees everything and acts for everybody.
const Operators = identity.ScopeRead + " " + identity.ScopeOperate

const (
	keyFile = "authority.key" // seed of the Ed25519 key, in base64
	keySet  = "jwks.json"
	keyID   = "demo"
)

// KeySet is the file in a directory of secrets with the public key.
func KeySet(dir string) string { return filepath.Join(dir, keySet) }

// Authority signs tokens.
type Authority struct{ key ed25519.PrivateKey }

// Make writes a new key into a directory of secrets, and its public part as a
// JSON Web Key Set for the gateway.
func Make(dir string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	set, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "OKP", "crv": "Ed25519", "alg": jwt.SigningMethodEdDSA.Alg(), "use": "sig", "kid": keyID,
		"x": base64.RawURLEncoding.EncodeToString(public),
	}}})
	if err == nil {
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, keyFile), []byte(base64.StdEncoding.EncodeToString(private.Seed())), 0o600),
			os.WriteFile(KeySet(dir), set, 0o600))
	}
	if err != nil {
		return fmt.Errorf("write the authority's key: %w", err)
	}
	return nil
}

// Load reads the key that Make has left in a directory.
func Load(dir string) (*Authority, error) {
	text, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("read the authority's key: %s holds no key: start `pavane up --auth` again", filepath.Join(dir, keyFile))
	}
	return &Authority{key: ed25519.NewKeyFromSeed(seed)}, nil
}

// Token says for a while that whoever shows it is the subject, with scopes
// between spaces.
func (a *Authority) Token(subject, scope string, life time.Duration) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, struct {
		jwt.RegisteredClaims
		Scope string `json:"scope,omitempty"`
	}{jwt.RegisteredClaims{
		Issuer: Issuer, Audience: jwt.ClaimStrings{Audience}, Subject: subject,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}, scope})
	t.Header["kid"] = keyID
	signed, err := t.SignedString(a.key)
	if err != nil {
		return "", fmt.Errorf("sign a token for %q: %w", subject, err)
	}
	return signed, nil
}
