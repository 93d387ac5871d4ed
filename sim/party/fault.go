package party

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// maxFaults is how many faults there may be at once.
	maxFaults = 100
	// maxLatency is the longest latency. Servers give up an answer soon after.
	maxLatency = holdLimit
	// maxRetryAfter is the longest wait that a fault may ask for.
	maxRetryAfter = time.Hour
	// allOperations stands for every operation.
	allOperations = "*"
)

// What a fault may lose, or reset the connection in place of.
const (
	loseRequest = "request"
	loseAnswer  = "answer"
)

// span is a duration that is written as Go does: "2s".
type span time.Duration

// MarshalText writes the duration.
func (d span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// fault says what goes wrong, and with which calls.
type fault struct {
	Operation  string  `json:"operation"` // "*": all
	Latency    span    `json:"latency,omitempty"`
	Status     int     `json:"status,omitempty"`
	RetryAfter span    `json:"retry_after,omitempty"` // of 429 and 503, in whole seconds
	Lose       string  `json:"lose,omitempty"`
	Garbage    bool    `json:"garbage,omitempty"`
	Reset      string  `json:"reset,omitempty"`
	Truncate   bool    `json:"truncate,omitempty"`
	Drip       span    `json:"drip,omitempty"`
	Rate       float64 `json:"rate"`
	Count      int64   `json:"count,omitempty"` // of calls that it hits; 0: any number
	After      span    `json:"after,omitempty"` // it begins so long after it was set
	For        span    `json:"for,omitempty"`   // 0: until it is taken away
}

// passes tells whether a call that is hit is done all the same.
func (f *fault) passes() bool {
	return f.Status == 0 && !f.Garbage && f.Lose != loseRequest && f.Reset != loseRequest
}

// ends counts the members that say how a call ends, of which there may be one.
func (f *fault) ends() (n int) {
	for _, set := range []bool{f.Status != 0, f.Lose != "", f.Garbage, f.Reset != "", f.Truncate, f.Drip != 0} {
		if set {
			n++
		}
	}
	return n
}

// parseFaults reads {"seed":1,"faults":[…]}; a seed of 0 is none. A member that it does not know is refused, since a fault that is
// misspelt would let a test pass that should fail.
func parseFaults(b []byte, operations []string) (faults []fault, seed uint64, problem *Problem) {
	var doc map[string]json.RawMessage
	if !into(b, &doc) {
		return nil, 0, badFault("The body must be an object with the member faults.")
	}
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if name != "faults" && name != "seed" {
			return nil, 0, badFault(fmt.Sprintf("%q is not known here; the members are faults and seed.", name))
		}
	}
	if text, ok := doc["seed"]; ok && (!into(text, &seed) || seed == 0) {
		return nil, 0, badFault("seed must be a whole number above 0.")
	}
	var texts []json.RawMessage
	if !into(doc["faults"], &texts) || len(texts) > maxFaults {
		return nil, 0, badFault(fmt.Sprintf("faults must be a list of at most %d faults.", maxFaults))
	}
	faults = make([]fault, len(texts))
	for i, text := range texts {
		var wrong string
		if faults[i], wrong = parseFault(text, operations); wrong != "" {
			return nil, 0, badFault(fmt.Sprintf("faults[%d]%s.", i, wrong))
		}
	}
	return faults, seed, nil
}

func badFault(message string) *Problem {
	return &Problem{http.StatusUnprocessableEntity, "invalid_fault", message}
}

// parseFault reads a fault. What is wrong begins with the member's name.
func parseFault(b []byte, operations []string) (f fault, wrong string) {
	var given map[string]json.RawMessage
	if !into(b, &given) {
		return f, " must be an object"
	}
	f = fault{Operation: allOperations, Rate: 1}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if right := f.set(name, given[name], operations); right != "" {
			return f, "." + name + " " + right
		}
	}
	switch {
	case f.RetryAfter != 0 && f.Status != http.StatusTooManyRequests && f.Status != http.StatusServiceUnavailable:
		return f, ".retry_after goes with status 429 or 503 only"
	case f.ends() > 1:
		return f, " has more than one of status, lose, garbage, reset, truncate and drip; each can have a latency, and none another"
	case f.ends() == 0 && f.Latency == 0:
		return f, " does nothing; it must have latency, status, lose, garbage, reset, truncate or drip"
	}
	return f, ""
}

// set takes up one member. Where its value is wrong it returns what is right.
func (f *fault) set(name string, value []byte, operations []string) (right string) {
	ok := false
	switch name {
	case "operation":
		right = "must be " + strings.Join(operations, ", ") + " or *, which stands for all"
		ok = into(value, &f.Operation)
		if f.Operation == "" {
			f.Operation = allOperations
		}
		ok = ok && (f.Operation == allOperations || slices.Contains(operations, f.Operation))
	case "latency":
		right = `must be a duration above 0 and up to 1m, such as "2s" or "250ms"`
		ok = duration(value, &f.Latency) && time.Duration(f.Latency) <= maxLatency
	case "status":
		right = "must be a whole number from 400 to 599"
		ok = into(value, &f.Status) && f.Status >= 400 && f.Status <= 599
	case "retry_after":
		right = `must be whole seconds from "1s" to "1h"`
		ok = duration(value, &f.RetryAfter) && time.Duration(f.RetryAfter) <= maxRetryAfter && time.Duration(f.RetryAfter)%time.Second == 0
	case "lose":
		right = "must be " + loseRequest + ", so that nothing is done, or " + loseAnswer + ", so that nobody learns what was done"
		ok = into(value, &f.Lose) && (f.Lose == loseRequest || f.Lose == loseAnswer)
	case "garbage":
		right = "must be true or false"
		ok = into(value, &f.Garbage)
	case "reset":
		right = "must be " + loseRequest + ", so that nothing is done, or " + loseAnswer + ", so that nobody learns what was done"
		ok = into(value, &f.Reset) && (f.Reset == loseRequest || f.Reset == loseAnswer)
	case "truncate":
		right = "must be true or false"
		ok = into(value, &f.Truncate)
	case "drip":
		right = `must be a duration above 0 and up to 1m, such as "5s"`
		ok = duration(value, &f.Drip) && time.Duration(f.Drip) <= maxLatency
	case "count":
		right = "must be a whole number above 0"
		ok = into(value, &f.Count) && f.Count > 0
	case "after":
		right = `must be a duration above 0, such as "10s"`
		ok = duration(value, &f.After)
	case "rate":
		right = "must be a number above 0 and up to 1"
		ok = into(value, &f.Rate) && f.Rate > 0 && f.Rate <= 1
	case "for":
		right = `must be a duration above 0, such as "60s"`
		ok = duration(value, &f.For)
	default:
		right = "is not known; a fault has " + strings.Join(members, ", ")
	}
	if ok {
		return ""
	}
	return right
}

// members are those of a fault.
var members = []string{"operation", "latency", "status", "retry_after", "lose", "garbage", "reset", "truncate", "drip", "rate", "count", "after", "for"}

// into decodes a value that must be there.
func into(value []byte, v any) bool {
	return string(value) != "null" && json.Unmarshal(value, v) == nil
}

// duration decodes a positive duration.
func duration(value []byte, d *span) bool {
	var text string
	if !into(value, &text) {
		return false
	}
	parsed, err := time.ParseDuration(text)
	*d = span(parsed)
	return err == nil && parsed > 0
}
