package access_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"pavane/gateway-svc/internal/access"
	"pavane/shared/httpapi"
	"pavane/shared/identity"
)

const (
	issuer   = "https://issuer.example"
	audience = "pavane"
)

// signer is a key of a client's tokens.
type signer struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

func newSigner(t *testing.T, kid, alg string) signer {
	t.Helper()
	s := signer{kid: kid, method: jwt.GetSigningMethod(alg)}
	var err error
	switch alg {
	case "RS256":
		s.key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, s.key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// public is the key as the file holds it.
func (s signer) public(t *testing.T) jwkset.JWKMarshal {
	t.Helper()
	k, err := jwkset.NewJWKFromKey(s.key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: s.kid, USE: jwkset.UseSig}})
	if err != nil {
		t.Fatal(err)
	}
	return k.Marshal()
}

// token signs claims; header may name another kid.
func (s signer) token(t *testing.T, c jwt.Claims, kid ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(s.method, c)
	token.Header["kid"] = append(kid, s.kid)[0]
	text, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// writeKeys replaces the file at once, as those do who hand out keys.
func writeKeys(t *testing.T, path string, keys ...jwkset.JWKMarshal) {
	t.Helper()
	b, err := json.Marshal(jwkset.JWKSMarshal{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b)
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// good are the claims of a token that is taken.
func good() jwt.MapClaims {
	now := time.Now()
	return jwt.MapClaims{"iss": issuer, "aud": audience, "sub": "cust-01", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
}

func with(name string, value any) jwt.MapClaims {
	c := good()
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

// serve runs an HTTP server behind the access that answers with the principal.
func serve(t *testing.T, c access.Config) string {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.JWKSFile != "" {
		c.Issuer, c.Audience = issuer, audience
	}
	a, err := access.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.New(httpapi.Config{Title: "t", Version: "1", Addr: "127.0.0.1:0", Logger: c.Logger})
	s.Guard(a.Guard)
	s.Handle("GET /who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := identity.From(r.Context())
		fmt.Fprintf(w, "%s %s", p.Subject, strings.Join(p.Scopes, " "))
	}))
	s.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, ok := a.Stream(w, r)
		if !ok {
			return
		}
		defer leave()
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush() //nolint:errcheck // a test's client
		<-r.Context().Done()
	}))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() { <-ended }) // the context of the test has ended
	return "http://" + s.Addr()
}

type answer struct {
	status int
	header http.Header
	text   string
}

