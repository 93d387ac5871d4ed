package party

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"net/http"
	"sync"
	"time"

	"holdfast/shop"
)

// maxBody bounds a request.
const maxBody = 256 << 10

// Refusal is an answer that is not a success.
type Refusal struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Refuse makes a Refusal.
func Refuse(status int, code, message string) *Refusal { return &Refusal{status, code, message} }

// Read decodes a request's body and returns a hash of it, by which a key's repetition is known.
func Read(r *http.Request, into any) (hash uint64, err error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(b) > maxBody {
		return 0, Refuse(http.StatusRequestEntityTooLarge, "too_large", "the body is too large or was cut off")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return 0, Refuse(http.StatusBadRequest, "invalid_json", err.Error())
	}
	h := fnv.New64a()
	_, _ = h.Write(b) // a hash never fails
	return h.Sum64(), nil
}

// Write answers with v.
func Write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // whoever asked may be gone
}

// Fail answers with an error: a Refusal as it is, anything else as a failure of ours.
func Fail(w http.ResponseWriter, err error) {
	var r *Refusal
	if !errors.As(err, &r) {
		r = Refuse(http.StatusInternalServerError, "failed", err.Error())
	}
	Write(w, r.Status, r)
}

// Hold waits for d, or until the other side has gone or the party stops. It tells whether to answer.
func Hold(ctx context.Context, clock shop.Clock, stopping <-chan struct{}, d time.Duration) bool {
	timer, stop := clock.Timer(d)
	defer stop()
	select {
	case <-timer:
		return true
	case <-ctx.Done():
	case <-stopping:
	}
	return false
}

// Arrivals counts what arrived, since the start. Tests learn from it how often a party was asked.
type Arrivals struct {
	mu       sync.Mutex
	total    int
	byOp     map[string]int
	byRef    map[string]map[string]int
	keys     map[string]bool
	repeated int
}

// NewArrivals makes the counts of the named operations.
func NewArrivals(operations ...string) *Arrivals {
	a := &Arrivals{byOp: map[string]int{}, byRef: map[string]map[string]int{}, keys: map[string]bool{}}
	for _, op := range operations {
		a.byOp[op] = 0
	}
	return a
}

// Count notes an arrival. A reference or a key may be empty.
func (a *Arrivals) Count(operation, reference, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	a.byOp[operation]++
	if reference != "" {
		if a.byRef[reference] == nil {
			a.byRef[reference] = make(map[string]int, 2)
		}
		a.byRef[reference][operation]++
	}
	if key == "" {
		return
	}
	if a.keys[key] {
		a.repeated++
	}
	a.keys[key] = true
}

// ServeHTTP answers with the counts, of one reference if it is asked for.
func (a *Arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ref := r.URL.Query().Get("reference"); ref != "" {
		counts := a.byRef[ref]
		if counts == nil {
			counts = map[string]int{}
		}
		Write(w, http.StatusOK, counts)
		return
	}
	Write(w, http.StatusOK, struct {
		Total    int            `json:"total"`
		ByOp     map[string]int `json:"by_operation"`
		Repeated int            `json:"keys_repeated"`
	}{a.total, a.byOp, a.repeated})
}

// ServeLedger answers with the ledger.
func ServeLedger(l *Ledger) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = l.WriteTo(w) // whoever asked may be gone
	}
}

// Healthy says that the party answers.
func Healthy(w http.ResponseWriter, _ *http.Request) {
	Write(w, http.StatusOK, map[string]string{"status": "ok"})
}
