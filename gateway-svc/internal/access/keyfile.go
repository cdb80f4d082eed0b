package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeyFile = 1 << 20 // bytes
	minRSA     = 2048    // bits
	// lookAgain is how old what is known of the file may be when a token is checked.
	lookAgain = time.Second
)

// key is one public key and the one algorithm it is for.
type key struct {
	alg    string
	public any
}

// keyFile holds the keys of a JWKS file (RFC 7517), and reads it again when it
// has changed. A key is good for as long as it stands in the file.
type keyFile struct {
	path   string
	again  time.Duration
	logger *slog.Logger

	mu     sync.Mutex
	looked time.Time
	read   []byte // as last seen, good or not
	keys   map[string]key
}

// openKeyFile reads the file. A file that cannot be used is an error now, and a
// warning later.
func openKeyFile(path string, again time.Duration, logger *slog.Logger) (*keyFile, error) {
	f := &keyFile{path: path, again: again, logger: logger}
	var err error
	if f.read, err = readKeys(path); err != nil {
		return nil, err
	}
	if f.keys, err = parseKeys(f.read); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.looked = time.Now()
	return f, nil
}

// find returns the key of an id and of an algorithm.
func (f *keyFile) find(kid, alg string) (any, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) >= f.again {
		f.look()
	}
	k, ok := f.keys[kid]
	if !ok || k.alg != alg {
		return nil, false
	}
	return k.public, true
}

// look reads the file again. One that cannot be used leaves the keys as they
// were: somebody may be writing it, or has made a mistake.
func (f *keyFile) look() {
	f.looked = time.Now()
	text, err := readKeys(f.path)
	if err == nil && bytes.Equal(text, f.read) {
		return
	}
	var keys map[string]key
	if err == nil {
		f.read = text
		keys, err = parseKeys(text)
	}
	if err != nil {
		f.logger.Warn("the file of keys cannot be used; the keys of before stay", "file", f.path, "error", err)
		return
	}
	f.keys = keys
	f.logger.Info("the file of keys has changed", "file", f.path, "keys", len(keys))
}

func readKeys(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("read the keys: %s is larger than %d bytes", path, maxKeyFile)
	}
	return text, nil
}

// parseKeys reads a JWKS. Keys that are not for signing are passed over; those
// that are and cannot be used, and private ones, are an error. The error shows
// nothing of a key but its id.
func parseKeys(text []byte) (map[string]key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("this is no JSON Web Key Set")
	}
	keys := map[string]key{}
	for i, one := range set.Keys {
		if one.USE != "" && one.USE != jwkset.UseSig {
			continue
		}
		k, err := parseKey(one)
		if err != nil {
			return nil, fmt.Errorf("key %d (%.40q): %w", i, one.KID, err)
		}
		if _, twice := keys[one.KID]; twice {
			return nil, fmt.Errorf("key %d: the kid %.40q is there twice", i, one.KID)
		}
		keys[one.KID] = k
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key that signs")
	}
	return keys, nil
}

func parseKey(m jwkset.JWKMarshal) (key, error) {
	switch {
	case m.KID == "":
		return key{}, fmt.Errorf("it has no kid, by which tokens name it")
	case m.KTY == jwkset.KtyOct:
		return key{}, fmt.Errorf("it is symmetric: whoever checks tokens with it could make them, too")
	case m.D != "" || m.P != "" || m.Q != "" || m.K != "":
		return key{}, fmt.Errorf("it is private: it must not leave who signs; put its public part here")
	}
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", "" // nothing is fetched, and the key itself is what counts
	parsed, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, fmt.Errorf("it cannot be read")
	}
	k := key{public: parsed.Key()}
	switch public := parsed.Key().(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA {
			return key{}, fmt.Errorf("it has %d bits: at least %d are wanted", public.N.BitLen(), minRSA)
		}
		k.alg = jwt.SigningMethodRS256.Alg()
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("its curve is not P-256")
		}
		k.alg = jwt.SigningMethodES256.Alg()
	case ed25519.PublicKey:
		k.alg = jwt.SigningMethodEdDSA.Alg()
	default:
		return key{}, fmt.Errorf("it is of a kind that is not taken here")
	}
	if m.ALG != "" && m.ALG.String() != k.alg {
		return key{}, fmt.Errorf("its alg is %.20q; %s are taken", m.ALG, algorithms())
	}
	return k, nil
}

// algorithms are those of tokens that are taken.
func algorithms() []string {
	return []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg()}
}