func get(t *testing.T, url string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

func TestGuard_GoodTokens_TellWhoCalls(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	signers := []signer{newSigner(t, "r", "RS256"), newSigner(t, "e", "ES256"), newSigner(t, "d", "EdDSA")}
	var public []jwkset.JWKMarshal
	for _, s := range signers {
		public = append(public, s.public(t))
	}
	writeKeys(t, file, public...)
	url := serve(t, access.Config{JWKSFile: file})
	for _, s := range signers {
		if a := get(t, url+"/who", bearer(s.token(t, good()))...); a.status != http.StatusOK || a.text != "cust-01 " {
			t.Errorf("%s: %+v", s.method.Alg(), a)
		}
	}
	for want, c := range map[string]jwt.MapClaims{
		"cust-01 pavane:read":                with("scope", "openid pavane:read"),
		"cust-01 pavane:operate":             with("scp", []string{"pavane:operate"}),
		"cust-01 pavane:read pavane:operate": with("scope", "pavane:operate pavane:read"),
		"cust-01 ":                           with("scope", "pavane:everyone PAVANE:READ pavane:readx"),
		"somebody ":                          with("sub", "somebody"),
		"auth0|5f7c8ec7 ":                    with("sub", "auth0|5f7c8ec7"),
	} {
		if a := get(t, url+"/who", bearer(signers[0].token(t, c))...); a.text != want {
			t.Errorf("%+v; want %q", a, want)
		}
	}
	if a := get(t, url+"/who", bearer(signers[0].token(t, with("aud", []string{"other", audience})))...); a.status != http.StatusOK {
		t.Errorf("one of several audiences: %+v", a)
	}
	if a := get(t, url+"/who", bearer(signers[0].token(t, with("exp", time.Now().Add(-2*time.Second).Unix())))...); a.status != http.StatusOK {
		t.Errorf("clocks that differ by seconds: %+v", a)
	}
}

func TestGuard_Attacks_AreRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	rs, es, other := newSigner(t, "r", "RS256"), newSigner(t, "e", "ES256"), newSigner(t, "r", "RS256")
	writeKeys(t, file, rs.public(t), es.public(t))
	url := serve(t, access.Config{JWKSFile: file})
	der, err := x509.MarshalPKIXPublicKey(rs.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	confused := func(key []byte) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, good())
		token.Header["kid"] = "r"
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	none := jwt.NewWithClaims(jwt.SigningMethodNone, good())
	none.Header["kid"] = "r"
	unsigned, err := none.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	taken := rs.token(t, good())
	if a := get(t, url+"/who", bearer(taken)...); a.status != http.StatusOK {
		t.Fatalf("the good token: %+v", a)
	}
	now := time.Now()
	for name, headers := range map[string][]string{
		"no token":                           nil,
		"alg none":                           bearer(unsigned),
		"alg none in other letters":          bearer(strings.Replace(unsigned, header(t, "none"), header(t, "nOnE"), 1)),
		"HS256 with the public key (PEM)":    bearer(confused(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))),
		"HS256 with the public key (DER)":    bearer(confused(der)),
		"HS256 with an empty key":            bearer(confused(nil)),
		"RS512 of the right key":             bearer(signer{"r", jwt.SigningMethodRS512, rs.key}.token(t, good())),
		"PS256 of the right key":             bearer(signer{"r", jwt.SigningMethodPS256, rs.key}.token(t, good())),
		"another's key under a known kid":    bearer(other.token(t, good())),
		"a known key under another's kid":    bearer(es.token(t, good(), "r")),
		"unknown kid":                        bearer(rs.token(t, good(), "x")),
		"empty kid":                          bearer(rs.token(t, good(), "")),
		"kid that is a path":                 bearer(rs.token(t, good(), "../../dev/null")),
		"wrong aud":                          bearer(rs.token(t, with("aud", "other"))),
		"no aud":                             bearer(rs.token(t, with("aud", nil))),
		"wrong iss":                          bearer(rs.token(t, with("iss", "https://other.example"))),
		"no iss":                             bearer(rs.token(t, with("iss", nil))),
		"expired":                            bearer(rs.token(t, with("exp", now.Add(-time.Minute).Unix()))),
		"no exp":                             bearer(rs.token(t, with("exp", nil))),
		"exp that is text":                   bearer(rs.token(t, with("exp", "never"))),
		"not yet":                            bearer(rs.token(t, with("nbf", now.Add(time.Minute).Unix()))),
		"issued in the future":               bearer(rs.token(t, with("iat", now.Add(time.Minute).Unix()))),
		"no sub":                             bearer(rs.token(t, with("sub", nil))),
		"long sub":                           bearer(rs.token(t, with("sub", strings.Repeat("a", 65)))),
		"sub with a space":                   bearer(rs.token(t, with("sub", "a b"))),
		"sub that is a step of a path":       bearer(rs.token(t, with("sub", ".."))),
		"sub with a quote":                   bearer(rs.token(t, with("sub", `a"b`))),
		"another signature":                  bearer(taken[:len(taken)-6] + "AAAAAA"),
		"other claims under the signature":   bearer(swapClaims(taken, rs.token(t, with("sub", "cust-02")))),
		"no signature":                       bearer(taken[:strings.LastIndex(taken, ".")+1]),
		"garbage":                            bearer("garbage"),
		"garbage in three parts":             bearer("a.b.c"),
		"a token of 32 kB":                   bearer(strings.Repeat("a", 32<<10)),
		"basic":                              {"Authorization", "Basic " + taken},
		"bare":                               {"Authorization", taken},
		"two tokens":                         {"Authorization", "Bearer " + taken, "Authorization", "Bearer " + taken},
		"in another header":                  {"X-Authorization", "Bearer " + taken},
		"the header of an operator, no less": {httpapi.OperatorHeader, ""},
	} {
		a := get(t, url+"/who", headers...)
		if a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") ||
			a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v", name, a)
		}
		if len(headers) == 2 && strings.Contains(a.text, strings.TrimPrefix(headers[1], "Bearer ")) && headers[1] != "" {
			t.Errorf("%s: the answer shows the token", name)
		}
	}
	if a := get(t, url+"/who", bearer(rs.token(t, with("sub", "a b")))...); !strings.Contains(a.text, "1 to 64 characters") {
		t.Errorf("what a sub must be is not said: %s", a.text)
	}
	if a := get(t, url+"/who?access_token="+taken); a.status != http.StatusUnauthorized {
		t.Errorf("in the address, which is logged everywhere: %+v", a)
	}
	// net/http refuses such a head before anything of ours sees it.
	if a := get(t, url+"/who", bearer(strings.Repeat("a", 1<<20))...); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a token of 1 MB: %+v", a)
	}
}

