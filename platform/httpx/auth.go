package httpx

import (
	"crypto/sha256"
	"net/http"
	"strings"

	"holdfast/shop"
)

// MinKey is the shortest API key that is taken.
const MinKey = 16

// Keys says whom an API key stands for. Only hashes are held, and a guess is looked up by its hash:
// what the time of that may tell is about the hash, which helps nobody towards a key.
type Keys map[[sha256.Size]byte]shop.Caller

// NewKeys makes Keys of the keys themselves.
func NewKeys(callers map[string]shop.Caller) (Keys, error) {
	keys := make(Keys, len(callers))
	for key, caller := range callers {
		if len(key) < MinKey {
			return nil, shop.E(shop.Invalid, "httpx.NewKeys", "an API key is shorter than 16 characters")
		}
		if caller == "" {
			return nil, shop.E(shop.Invalid, "httpx.NewKeys", "an API key stands for nobody")
		}
		keys[sha256.Sum256([]byte(key))] = caller
	}
	return keys, nil
}

// Caller returns whom key stands for.
func (k Keys) Caller(key string) (shop.Caller, bool) {
	caller, ok := k[sha256.Sum256([]byte(key))]
	return caller, ok
}

// authenticate finds the caller of r by its bearer key.
func (k Keys) authenticate(r *http.Request) (shop.Caller, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && key != "" {
		if caller, ok := k.Caller(key); ok {
			return caller, nil
		}
		return "", shop.E(shop.Unauthenticated, "httpx", "The API key is not known.")
	}
	return "", shop.E(shop.Unauthenticated, "httpx", "Send the header Authorization: Bearer <API key>.")
}
