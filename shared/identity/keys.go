package identity

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MinKey is the least length of a key in bytes: that of what HMAC-SHA256 makes
	// of it (RFC 7518, 3.2).
	MinKey = 32
	// Life is how long a token is good for: one call.
	Life = 60 * time.Second
	// skew is how far the clocks of two services may differ.
	skew = 5 * time.Second
	// maxToken is the size in bytes from which on a token is not looked at.
	maxToken = 4 << 10
)

// Keys signs tokens with the first of its keys and takes those of all of them,
// so that a key can be changed while services run. Nil signs and takes nothing.
type Keys struct {
	keys [][]byte
	now  func() time.Time
}

// ParseKeys reads keys that are separated by commas; white space around them
// does not count. An empty text is no keys: nil. The error never shows a key.
func ParseKeys(text string) (*Keys, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	k := &Keys{now: time.Now}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if len(part) < MinKey {
			return nil, fmt.Errorf("the service key has %d bytes: take at least %d random ones, such as of openssl rand -hex 32", len(part), MinKey)
		}
		k.keys = append(k.keys, []byte(part))
	}
	return k, nil
}

// claims are those of a token.
type claims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope,omitempty"`
}

// Sign returns a token for one call of the service p.Caller to the service
// callee, for p.Subject with p.Scopes.
func (k *Keys) Sign(callee string, p Principal) (string, error) {
	if k == nil {
		return "", errors.New("identity: there is no key to sign with")
	}
	now := k.now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: p.Caller, Subject: p.Subject, Audience: jwt.ClaimStrings{callee},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(Life)),
		},
		Scope: strings.Join(p.Scopes, " "),
	}).SignedString(k.keys[0])
	if err != nil {
		return "", fmt.Errorf("identity: sign a token for %s: %w", callee, err)
	}
	return token, nil
}

// Verify returns for whom a token is that was signed for the service callee. The
// error says what is wrong with the token and nothing of what it holds.
func (k *Keys) Verify(callee, token string) (Principal, error) {
	switch {
	case k == nil:
		return Principal{}, errors.New("this service has no key to check tokens with")
	case len(token) > maxToken:
		return Principal{}, errors.New("the token is too long")
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithAudience(callee), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(skew), jwt.WithTimeFunc(k.now))
	var c claims
	if _, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) {
		set := jwt.VerificationKeySet{}
		for _, key := range k.keys {
			set.Keys = append(set.Keys, key)
		}
		return set, nil
	}); err != nil {
		return Principal{}, Wrong(err)
	}
	if c.Issuer == "" || c.IssuedAt == nil {
		return Principal{}, errors.New("the token does not say whose it is and since when")
	}
	if c.ExpiresAt.Sub(c.IssuedAt.Time) > Life {
		return Principal{}, fmt.Errorf("the token is good for longer than %s", Life)
	}
	return Principal{Caller: c.Issuer, Subject: c.Subject, Scopes: strings.Fields(c.Scope), Expires: c.ExpiresAt.Time}, nil
}

// Wrong says in words of ours what the parser of JSON Web Tokens finds wrong
// with one, so that nothing of the token comes along.
func Wrong(err error) error {
	for _, known := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "the token was issued in the future"},
		{jwt.ErrTokenInvalidAudience, "the token is for somebody else"},
		{jwt.ErrTokenInvalidIssuer, "the token is of another issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim that it must have"},
		{jwt.ErrTokenUnverifiable, "the token names no key that is known here"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature is not valid"},
	} {
		if errors.Is(err, known.is) {
			return errors.New(known.text)
		}
	}
	return errors.New("the token is malformed")
}