func header(t *testing.T, alg string) string {
	t.Helper()
	b, err := json.Marshal(map[string]string{"alg": alg, "typ": "JWT", "kid": "r"})
	if err != nil {
		t.Fatal(err)
	}
	return (&jwt.Token{}).EncodeSegment(b)
}

// swapClaims puts the claims of one token under the signature of another.
func swapClaims(signed, claims string) string {
	a, b := strings.Split(signed, "."), strings.Split(claims, ".")
	return a[0] + "." + b[1] + "." + a[2]
}

func TestGuard_KeysRotate_TakesThoseOfTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	before, after := newSigner(t, "before", "RS256"), newSigner(t, "after", "EdDSA")
	writeKeys(t, file, before.public(t))
	var log bytes.Buffer
	url := serve(t, access.Config{JWKSFile: file, Again: time.Nanosecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	status := func(s signer) int { return get(t, url+"/who", bearer(s.token(t, good()))...).status }
	expect := func(when string, want ...int) {
		t.Helper()
		if got := []int{status(before), status(after)}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	expect("before", 200, 401)
	writeKeys(t, file, before.public(t), after.public(t))
	expect("while both stand in the file", 200, 200)
	for what, text := range map[string]string{
		"a half-written file": `{"keys": [{"kty":`, "an empty file": "", "no key": `{"keys": []}`,
		"a symmetric key":  `{"keys": [{"kty":"oct","kid":"x","k":"c2VjcmV0LXRoYXQtbXVzdC1ub3Qtc2hvdw"}]}`,
		"an unknown curve": `{"keys": [{"kty":"EC","kid":"x","crv":"P-999","x":"AA","y":"AA"}]}`,
	} {
		writeFile(t, file, []byte(text))
		expect(what, 200, 200)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("no file", 200, 200)
	writeKeys(t, file, after.public(t))
	expect("the old key is gone", 401, 200)
	if !strings.Contains(log.String(), "the keys of before stay") {
		t.Error("nothing warns of a file that cannot be used")
	}
	if strings.Contains(log.String(), "c2VjcmV0") {
		t.Error("the log shows a key")
	}
}

func TestOpen_KeysThatCannotBeTrusted_AreRefusedAtStart(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, "a", "ES256")
	private, err := jwkset.NewJWKFromKey(s.key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "a"}, Marshal: jwkset.JWKMarshalOptions{Private: true}})
	if err != nil {
		t.Fatal(err)
	}
	named, otherAlg, encrypts := s.public(t), s.public(t), s.public(t)
	named.KID, otherAlg.ALG, encrypts.USE = "", jwkset.AlgHS256, jwkset.UseEnc
	for want, keys := range map[string][]jwkset.JWKMarshal{
		"1024 bits":                  {signer{"w", jwt.SigningMethodRS256, weak}.public(t)},
		"private":                    {private.Marshal()},
		"no kid":                     {named},
		"its alg is":                 {otherAlg},
		"there is no key that signs": {encrypts},
		"twice":                      {s.public(t), s.public(t)},
		"symmetric":                  {{KTY: jwkset.KtyOct, KID: "o", K: "AAAA"}},
	} {
		file := filepath.Join(t.TempDir(), "jwks.json")
		writeKeys(t, file, keys...)
		_, err := access.Open(access.Config{JWKSFile: file, Issuer: issuer, Audience: audience, Logger: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), private.Marshal().D) {
			t.Errorf("%s: %v", want, err)
		}
	}
	_, err = access.Open(access.Config{JWKSFile: filepath.Join(t.TempDir(), "none"), Issuer: issuer, Audience: audience})
	if err == nil {
		t.Error("a file that is not there was taken")
	}
}

