// Package party is what the simulated outside parties share: a ledger that is on disk before an answer
// leaves, how calls are read and answered or not, counts of what arrived, faults, and signed messages.
package party

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

const (
	// MaxBody is the largest body of a request.
	MaxBody = 128 << 10
	// maxKey is the longest idempotency key.
	maxKey = 255
	// maxReference is the longest reference to something of the caller's.
	maxReference = 64
	// traceParentLen is the length of a W3C traceparent of version 00.
	traceParentLen = 55
)

// Answer sends a JSON document.
func Answer(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // where nobody listens any more, nobody is told
}

// Replayed marks the answer as given before.
func Replayed(w http.ResponseWriter) { w.Header().Set("Idempotent-Replayed", "true") }

// Healthy answers GET /healthz.
func Healthy(w http.ResponseWriter, _ *http.Request) {
	Answer(w, http.StatusOK, []byte(`{"status":"ok"}`))
}

// Unknown answers what has no handler of its own.
func Unknown(w http.ResponseWriter, r *http.Request) {
	NotFound(r.Method+" of this path").ServeHTTP(w, r)
}

// Key returns the request's idempotency key.
func Key(r *http.Request) (string, *Problem) {
	key := r.Header.Get("Idempotency-Key")
	switch {
	case key == "":
		return "", &Problem{http.StatusBadRequest, "idempotency_key_missing", "The header Idempotency-Key is needed."}
	case len(key) > maxKey || !printable(key):
		return "", &Problem{http.StatusBadRequest, "idempotency_key_invalid", "The Idempotency-Key must be 1 to 255 printable ASCII characters."}
	}
	return key, nil
}

// Read reads the request's body, one JSON object, into v. Members that v does not know are left alone.
func Read(w http.ResponseWriter, r *http.Request, v any) *Problem {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Problem{http.StatusRequestEntityTooLarge, "too_large", "The body is larger than " + strconv.Itoa(MaxBody) + " bytes."}
	case err != nil:
		return &Problem{http.StatusBadRequest, "unreadable", "The body did not come whole."}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &Problem{http.StatusBadRequest, "bad_json", "The body is not the JSON object that is asked for: " + complaint(err)}
	}
	return nil
}

// complaint says what is wrong with a body without quoting it: it may hold an address.
func complaint(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return "the member " + strconv.Quote(kind.Field) + " is not of type " + kind.Type.String() + "."
	}
	return "it cannot be parsed."
}

// CheckReference returns nil for a reference that can be kept.
func CheckReference(reference string) *Problem {
	if reference == "" || len(reference) > maxReference || !printable(reference) {
		return Invalid("reference must be 1 to 64 printable ASCII characters.")
	}
	return nil
}

// TraceParent returns the trace that the request belongs to, "" if it says none or nothing readable.
func TraceParent(r *http.Request) string {
	tp := r.Header.Get("Traceparent")
	if len(tp) != traceParentLen || !printable(tp) {
		return ""
	}
	return tp
}

// Print returns a short fingerprint of what a request asks for, to tell a repetition from a new use of
// its key.
func Print(kind, id string, request any) string {
	b, err := json.Marshal(struct {
		Kind, ID string
		Request  any
	}{kind, id, request})
	if err != nil {
		panic(err) // it was JSON when it came
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
