package party

import (
	"encoding/json"
	"hash/maphash"
	"math"
	"net/http"
	"slices"
	"sync"
)

// maxOperations is how many kinds of operations a party may have.
const maxOperations = 5

// perReference are the arrivals for one reference, by operation.
type perReference [maxOperations]uint16

// Arrivals counts the calls that came in since the start, whatever became of them. It keeps hashes of
// keys and references: some 85 bytes for an order.
type Arrivals struct {
	operations []string
	seed       maphash.Seed

	mu          sync.Mutex
	counts      [maxOperations]int64
	repeated    int64
	keys        map[uint64]uint64 // to the reference that the key came for, 0 while that is not known
	byReference map[uint64]perReference
}

// NewArrivals counts the named operations, at most five.
func NewArrivals(operations ...string) *Arrivals {
	return &Arrivals{operations: operations, seed: maphash.MakeSeed(), keys: make(map[uint64]uint64), byReference: make(map[uint64]perReference)}
}

// Arrive counts a call that has just come in. A question about a key counts for the reference that the
// key came for.
func (a *Arrivals) Arrive(operation string, r *http.Request) {
	if key := r.PathValue("key"); key != "" {
		a.countQuestion(operation, key)
		return
	}
	a.count(operation, keyOf(r))
}

// keyOf returns the idempotency key of a call, "" if it has none that could be used.
func keyOf(r *http.Request) string {
	if r.Method != http.MethodPost {
		return ""
	}
	key, _ := Key(r)
	return key
}

func (a *Arrivals) count(operation, key string) {
	i := slices.Index(a.operations, operation)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[i]++
	if key == "" {
		return
	}
	h := maphash.String(a.seed, key)
	reference, seen := a.keys[h]
	if seen {
		a.repeated++
	}
	a.keys[h] = reference
}

// For says what a counted call was for, once that is known.
func (a *Arrivals) For(operation, key, reference string) {
	i, h := slices.Index(a.operations, operation), maphash.String(a.seed, reference)
	a.mu.Lock()
	defer a.mu.Unlock()
	if key != "" {
		a.keys[maphash.String(a.seed, key)] = h
	}
	a.add(i, h)
}

func (a *Arrivals) countQuestion(operation, key string) {
	i := slices.Index(a.operations, operation)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[i]++
	if reference := a.keys[maphash.String(a.seed, key)]; reference != 0 {
		a.add(i, reference)
	}
}

func (a *Arrivals) add(i int, reference uint64) {
	n := a.byReference[reference]
	if n[i] < math.MaxUint16 {
		n[i]++
	}
	a.byReference[reference] = n
}

// ServeHTTP answers GET /arrivals, with ?reference= for those of one order.
func (a *Arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var doc struct {
		Total       int64            `json:"total"`
		ByOperation map[string]int64 `json:"by_operation"`
		Repeated    *int64           `json:"keys_repeated,omitempty"`
	}
	doc.ByOperation = make(map[string]int64, len(a.operations))
	reference := r.URL.Query().Get("reference")
	a.mu.Lock()
	one, repeated := a.byReference[maphash.String(a.seed, reference)], a.repeated
	for i, op := range a.operations {
		n := a.counts[i]
		if reference != "" {
			n = int64(one[i])
		}
		doc.ByOperation[op] = n
		doc.Total += n
	}
	a.mu.Unlock()
	if reference == "" {
		doc.Repeated = &repeated
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // numbers and constant names
	}
	Answer(w, http.StatusOK, b)
}