func TestGuard_OperatorsToken_IsAnOperator(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef"
	file := filepath.Join(t.TempDir(), "jwks.json")
	s := newSigner(t, "a", "EdDSA")
	writeKeys(t, file, s.public(t))
	checked, open := serve(t, access.Config{JWKSFile: file, OperatorToken: secret}), serve(t, access.Config{OperatorToken: secret})
	operator := []string{httpapi.OperatorHeader, secret}
	for name, c := range map[string]struct {
		url     string
		headers []string
		want    string
	}{
		"alone":               {checked, operator, " pavane:operate"},
		"with a token":        {checked, append(bearer(s.token(t, good())), operator...), "cust-01 pavane:operate"},
		"nobody is asked":     {open, operator, " pavane:everyone pavane:operate"},
		"nobody asked, none":  {open, nil, " pavane:everyone"},
		"nobody asked, wrong": {open, []string{httpapi.OperatorHeader, "another-that-is-long"}, " pavane:everyone"},
	} {
		if a := get(t, c.url+"/who", c.headers...); a.status != http.StatusOK || a.text != c.want {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for name, headers := range map[string][]string{
		"wrong":              {httpapi.OperatorHeader, "another-that-is-long"},
		"beside a bad token": append(bearer("garbage"), operator...),
		"from another site":  append([]string{"Sec-Fetch-Site", "cross-site"}, operator...),
	} {
		if a := get(t, checked+"/who", headers...); a.status != http.StatusUnauthorized && name != "from another site" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestGuard_TooManyRequests_AreRefusedPerPrincipal(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	s := newSigner(t, "a", "EdDSA")
	writeKeys(t, file, s.public(t))
	url := serve(t, access.Config{JWKSFile: file, Rate: 0.001, Burst: 3})
	one, two := bearer(s.token(t, good())), bearer(s.token(t, with("sub", "cust-02")))
	for i := range 3 {
		if a := get(t, url+"/who", one...); a.status != http.StatusOK {
			t.Fatalf("request %d: %+v", i, a)
		}
	}
	a := get(t, url+"/who", one...)
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1000" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("one too many: %+v", a)
	}
	if a := get(t, url+"/who", bearer(s.token(t, with("jti", "another")))...); a.status != http.StatusTooManyRequests {
		t.Errorf("another token of the same: %+v", a)
	}
	if a := get(t, url+"/who", two...); a.status != http.StatusOK {
		t.Errorf("somebody else: %+v", a)
	}
	if a := get(t, url+"/livez"); a.status != http.StatusOK {
		t.Errorf("what is open to everybody: %+v", a)
	}
	statuses := []int{}
	for range 4 { // these are nobody's, so they count for the address
		statuses = append(statuses, get(t, url+"/who", bearer("garbage")...).status)
	}
	if !slices.Equal(statuses, []int{401, 401, 401, 429}) {
		t.Errorf("wrong tokens: %v", statuses)
	}
}

func TestStream_TooMany_AreRefusedPerPrincipalUntilOneEnds(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	s := newSigner(t, "a", "EdDSA")
	writeKeys(t, file, s.public(t))
	url := serve(t, access.Config{JWKSFile: file, Streams: 2})
	open := func(sub string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.token(t, with("sub", sub)))
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	first := open("cust-01")
	open("cust-01")
	if res := open("cust-01"); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("a third: %s", res.Status)
	}
	if res := open("cust-02"); res.StatusCode != http.StatusOK {
		t.Errorf("somebody else's: %s", res.Status)
	}
	first.Body.Close()
	for { // until the server has noticed
		res := open("cust-01")
		if res.StatusCode == http.StatusOK {
			return
		}
		res.Body.Close()
		if t.Context().Err() != nil {
			t.Fatal("the place of a stream that ended is never free")
		}
	}
}
