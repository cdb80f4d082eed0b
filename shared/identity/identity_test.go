package identity_test

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"pavane/shared/identity"
)

const (
	one = "one-key-of-thirty-two-bytes-or-more"
	two = "another-key-of-thirty-two-bytes-or-more"
)

func keys(t *testing.T, text string) *identity.Keys {
	t.Helper()
	k, err := identity.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeys_SignedForAService_TellItWhoseRequestItIs(t *testing.T) {
	t.Parallel()
	token, err := keys(t, one).Sign("order-svc", identity.Principal{
		Caller: "gateway-svc", Subject: "cust-01", Scopes: []string{identity.ScopeRead, identity.ScopeOperate},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := keys(t, one).Verify("order-svc", token)
	if err != nil || p.Caller != "gateway-svc" || p.Subject != "cust-01" || !slices.Equal(p.Scopes, []string{identity.ScopeRead, identity.ScopeOperate}) {
		t.Errorf("%+v, %v", p, err)
	}
	if left := time.Until(p.Expires); left <= 0 || left > identity.Life {
		t.Errorf("it ends in %s", left)
	}
}

func TestKeys_Change_TakesTheOldOneUntilItIsGone(t *testing.T) {
	t.Parallel()
	sign := func(text string) string {
		token, err := keys(t, text).Sign("a", identity.Principal{Caller: "b"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for name, c := range map[string]struct {
		signer, checker string
		good            bool
	}{
		"the same":                 {one, one, true},
		"another":                  {two, one, false},
		"taken, not yet signed by": {one, one + ", " + two, true},
		"signed by the new one":    {two + "," + one, one + "," + two, true},
		"the old one is gone":      {one, two, false},
	} {
		if _, err := keys(t, c.checker).Verify("a", sign(c.signer)); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys_WrongTokens_AreRefusedWithoutBeingShown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": "gateway-svc", "sub": "cust-01", "aud": "order-svc", "iat": now.Unix(), "exp": now.Add(30 * time.Second).Unix()}
	}
	with := func(name string, value any) jwt.MapClaims {
		c := good()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	hs256 := func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodHS256, c, []byte(one)) }
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys(t, one).Verify("order-svc", hs256(good())); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, token := range map[string]string{
		"none":                   signed(t, jwt.SigningMethodNone, good(), jwt.UnsafeAllowNoneSignatureType),
		"another algorithm":      signed(t, jwt.SigningMethodHS512, good(), []byte(one)),
		"a key of its own":       signed(t, jwt.SigningMethodEdDSA, good(), private),
		"for another service":    hs256(with("aud", "payment-svc")),
		"for nobody":             hs256(with("aud", nil)),
		"of nobody":              hs256(with("iss", nil)),
		"expired":                hs256(with("exp", now.Add(-time.Minute).Unix())),
		"without an end":         hs256(with("exp", nil)),
		"without a beginning":    hs256(with("iat", nil)),
		"good for too long":      hs256(with("exp", now.Add(time.Hour).Unix())),
		"issued in the future":   hs256(with("iat", now.Add(time.Minute).Unix())),
		"not yet":                hs256(with("nbf", now.Add(time.Minute).Unix())),
		"garbage":                "a.b.c",
		"empty":                  "",
		"long":                   strings.Repeat("a", 1<<20),
		"with another signature": hs256(good())[:len(hs256(good()))-4] + "AAAA",
	} {
		_, err := keys(t, one).Verify("order-svc", token)
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if token != "" && strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "cust-01") || strings.Contains(err.Error(), one) {
			t.Errorf("%s: %v shows what it must not", name, err)
		}
	}
}

func signed(t *testing.T, method jwt.SigningMethod, c jwt.Claims, key any) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestParseKeys_ShortOnes_AreRefusedWithoutBeingShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"short", one + ",short", one + ",", strings.Repeat("x", identity.MinKey-1)} {
		k, err := identity.ParseKeys(text)
		if err == nil || k != nil || strings.Contains(err.Error(), "short") || strings.Contains(err.Error(), one) {
			t.Errorf("%q: %v, %v", text, k, err)
		}
	}
	if k, err := identity.ParseKeys(" "); k != nil || err != nil {
		t.Errorf("none: %v, %v", k, err)
	}
	var none *identity.Keys
	if _, err := none.Verify("a", "b"); err == nil {
		t.Error("no key took a token")
	}
	if _, err := none.Sign("a", identity.Principal{}); err == nil {
		t.Error("no key signed")
	}
}

func ExampleKeys() {
	keys, _ := identity.ParseKeys("a-secret-of-at-least-thirty-two-bytes")
	token, _ := keys.Sign("order-svc", identity.Principal{Caller: "gateway-svc", Subject: "cust-01"})
	p, err := keys.Verify("order-svc", token)
	fmt.Println(p.Caller, p.Subject, err)
	// Output: gateway-svc cust-01 <nil>
}
